"""What surrounds the Open Inference Protocol: keys, a start, an end, a full queue, clients that leave."""

from __future__ import annotations

import asyncio
import base64
import io
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import pytest
from fastapi import FastAPI
from oip_models import ColourClassifier, CornerEmbedder, load_with_fakes
from PIL import Image
from starlette.testclient import TestClient

from service.app import create_app
from service.errors import UnavailableError
from service.inference import Answer
from service.models import FrameInput, ServedModel
from service.oip.limits import OipLimits
from service.oip.schema import ModelSchema
from service.oip.server import schema_of_answers
from service.registry import Loader
from service.settings import Settings
from service.state import Service
from vision.runtime.config import RuntimeConfig
from vision.types import Classification

MODEL = "reid-lite"
INFER = f"/v2/models/{MODEL}/infer"
USER, ADMIN = "user-key-0123456789", "admin-key-0123456789"


def make_app(folder: Path, load: Loader = load_with_fakes, **changes: Any) -> FastAPI:
    """Return an app with one model without a network."""
    none = dict.fromkeys(("detector", "segmenter", "classifier"), "none")
    models = {**none, "embedder": MODEL, "device": "cpu", "jobs_workers": 0, "parallel": 1}
    settings = Settings(_env_file=None, data_dir=folder, log_format="text", **{**models, **changes})
    return create_app(settings, load=load, background=False)


def body(pictures: int = 1) -> bytes:
    """Return a request with small raw pictures, each of its own colour."""
    pixels = np.repeat(np.arange(pictures, dtype=np.uint8), 2 * 2 * 3)
    tensor = {"name": "pixels", "shape": [pictures, 2, 2, 3], "datatype": "UINT8", "data": pixels.tolist()}
    return orjson.dumps({"inputs": [tensor]})


def service_of(app: FastAPI) -> Service:
    service: Service = app.state.service
    return service


@pytest.fixture
def client(tmp_path: Path) -> Iterator[TestClient]:
    with TestClient(make_app(tmp_path)) as made:
        yield made


def test_models_change_with_an_admin_key_only(tmp_path: Path) -> None:
    app = make_app(tmp_path, api_keys=[USER], admin_keys=[ADMIN])
    with TestClient(app) as client:
        path = f"/v2/repository/models/{MODEL}/load"
        assert client.get("/v2/health/ready").status_code == 200
        for headers, status in (({}, 401), ({"X-API-Key": USER}, 403), ({"Authorization": f"Bearer {ADMIN}"}, 200)):
            answer = client.post(path, headers=headers)
            assert answer.status_code == status
            assert set(answer.json()) == (set() if status == 200 else {"error"})
            assert client.get("/v2", headers=headers).status_code == (401 if status == 401 else 200)
        assert client.post(INFER, content=body()).status_code == 401
        assert client.post(INFER, content=body(), headers={"X-API-Key": USER}).status_code == 200


def test_a_server_that_has_not_started_or_goes_down_is_not_ready(tmp_path: Path, client: TestClient) -> None:
    fresh = TestClient(make_app(tmp_path))  # not entered: nothing is loaded
    assert fresh.get("/v2/health/live").status_code == 200
    assert (fresh.get("/v2/health/ready").status_code, fresh.get("/v2/health/ready").json()) == (503, {"ready": False})
    assert fresh.get(f"/v2/models/{MODEL}").status_code == 503
    service_of(client.app).begin_draining()  # type: ignore[arg-type]
    assert client.get("/v2/health/ready").status_code == 503
    answer = client.post(INFER, content=body())
    assert (answer.status_code, set(answer.json())) == (503, {"error"})
    assert answer.headers["retry-after"]


def test_a_full_queue_is_said_at_once_and_all_places_come_back(client: TestClient) -> None:
    admission = service_of(client.app).admission  # type: ignore[arg-type]
    admission.items = admission.max_items
    answer = client.post(INFER, content=body())
    assert (answer.status_code, set(answer.json())) == (429, {"error"})
    assert answer.headers["retry-after"]
    admission.items = 0
    assert client.post(INFER, content=body(3)).status_code == 200
    for bad in (b"{", body(65), orjson.dumps({"inputs": []})):
        assert client.post(INFER, content=bad).status_code == 400
    assert (admission.items, admission.bytes) == (0, 0)


def test_unknown_keys_of_repository_requests_are_errors(client: TestClient) -> None:
    for path, content in (
        ("/v2/repository/index", {"ready": "yes"}),
        ("/v2/repository/index", {"redy": True}),
        (f"/v2/repository/models/{MODEL}/load", {"parameters": {"config": "{}"}}),
        (f"/v2/repository/models/{MODEL}/load", {"parameter": {}}),
        (f"/v2/repository/models/{MODEL}/unload", {"parameters": {"now": True}}),
    ):
        answer = client.post(path, content=orjson.dumps(content))
        assert (answer.status_code, set(answer.json())) == (400, {"error"})
    assert client.post("/v2/repository/index").json()[0]["version"] == "1"


def encoded(width: int, height: int) -> str:
    """Return a picture of one colour as base64."""
    out = io.BytesIO()
    Image.new("RGB", (width, height), (255, 0, 0)).save(out, "PNG")
    return base64.b64encode(out.getvalue()).decode()


