"""The Open Inference Protocol by NVIDIA's own client, unmodified, against a real server; and by hand what it never
sends."""

from __future__ import annotations

import base64
import gzip
import http.client
import io
import threading
import time
import zlib
from collections.abc import Iterator
from typing import Any

import numpy as np
import orjson
import pytest
import uvicorn
from oip_models import load_with_fakes
from PIL import Image
from tritonclient.http import InferenceServerClient, InferInput, InferRequestedOutput, InferResult
from tritonclient.utils import InferenceServerException

from service.app import create_app
from service.settings import Settings

DETECTOR, SEGMENTER, CLASSIFIER, EMBEDDER = "person-lite0", "street-fcn8s", "tf_efficientnet_lite0", "reid-lite"
MAX_BODY = 4 << 20


class RunningServer(uvicorn.Server):
    """A server in a thread, on a free port."""

    def install_signal_handlers(self) -> None:
        """Signals belong to the test run."""

    def capture_signals(self) -> Any:  # uvicorn's context manager for the same
        import contextlib

        return contextlib.nullcontext()

    @property
    def port(self) -> int:
        return int(self.servers[0].sockets[0].getsockname()[1])


@pytest.fixture(scope="module")
def port(tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    settings = Settings(
        _env_file=None,
        detector=DETECTOR,
        segmenter=SEGMENTER,
        classifier=CLASSIFIER,
        embedder=EMBEDDER,
        engine="torch",
        device="cpu",
        threads=1,
        max_body_bytes=MAX_BODY,
        max_pixels=1_000_000,
        data_dir=tmp_path_factory.mktemp("service"),
        log_format="text",
    )
    app = create_app(settings, load=load_with_fakes, background=False)
    server = RunningServer(uvicorn.Config(app, host="127.0.0.1", port=0, log_config=None))
    thread = threading.Thread(target=server.run)
    thread.start()
    while not server.started and thread.is_alive():
        time.sleep(0.01)
    yield server.port
    server.should_exit = True
    thread.join()


@pytest.fixture
def client(port: int) -> Iterator[InferenceServerClient]:
    with InferenceServerClient(f"127.0.0.1:{port}") as made:
        yield made


def picture(width: int = 96, height: int = 64, seed: int = 0) -> np.ndarray:
    """Return a smooth random picture, uint8 [H, W, 3]."""
    small = np.random.default_rng(seed).integers(0, 256, (6, 8, 3), np.uint8)
    return np.asarray(Image.fromarray(small).resize((width, height), Image.Resampling.BICUBIC))


def encoded(image: np.ndarray, form: str = "PNG") -> bytes:
    out = io.BytesIO()
    Image.fromarray(image).save(out, form)
    return out.getvalue()


def image_input(files: list[bytes], *, column: bool = False) -> InferInput:
    array = np.array([[file] for file in files] if column else files, np.object_)
    return InferInput("image", list(array.shape), "BYTES").set_data_from_numpy(array)


def pixels_input(array: np.ndarray, *, binary: bool = True) -> InferInput:
    return InferInput("pixels", list(array.shape), "UINT8").set_data_from_numpy(array, binary_data=binary)


def post(
    port: int, path: str, body: bytes, headers: dict[str, str] | None = None, method: str = "POST"
) -> tuple[int, dict[str, str], bytes]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
    try:
        connection.request(method, path, body, headers or {})
        answer = connection.getresponse()
        return answer.status, {key.lower(): value for key, value in answer.getheaders()}, answer.read()
    finally:
        connection.close()


def infer_json(port: int, model: str, content: dict[str, Any], headers: dict[str, str] | None = None) -> Any:
    status, _, body = post(port, f"/v2/models/{model}/infer", orjson.dumps(content), headers)
    assert status == 200, body
    return orjson.loads(body)


def test_the_server_tells_of_itself(client: InferenceServerClient) -> None:
    assert client.is_server_live()
    assert client.is_server_ready()
    assert client.is_model_ready(DETECTOR)
    assert client.is_model_ready(DETECTOR, "1")
    assert not client.is_model_ready(DETECTOR, "2")
    assert not client.is_model_ready("nobody")
    server = client.get_server_metadata()
    assert server["name"] == "stride32"
    assert {"binary_tensor_data", "classification", "model_repository", "statistics"} <= set(server["extensions"])


@pytest.mark.parametrize("model", [DETECTOR, SEGMENTER, CLASSIFIER, EMBEDDER])
def test_models_tell_what_they_take(client: InferenceServerClient, model: str) -> None:
    metadata, config = client.get_model_metadata(model, "1"), client.get_model_config(model)
    assert metadata["name"] == config["name"] == model
    assert metadata["versions"] == ["1"]
    assert [row["name"] for row in metadata["inputs"]][:2] == ["image", "pixels"]
    assert len(config["output"]) == len(metadata["outputs"])
    answer = client.infer(model, [image_input([encoded(picture())])])
    for row in metadata["outputs"]:
        found = answer.get_output(row["name"])
        assert found["datatype"] == row["datatype"]
        assert all(want in (-1, have) for want, have in zip(row["shape"], found["shape"], strict=True))


@pytest.mark.parametrize("column", [False, True])
def test_detections_are_those_of_v1_bit_for_bit(port: int, client: InferenceServerClient, column: bool) -> None:
    files = [encoded(picture(seed=seed), form) for seed, form in ((1, "JPEG"), (2, "PNG"), (3, "WEBP"))]
    options = {"conf": 0.05, "max_det": 20, "iou": 0.6}
    answer = client.infer(DETECTOR, [image_input(files, column=column)], parameters=options)
    counts = answer.as_numpy("num_detections").tolist()
    assert sum(counts) > 0
    query = "&".join(f"{name}={value}" for name, value in options.items())
    for row, file in enumerate(files):
        status, _, body = post(port, f"/v1/detect?model={DETECTOR}&{query}", file)
        assert status == 200
        expected = orjson.loads(body)["detections"]
        assert counts[row] == len(expected)
        boxes = np.array([found["box"] for found in expected], np.float32).reshape(-1, 4)
        np.testing.assert_array_equal(answer.as_numpy("boxes")[row, : counts[row]], boxes)
        scores = np.array([found["score"] for found in expected], np.float32)
        np.testing.assert_array_equal(answer.as_numpy("scores")[row, : counts[row]], scores)
        assert answer.as_numpy("labels")[row].tolist() == [0] * counts[row] + [-1] * (max(counts) - counts[row])
    assert answer.as_numpy("class_names").tolist() == [b"person"]


def test_raw_pixels_give_what_the_file_gives(client: InferenceServerClient) -> None:
    images = np.stack([picture(seed=1), picture(seed=2)])
    options = {"conf": 0.05}
    files = client.infer(DETECTOR, [image_input([encoded(image) for image in images])], parameters=options)
    assert files.as_numpy("boxes").size
    batch = client.infer(DETECTOR, [pixels_input(images)], parameters=options)
    np.testing.assert_array_equal(batch.as_numpy("boxes"), files.as_numpy("boxes"))
    text = client.infer(DETECTOR, [pixels_input(images, binary=False)], parameters=options)
    np.testing.assert_array_equal(text.as_numpy("boxes"), files.as_numpy("boxes"))
    single = client.infer(DETECTOR, [pixels_input(images[0])], parameters=options)
    count = single.as_numpy("num_detections")[0]
    np.testing.assert_array_equal(single.as_numpy("boxes")[0], files.as_numpy("boxes")[0, :count])


def test_outputs_named_are_given_in_the_form_asked_for(client: InferenceServerClient) -> None:
    outputs = [InferRequestedOutput("scores", binary_data=False), InferRequestedOutput("boxes", binary_data=True)]
    answer = client.infer(
        DETECTOR, [image_input([encoded(picture())])], outputs=outputs, request_id="id-7", parameters={"conf": 0.05}
    )
    content = answer.get_response()
    assert [row["name"] for row in content["outputs"]] == ["scores", "boxes"]
    assert "data" in content["outputs"][0]
    assert "binary_data_size" in content["outputs"][1]["parameters"]
    assert (content["id"], content["model_name"], content["model_version"]) == ("id-7", DETECTOR, "1")
    assert answer.as_numpy("labels") is None


def test_nothing_found_is_an_empty_tensor(client: InferenceServerClient) -> None:
    for binary in (True, False):
        outputs = [InferRequestedOutput(name, binary_data=binary) for name in ("boxes", "num_detections")]
        answer = client.infer(DETECTOR, [image_input([encoded(picture())])], outputs=outputs, parameters={"conf": 1.0})
        assert answer.as_numpy("boxes").shape == (1, 0, 4)
        assert answer.as_numpy("num_detections").tolist() == [0]


@pytest.mark.parametrize("coding", ["gzip", "deflate"])
def test_bodies_are_compressed_both_ways(client: InferenceServerClient, coding: str) -> None:
    image = picture(320, 240)
    plain = client.infer(SEGMENTER, [pixels_input(image)])
    packed = client.infer(
        SEGMENTER, [pixels_input(image)], request_compression_algorithm=coding, response_compression_algorithm=coding
    )
    np.testing.assert_array_equal(packed.as_numpy("labels"), plain.as_numpy("labels"))


def test_answers_say_how_they_are_compressed(port: int) -> None:
    image = picture(320, 240)
    body, length = InferenceServerClient.generate_request_body([pixels_input(image)])
    headers = {"Inference-Header-Content-Length": str(length), "Accept-Encoding": "gzip"}
    status, sent, answer = post(port, f"/v2/models/{SEGMENTER}/infer", body, headers)
    assert (status, sent["content-encoding"], sent["content-type"]) == (200, "gzip", "application/octet-stream")
    result = InferResult.from_response_body(
        answer, header_length=int(sent["inference-header-content-length"]), content_encoding="gzip"
    )
    np.testing.assert_array_equal(result.as_numpy("labels")[0], image[..., 0] > 127)


def test_label_maps(client: InferenceServerClient) -> None:
    images = [picture(seed=4), picture(seed=5)]
    answer = client.infer(SEGMENTER, [image_input([encoded(image) for image in images])])
    labels = answer.as_numpy("labels")
    assert labels.dtype == np.uint8
    np.testing.assert_array_equal(labels, np.stack([image[..., 0] > 127 for image in images]))
    assert answer.as_numpy("class_names").tolist() == [b"other", b"red"]
    with pytest.raises(InferenceServerException, match="one size"):
        client.infer(SEGMENTER, [image_input([encoded(picture(96, 64)), encoded(picture(64, 96))])])


def test_classes_and_the_classification_extension(client: InferenceServerClient) -> None:
    image = np.full((8, 8, 3), (51, 204, 102), np.uint8)
    answer = client.infer(CLASSIFIER, [pixels_input(image)])
    np.testing.assert_allclose(answer.as_numpy("scores"), [[0.2, 0.8, 0.4]], rtol=1e-6)
    assert answer.as_numpy("class_names").tolist() == [b"red", b"green", b"blue"]
    best = [InferRequestedOutput("scores", class_count=2)]
    answer = client.infer(CLASSIFIER, [pixels_input(image)], outputs=best)
    assert answer.as_numpy("scores").tolist() == [[b"0.800000:1:green", b"0.400000:2:blue"]]


def test_embeddings_of_pictures_and_of_boxes(client: InferenceServerClient) -> None:
    images = [picture(seed=6), picture(64, 32, seed=7)]
    answer = client.infer(EMBEDDER, [image_input([encoded(image) for image in images])])
    assert answer.as_numpy("embeddings").tolist() == [
        [96.0, 64.0, *images[0][0, 0]],
        [64.0, 32.0, *images[1][0, 0]],
    ]
    boxes = np.array([[1, 2, 11, 22], [0, 0, 5, 5], [3, 3, 4, 4]], np.float32)
    regions = InferInput("boxes", [3, 4], "FP32").set_data_from_numpy(boxes)
    answer = client.infer(EMBEDDER, [image_input([encoded(images[0])]), regions])
    assert answer.as_numpy("embeddings")[:, :2].tolist() == [[10, 20], [5, 5], [1, 1]]


def test_async_requests_get_their_own_answers(port: int) -> None:
    images = [np.full((8, 8, 3), value, np.uint8) for value in range(10, 250, 15)]
    with InferenceServerClient(f"127.0.0.1:{port}", concurrency=4) as client:
        waiting = [
            client.async_infer(CLASSIFIER, [pixels_input(image)], request_id=str(index))
            for index, image in enumerate(images)
        ]
        for index, (request, image) in enumerate(zip(waiting, images, strict=True)):
            answer = request.get_result()
            assert answer.get_response()["id"] == str(index)
            np.testing.assert_allclose(answer.as_numpy("scores")[0], image[0, 0] / 255, rtol=1e-6)


def test_the_repository(client: InferenceServerClient, port: int) -> None:
    index = {row["name"]: row for row in client.get_model_repository_index()}
    assert index[DETECTOR] == {"name": DETECTOR, "version": "1", "state": "READY", "reason": ""}
    assert index["street-fcn8s"]["state"] == "READY"
    client.unload_model(EMBEDDER)
    assert not client.is_model_ready(EMBEDDER)
    index = {row["name"]: row for row in client.get_model_repository_index()}
    assert index[EMBEDDER]["state"] == "UNAVAILABLE"
    assert index[EMBEDDER]["reason"]
    with pytest.raises(InferenceServerException, match="must be loaded") as caught:
        client.infer(EMBEDDER, [image_input([encoded(picture())])])
    assert caught.value.status() == "503"
    client.load_model(EMBEDDER)
    assert client.is_model_ready(EMBEDDER)
    client.load_model(EMBEDDER)
    _, _, body = post(port, "/v2/repository/index", b'{"ready": true}')
    ready = {row["name"] for row in orjson.loads(body)}
    assert {DETECTOR, EMBEDDER} <= ready
    assert "person-window" not in ready
    with pytest.raises(InferenceServerException, match="as it is on the server"):
        client.load_model(EMBEDDER, config="{}")
    with pytest.raises(InferenceServerException, match="did you mean"):
        client.load_model("person-lite")


def test_statistics_count_pictures_and_failures(client: InferenceServerClient) -> None:
    before = client.get_inference_statistics(SEGMENTER)["model_stats"][0]
    client.infer(SEGMENTER, [image_input([encoded(picture())] * 3)])
    with pytest.raises(InferenceServerException):
        client.infer(SEGMENTER, [image_input([b"no picture"])])
    after = client.get_inference_statistics(SEGMENTER, "1")["model_stats"][0]
    assert after["inference_count"] - before["inference_count"] == 3
    assert 1 <= after["execution_count"] - before["execution_count"] <= 3
    for key, count in (("success", 1), ("fail", 1), ("queue", 3), ("compute_input", 3), ("compute_infer", 3)):
        assert after["inference_stats"][key]["count"] - before["inference_stats"][key]["count"] == count
        assert after["inference_stats"][key]["ns"] > 0
    everything = client.get_inference_statistics()["model_stats"]
    assert {DETECTOR, SEGMENTER, CLASSIFIER} <= {row["name"] for row in everything}


def test_what_is_not_offered_is_said(client: InferenceServerClient, port: int) -> None:
    for call in (
        lambda: client.register_system_shared_memory("region", "/key", 64),
        lambda: client.get_system_shared_memory_status(),
        lambda: client.unregister_system_shared_memory(),
        lambda: client.get_cuda_shared_memory_status(),
        lambda: client.unregister_cuda_shared_memory("region"),
        lambda: client.get_trace_settings(),
        lambda: client.update_log_settings({"log_verbose_level": 1}),
    ):
        with pytest.raises(InferenceServerException) as caught:
            call()
        assert caught.value.status() == "501"
        assert "must" in caught.value.message() or "settings" in caught.value.message()
    shared = InferInput("image", [1], "BYTES")
    shared.set_shared_memory("region", 64)
    with pytest.raises(InferenceServerException, match="shared memory"):
        client.infer(DETECTOR, [shared])
    for path in ("/v2/nothing", "/v2/models", f"/v2/models/{DETECTOR}/nothing"):
        status, _, body = post(port, path, b"", method="GET")
        assert status == 404
        assert set(orjson.loads(body)) == {"error"}
    status, _, body = post(port, f"/v2/models/{DETECTOR}/infer", b"", method="GET")
    assert (status, set(orjson.loads(body))) == (405, {"error"})


def test_plain_json_by_hand(port: int) -> None:
    image = picture(seed=1)
    content = {
        "id": "by-hand",
        "parameters": {"conf": 0.05, "max_det": 2, "classes": ["person"]},
        "inputs": [{"name": "image", "shape": [1], "datatype": "BYTES", "data": [as_text(image)]}],
        "outputs": [{"name": "boxes"}, {"name": "num_detections"}],
    }
    answer = infer_json(port, DETECTOR, content)
    assert answer["id"] == "by-hand"
    boxes, count = answer["outputs"]
    assert (boxes["shape"], len(boxes["data"])) == ([1, 2, 4], 8)
    assert count["data"] == [2]
    nested = {"inputs": [{"name": "pixels", "shape": [64, 96, 3], "datatype": "UINT8", "data": image.tolist()}]}
    packed = gzip.compress(orjson.dumps(nested | {"parameters": content["parameters"]}))
    status, _, body = post(port, f"/v2/models/{DETECTOR}/infer", packed, {"Content-Encoding": "gzip"})
    assert status == 200
    assert orjson.loads(body)["outputs"][0]["data"] == boxes["data"]


def good_binary() -> tuple[bytes, int]:
    return InferenceServerClient.generate_request_body([image_input([encoded(picture())])])


def lying(**headers: str) -> tuple[bytes, dict[str, str]]:
    body, length = good_binary()
    return body, {"Inference-Header-Content-Length": str(length)} | {k.replace("_", "-"): v for k, v in headers.items()}


def single(name: str = "image", shape: Any = (1,), datatype: str = "BYTES", data: Any = ("AAAA",)) -> dict[str, Any]:
    return {"inputs": [{"name": name, "shape": list(shape), "datatype": datatype, "data": list(data)}]}


def as_text(image: np.ndarray) -> str:
    return base64.b64encode(encoded(image)).decode()


def too_many_pixels() -> tuple[bytes, dict[str, str], int]:
    body, length = InferenceServerClient.generate_request_body([pixels_input(np.zeros((1001, 1000, 3), np.uint8))])
    headers = {"Content-Encoding": "gzip", "Inference-Header-Content-Length": str(length)}
    return gzip.compress(body), headers, 413


HOSTILE: dict[str, tuple[bytes, dict[str, str], int]] = {
    "empty": (b"", {}, 400),
    "no json": (b"\x00\xff\x00", {}, 400),
    "header length negative": (*lying(Inference_Header_Content_Length="-1"), 400),
    "header length beyond": (*lying(Inference_Header_Content_Length="99999999"), 400),
    "header length no number": (*lying(Inference_Header_Content_Length="abc"), 400),
    "header length short": (*lying(Inference_Header_Content_Length="10"), 400),
    "binary without header": (good_binary()[0], {}, 400),
    "trailing bytes": (good_binary()[0] + b"x", lying()[1], 400),
    "cut": (good_binary()[0][:-1], lying()[1], 400),
    "nan": (b'{"inputs":[{"name":"pixels","shape":[1,1,3],"datatype":"FP32","data":[NaN,1,2]}]}', {}, 400),
    "deep": (b'{"inputs":' + b"[" * 100_000, {}, 400),
    "no picture": (orjson.dumps(single()), {}, 422),
    "empty picture": (orjson.dumps(single(data=[""])), {}, 422),
    "no base64": (orjson.dumps(single(data=["?"])), {}, 400),
    "no pictures": (orjson.dumps(single(shape=[0], data=[])), {}, 400),
    "zero pixels": (orjson.dumps(single("pixels", [0, 4, 3], "UINT8", [])), {}, 400),
    "wrong datatype": (orjson.dumps(single("pixels", [1, 1, 3], "INT32", [1, 2, 3])), {}, 400),
    "wrong input": (orjson.dumps(single("picture")), {}, 400),
    "wrong output": (orjson.dumps(single() | {"outputs": [{"name": "mask"}]}), {}, 400),
    "wrong parameter": (orjson.dumps(single() | {"parameters": {"confidence": 1}}), {}, 400),
    "unknown class": (orjson.dumps(single("pixels", [1, 1, 3], "UINT8", [1, 2, 3])
                                   | {"parameters": {"classes": "unicorn"}}), {}, 422),
    "sequence": (orjson.dumps(single() | {"parameters": {"sequence_id": 1}}), {}, 400),
    "too many pictures": (orjson.dumps(single(shape=[65], data=["AAAA"] * 65)), {}, 400),
    "too many pixels": too_many_pixels(),
    "header bomb": (orjson.dumps(single(data=[as_text(np.zeros((1100, 1000, 3), np.uint8))])), {}, 413),
    "inflates too far": (zlib.compress(bytes(MAX_BODY + 1)), {"Content-Encoding": "deflate"}, 413),
    "no gzip": (b"{}", {"Content-Encoding": "gzip"}, 400),
    "brotli": (b"{}", {"Content-Encoding": "br"}, 415),
    "too large": (bytes(MAX_BODY + 1), {}, 413),
}  # fmt: skip


@pytest.mark.parametrize("case", HOSTILE)
def test_hostile_requests_get_an_error_and_the_server_lives(port: int, case: str) -> None:
    body, headers, expected = HOSTILE[case]
    status, sent, answer = post(port, f"/v2/models/{DETECTOR}/infer", body, headers)
    assert status == expected, answer
    content = orjson.loads(answer)
    assert list(content) == ["error"]
    assert len(content["error"]) < 700
    assert "Traceback" not in content["error"]
    assert "/work" not in content["error"]
    assert sent["x-request-id"]
    assert post(port, "/v2/health/live", b"", method="GET")[0] == 200


def test_one_bad_picture_is_named(client: InferenceServerClient) -> None:
    with pytest.raises(InferenceServerException, match="picture 1 of 3") as caught:
        client.infer(DETECTOR, [image_input([encoded(picture()), b"no picture", encoded(picture())])])
    assert caught.value.status() == "422"


def test_a_model_that_fails_tells_no_secrets(client: InferenceServerClient) -> None:
    red = np.full((4, 4, 3), (255, 0, 0), np.uint8)
    with pytest.raises(InferenceServerException) as caught:
        client.infer(CLASSIFIER, [pixels_input(red)])
    assert caught.value.status() == "500"
    assert "secret" not in caught.value.message()
    client.infer(CLASSIFIER, [pixels_input(picture())])


def test_a_deadline_that_has_passed(client: InferenceServerClient) -> None:
    with pytest.raises(InferenceServerException) as caught:
        client.infer(DETECTOR, [image_input([encoded(picture())])], timeout=1)
    assert caught.value.status() == "504"


def test_the_description_has_examples_that_are_true(port: int) -> None:
    _, _, body = post(port, "/openapi.json", b"", method="GET")
    paths = orjson.loads(body)["paths"]
    operation = paths["/v2/models/{model}/infer"]["post"]
    example = operation["requestBody"]["content"]["application/json"]["example"]
    answer = infer_json(port, DETECTOR, example)
    assert set(answer) == set(operation["responses"]["200"]["content"]["application/json"]["example"])
    for path in ("/v2", "/v2/health/live", "/v2/health/ready", "/v2/models/stats"):
        _, _, got = post(port, path, b"", method="GET")
        shown = paths[path]["get"]["responses"]["200"]["content"]["application/json"]["example"]
        assert set(orjson.loads(got)) == set(shown)
    for suffix in ("", "/config"):
        _, _, got = post(port, f"/v2/models/{DETECTOR}{suffix}", b"", method="GET")
        shown = paths[f"/v2/models/{{model}}{suffix}"]["get"]["responses"]["200"]["content"]["application/json"]
        assert orjson.loads(got) == shown["example"]