def segmenting(pictures: list[str], *, binary: bool) -> bytes:
    tensor = {"name": "image", "shape": [len(pictures)], "datatype": "BYTES", "data": pictures}
    outputs = [{"name": "labels", "parameters": {"binary_data": binary}}]
    return orjson.dumps({"inputs": [tensor], "outputs": outputs})


def test_pictures_and_maps_of_one_request_are_bounded_together(tmp_path: Path) -> None:
    app = make_app(tmp_path, segmenter="street-fcn8s", queue_bytes=1 << 20)
    path = "/v2/models/street-fcn8s/infer"
    admission = service_of(app).admission
    with TestClient(app) as client:
        # 100,000 pixels are 300 kB of RGB, and 400 kB while their labels are made and written.
        few, large = encoded(400, 250), encoded(1000, 1000)
        for binary in (True, False):
            assert client.post(path, content=segmenting([few], binary=binary)).status_code == 200
            # A picture alone may be larger than the queue.
            assert client.post(path, content=segmenting([large], binary=binary)).status_code == 200
            refused = client.post(path, content=segmenting([few] * 64, binary=binary))
            assert refused.status_code == 413
            assert "spread them over requests" in refused.json()["error"]
        app.state.oip.limits = OipLimits(max_json_labels=200_000)
        assert client.post(path, content=segmenting([large], binary=True)).status_code == 200
        assert client.post(path, content=segmenting([few], binary=False)).status_code == 200
        refused = client.post(path, content=segmenting([large], binary=False))
        assert (refused.status_code, "binary_data" in refused.json()["error"]) == (413, True)
    assert (admission.items, admission.bytes) == (0, 0)


class SwappedClassifier(ColourClassifier):
    """Has one more class when it answers than when it was asked."""

    def run(self, inputs: Sequence[FrameInput]) -> Sequence[Any]:
        self.class_names = ("violet", "red", "green", "blue")
        return [Classification(np.array([3, 0]), np.array([0.75, 0.25], np.float32), ("blue", "violet"), 1)] * len(
            inputs
        )


def test_an_answer_is_described_by_the_model_that_gave_it(tmp_path: Path) -> None:
    model = SwappedClassifier()
    app = make_app(tmp_path, lambda kind, name, runtime: model, embedder="none", classifier="tf_efficientnet_lite0")
    with TestClient(app) as client:
        answer = client.post("/v2/models/tf_efficientnet_lite0/infer", content=body(2)).json()
    outputs = {row["name"]: row["data"] for row in answer["outputs"]}
    assert outputs == {"scores": [0.25, 0, 0, 0.75] * 2, "class_names": ["violet", "red", "green", "blue"]}


def test_answers_of_two_models_are_not_one_answer() -> None:
    def answer(names: tuple[str, ...], width: int) -> Answer:
        return Answer(np.zeros((1, width)), (2, 2), None, {}, class_names=names)

    schema = ModelSchema("m", "embed")
    assert schema_of_answers(schema, [answer(("a",), 3)] * 2).class_names == ("a",)
    for other in (answer(("b",), 3), answer(("a",), 4)):
        with pytest.raises(UnavailableError, match="again"):
            schema_of_answers(schema, [answer(("a",), 3), other])


class WaitingEmbedder(CornerEmbedder):
    """Begins its first picture, and waits until the test lets it go on."""

    max_batch = 1

    def __init__(self) -> None:
        self.begun, self.go_on = threading.Event(), threading.Event()
        self.ran = 0

    def run(self, inputs: Sequence[FrameInput]) -> Sequence[Any]:
        self.begun.set()
        assert self.go_on.wait(20)
        self.ran += 1
        return super().run(inputs)


@pytest.mark.parametrize("pictures", [1, 5])
def test_a_client_that_leaves_drops_what_still_waits(tmp_path: Path, pictures: int) -> None:
    model = WaitingEmbedder()

    def load(kind: str, name: str, runtime: RuntimeConfig) -> ServedModel:
        return model

    app = make_app(tmp_path, load, max_batch=1)
    sent: list[Any] = []

    async def leave_after_the_body() -> None:
        messages = iter([{"type": "http.request", "body": body(pictures), "more_body": False}])

        async def receive() -> Any:
            if (message := next(messages, None)) is not None:
                return message
            await asyncio.to_thread(model.begun.wait, 20)
            return {"type": "http.disconnect"}

        async def send(message: Any) -> None:
            sent.append(message)

        scope = {
            "type": "http", "asgi": {"version": "3.0"}, "http_version": "1.1", "method": "POST", "path": INFER,
            "raw_path": INFER.encode(), "root_path": "", "scheme": "http", "query_string": b"",
            "headers": [(b"host", b"test")], "client": ("127.0.0.1", 1), "server": ("test", 80),
        }  # fmt: skip
        async with app.router.lifespan_context(app):
            await asyncio.wait_for(app(scope, receive, send), 10)
            assert (service_of(app).admission.items, service_of(app).admission.bytes) == (0, 0)
            model.go_on.set()

    asyncio.run(leave_after_the_body())
    # The picture that had begun ran to its end, and no other did.
    assert model.ran == 1
    assert not any(message.get("status") == 200 for message in sent)
