"""Pictures through the service with the default models: the numbers of the command line bit for bit, every form of
question and answer, and every error that a picture can give."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fake_models import CLASSIFIER, DETECTOR, EMBEDDER, SEGMENTER, fake_settings
from PIL import Image
from starlette.testclient import TestClient

from service.app import create_app
from service.auth import ANONYMOUS
from vision.cli.main import main
from vision.geometry.rle import decode_label_map

DOCS = Path(__file__).parents[2] / "docs" / "images"
ROUTES = ("/v1/detect", "/v1/segment", "/v1/classify", "/v1/embed")
SIZES = {"street.jpg": (320, 240), "upright.jpg": (200, 304), "grey.png": (160, 120)}  # width, height as it is seen


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with a JPEG, a JPEG that EXIF turns, and a grey PNG of a street."""
    folder = tmp_path_factory.mktemp("pictures")
    street = Image.open(DOCS / "analytics.jpg").convert("RGB").crop((0, 0, 900, 640))
    street.resize((320, 240)).save(folder / "street.jpg", quality=92)
    exif = Image.Exif()
    exif[0x0112] = 6
    street.resize((304, 200)).save(folder / "upright.jpg", quality=92, exif=exif)
    street.resize((160, 120)).convert("L").save(folder / "grey.png")
    return folder


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TestClient]:
    app = create_app(fake_settings(tmp_path_factory.mktemp("data"), max_pixels=400_000), background=False)
    with TestClient(app) as made:
        assert made.get("/readyz").json()["status"] == "ready"
        yield made


def command(*words: object) -> None:
    """Run ``stride32`` in this process."""
    with pytest.raises(SystemExit) as done:
        main([str(word) for word in words])
    assert not done.value.code


def rows_of(path: Path) -> dict[str, dict[str, Any]]:
    """Return picture's name -> the row of the command line's JSON lines."""
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    return {Path(row["source"]).name: row for row in lines if "frame_index" in row}


def ask(client: TestClient, picture: Path, route: str, **options: Any) -> dict[str, Any]:
    response = client.post(route, content=picture.read_bytes(), **options)
    assert response.status_code == 200, response.text
    answer: dict[str, Any] = response.json()
    return answer


# -- the numbers of the command line


@pytest.mark.parametrize(
    ("flags", "query"),
    [
        ([], ""),
        (
            ["--conf", "0.1", "--iou", "0.3", "--max-det", "4", "--agnostic-nms", "--set", "detection.long_side=256"],
            "?conf=0.1&iou=0.3&max_det=4&class_agnostic=true&size=256&classes=person",
        ),
    ],
    ids=["defaults", "options"],
)
def test_detections_are_those_of_the_command_line(
    client: TestClient, pictures: Path, tmp_path: Path, flags: list[str], query: str
) -> None:
    command("detect", pictures, "--jsonl", tmp_path / "rows.jsonl", "--device", "cpu", *flags)
    rows, found = rows_of(tmp_path / "rows.jsonl"), 0
    assert sorted(rows) == sorted(SIZES)
    for name, row in rows.items():
        answer = ask(client, pictures / name, f"/v1/detect{query}")
        assert (answer["image"]["width"], answer["image"]["height"]) == SIZES[name]
        for key, many in (("box", "boxes"), ("score", "scores"), ("label", "labels")):
            assert [each[key] for each in answer["detections"]] == row["detections"][many]
        found += len(answer["detections"])
    assert found > 2


def test_detector_without_thresholds_a_frame_is_that_of_the_command_line(
    client: TestClient, pictures: Path, tmp_path: Path
) -> None:
    flags = ["--model", "person-window", "--conf", "0.3", "--max-det", "3"]
    command("detect", pictures / "street.jpg", "--jsonl", tmp_path / "rows.jsonl", "--device", "cpu", *flags)
    row = rows_of(tmp_path / "rows.jsonl")["street.jpg"]["detections"]
    assert client.post("/v1/models/person-window/load").status_code == 200
    try:
        found = ask(client, pictures / "street.jpg", "/v1/detect?model=person-window&conf=0.3&max_det=3")["detections"]
        refused = client.post("/v1/detect?model=person-window&iou=0.2", content=(pictures / "street.jpg").read_bytes())
    finally:
        client.post("/v1/models/person-window/unload")
    assert [each["box"] for each in found] == row["boxes"]
    assert [each["score"] for each in found] == row["scores"]
    assert found
    assert refused.status_code == 422  # what it cannot keep is said and not left out


@pytest.mark.parametrize(
    ("flags", "query"),
    [([], ""), (["--classes", "road,car", "--set", "segmentation.long_side=192"], "?classes=road,car&size=192")],
    ids=["defaults", "options"],
)
def test_maps_are_those_of_the_command_line(
    client: TestClient, pictures: Path, tmp_path: Path, flags: list[str], query: str
) -> None:
    outputs = ["--jsonl", tmp_path / "rows.jsonl", "--masks", tmp_path / "masks"]
    command("segment", pictures, *outputs, "--device", "cpu", *flags)
    for name, row in rows_of(tmp_path / "rows.jsonl").items():
        answer = ask(client, pictures / name, f"/v1/segment{query}")
        labels = decode_label_map(answer["segmentation"])
        assert labels.shape == SIZES[name][::-1]
        assert answer["class_names"] == row["segmentation"]["class_names"]
        for key in ("values", "lengths"):
            assert answer["segmentation"][key] == row["segmentation"][key]
        assert [each["pixels"] for each in answer["classes"]] == np.bincount(
            labels.ravel(), minlength=len(answer["class_names"])
        ).tolist()
        body = (pictures / name).read_bytes()
        mask = client.post(f"/v1/segment{query}", content=body, headers={"accept": "image/png"})
        with (
            Image.open(io.BytesIO(mask.content)) as ours,
            Image.open(tmp_path / "masks" / f"{Path(name).stem}.png") as theirs,
        ):
            np.testing.assert_array_equal(np.asarray(ours), np.asarray(theirs))
            assert ours.getpalette() == theirs.getpalette()


def test_classes_are_those_of_the_command_line(client: TestClient, pictures: Path, tmp_path: Path) -> None:
    command("classify", pictures, "--jsonl", tmp_path / "rows.jsonl", "--top", 3, "--device", "cpu")
    for name, row in rows_of(tmp_path / "rows.jsonl").items():
        classes = ask(client, pictures / name, "/v1/classify?top=3")["classes"]
        for key, many in (("label", "labels"), ("class_name", "names"), ("score", "scores")):
            assert [each[key] for each in classes] == row["classification"][many]
        assert sum(each["assigned"] for each in classes) == row["classification"]["assigned"]


def test_embeddings_are_those_of_the_command_line(client: TestClient, pictures: Path, tmp_path: Path) -> None:
    command("embed", pictures, "--out", tmp_path / "rows.npz", "--device", "cpu")
    stored = np.load(tmp_path / "rows.npz")
    for name, row in zip(stored["names"], stored["embeddings"], strict=True):
        answer = ask(client, pictures / str(name), "/v1/embed")
        width, height = SIZES[str(name)]
        assert answer["boxes"] == [[0.0, 0.0, width, height]]
        assert answer["dim"] == len(row)
        np.testing.assert_array_equal(np.array(answer["embeddings"], np.float32)[0], row)
        whole = ask(client, pictures / str(name), f"/v1/embed?boxes=0,0,{width},{height}")
        assert whole["embeddings"] == answer["embeddings"]


def test_batch_gives_what_single_pictures_give(client: TestClient, pictures: Path, tmp_path: Path) -> None:
    settings = fake_settings(
        tmp_path, max_batch=4, max_delay_ms=300, classifier="none", embedder="none", segmenter="none"
    )
    app, names = create_app(settings, background=False), ["street.jpg", "upright.jpg"] * 4
    with TestClient(app) as batching, ThreadPoolExecutor(8) as pool:
        together = list(pool.map(lambda name: ask(batching, pictures / name, "/v1/detect?conf=0.1"), names))
        sizes = app.state.service.metrics.model(DETECTOR).summary()["batch_mean"]
    assert sizes > 1
    for name, answer in zip(names, together, strict=True):
        alone = ask(client, pictures / name, "/v1/detect?conf=0.1")["detections"]
        assert answer["detections"] == alone


# -- forms of questions and answers


@pytest.mark.parametrize("route", ROUTES)
@pytest.mark.parametrize("kind", ["", "image/jpeg", "image/anything", "application/octet-stream", "form"])
def test_body_is_read_in_every_form(client: TestClient, pictures: Path, route: str, kind: str) -> None:
    body = (pictures / "street.jpg").read_bytes()
    expected = ask(client, pictures / "street.jpg", route)
    if kind == "form":
        response = client.post(route, files={"image": ("../../x.jpg", body, "image/jpeg")})
    else:
        response = client.post(route, content=body, headers={"content-type": kind} if kind else {})
    answer = response.json()
    assert response.status_code == 200
    for found in (answer, expected):
        timings = found.pop("timings_ms")
        assert set(timings) == {"decode", "queue", "infer"}
        assert all(value >= 0 for value in timings.values())
    assert answer == expected


@pytest.mark.parametrize(
    ("route", "accept", "kind"),
    [
        ("/v1/detect?conf=0.03", "image/jpeg", "JPEG"),
        ("/v1/detect?conf=0.03", "image/png", "PNG"),
        ("/v1/segment", "image/jpeg", "JPEG"),
        ("/v1/segment?render=overlay", "image/png", "PNG"),
        ("/v1/classify", "image/*", "JPEG"),
    ],
)
def test_answer_can_be_the_picture(client: TestClient, pictures: Path, route: str, accept: str, kind: str) -> None:
    body = (pictures / "upright.jpg").read_bytes()
    response = client.post(route, content=body, headers={"accept": accept})
    assert response.status_code == 200
    assert response.headers["content-type"] == f"image/{kind.lower()}"
    with Image.open(io.BytesIO(response.content)) as image:
        assert (image.format, image.size, image.mode) == (kind, SIZES["upright.jpg"], "RGB")
        plain = np.asarray(Image.open(pictures / "upright.jpg").transpose(Image.Transpose.ROTATE_270), int)
        changed = np.abs(np.asarray(image, int) - plain).max(axis=2) > 40
        assert 0.001 < changed.mean() < 0.9  # something is drawn, and the picture is still there


def test_thresholds_of_a_request_are_its_own(client: TestClient, pictures: Path) -> None:
    few = ask(client, pictures / "street.jpg", "/v1/detect?conf=0.9")["detections"]
    many = ask(client, pictures / "street.jpg", "/v1/detect?conf=0.05")["detections"]
    assert len(few) < len(ask(client, pictures / "street.jpg", "/v1/detect")["detections"]) < len(many)
    assert all(each["score"] >= 0.05 for each in many)


def test_boxes_of_one_picture_are_embedded_apart(client: TestClient, pictures: Path) -> None:
    answer = ask(client, pictures / "street.jpg", "/v1/embed?boxes=10,20,60,140;100,30,140,130")
    vectors = np.array(answer["embeddings"])
    assert vectors.shape == (2, answer["dim"])
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1.0, atol=1e-5)
    assert vectors[0] @ vectors[1] < 0.999
    alone = ask(client, pictures / "street.jpg", "/v1/embed?boxes=100,30,140,130")["embeddings"]
    np.testing.assert_allclose(alone[0], vectors[1], atol=1e-6)


# -- errors

PNG_OF_A_MILLION = io.BytesIO()
Image.new("L", (1000, 1000)).save(PNG_OF_A_MILLION, "PNG")


@pytest.mark.parametrize(
    ("method", "path", "headers", "body", "status", "code"),
    [
        ("POST", "/v1/detect", {}, b"", 422, "invalid_image"),
        ("POST", "/v1/detect", {}, b"no picture", 422, "invalid_image"),
        ("POST", "/v1/detect", {}, "cut", 422, "invalid_image"),
        ("POST", "/v1/detect", {}, PNG_OF_A_MILLION.getvalue(), 413, "image_too_large"),
        ("POST", "/v1/detect", {"content-length": "99999999"}, "good", 413, "body_too_large"),
        ("POST", "/v1/detect", {"content-type": "video/mp4"}, "good", 415, "unsupported_media_type"),
        ("POST", "/v1/detect", {"content-type": "text/plain"}, "good", 415, "unsupported_media_type"),
        ("POST", "/v1/detect", {"content-type": "multipart/form-data"}, "good", 400, "bad_request"),
        ("POST", "/v1/detect", {"content-type": "multipart/form-data; boundary=x"}, "good", 400, "bad_request"),
        ("POST", "/v1/detect", {"accept": "text/html"}, "good", 406, "not_acceptable"),
        ("POST", "/v1/embed", {"accept": "image/png"}, "good", 406, "not_acceptable"),
        ("POST", "/v1/detect?conf=2", {}, "good", 422, "invalid_parameter"),
        ("POST", "/v1/detect?colour=red", {}, "good", 422, "invalid_parameter"),
        ("POST", "/v1/detect?classes=unicorn", {}, "good", 422, "invalid_parameter"),
        ("POST", "/v1/segment?classes=unicorn", {}, "good", 422, "invalid_parameter"),
        ("POST", "/v1/segment?render=mask", {"accept": "image/jpeg"}, "good", 422, "invalid_parameter"),
        ("POST", "/v1/embed?boxes=5,5,1,1", {}, "good", 422, "invalid_parameter"),
        ("POST", "/v1/detect?model=nothing", {}, "good", 404, "model_not_found"),
        ("POST", f"/v1/detect?model={SEGMENTER}", {}, "good", 404, "model_not_found"),
        ("POST", "/v1/detect?model=person-window", {}, "good", 503, "not_ready"),
        ("GET", "/v1/detect", {}, b"", 405, "method_not_allowed"),
        ("POST", "/v1/detect/", {}, "good", 404, "not_found"),
        ("POST", "/v1/nothing", {}, "good", 404, "not_found"),
    ],
)
def test_errors_have_a_code_and_no_secrets(
    client: TestClient, pictures: Path, method: str, path: str, headers: dict[str, str], body: bytes | str, status: int,
    code: str,
) -> None:  # fmt: skip
    good = (pictures / "street.jpg").read_bytes()
    content = {"good": good, "cut": good[: len(good) // 2]}.get(body, body) if isinstance(body, str) else body
    response = client.request(
        method, path, content=content, headers={"x-request-id": "mine", **headers}, follow_redirects=False
    )
    error = response.json()["error"]
    assert (response.status_code, error["code"]) == (status, code)
    assert response.headers["x-request-id"] == error["request_id"] == "mine"
    assert response.headers["x-content-type-options"] == "nosniff"
    assert ("retry-after" in response.headers) == (status in (429, 503))
    for secret in ("Traceback", "/work", "/tmp", "/home", "site-packages", ".py"):
        assert secret not in response.text


@pytest.mark.parametrize("given", ["a b", "x" * 65, "ü", 'a"b'])
def test_request_id_that_is_none_is_replaced(client: TestClient, given: str) -> None:
    answered = client.get("/healthz", headers={b"x-request-id": given.encode()}).headers["x-request-id"]
    assert answered != given
    assert len(answered) == 16


def test_openapi_describes_the_routes_and_their_examples(client: TestClient) -> None:
    described = client.get("/openapi.json").json()
    for route in ROUTES:
        post = described["paths"][route]["post"]
        assert {"200", "413", "422", "429", "503", "504"} <= set(post["responses"])
        assert "example" in post["responses"]["200"]["content"]["application/json"]
        assert {"image/jpeg", "multipart/form-data"} <= set(post["requestBody"]["content"])


@pytest.mark.parametrize("route", ROUTES)
def test_examples_have_the_fields_that_are_sent(client: TestClient, pictures: Path, route: str) -> None:
    described = client.get("/openapi.json").json()
    example = described["paths"][route]["post"]["responses"]["200"]["content"]["application/json"]["example"]
    answer = ask(client, pictures / "street.jpg", route)
    assert set(example) <= set(answer)
    assert all(answer[key] is None for key in set(answer) - set(example))
    for key in ("segmentation", "image"):
        if key in answer:
            assert set(example[key]) == set(answer[key])


def test_models_are_listed_with_their_cards(client: TestClient) -> None:
    models = {model["name"]: model for model in client.get("/v1/models").json()["models"]}
    for name, task in ((DETECTOR, "detect"), (SEGMENTER, "segment"), (CLASSIFIER, "classify"), (EMBEDDER, "embed")):
        assert (models[name]["task"], models[name]["state"], models[name]["default"]) == (task, "ready", True)
    assert models["person-window"]["state"] == "available"
    shown = client.get(f"/v1/models/{DETECTOR}").json()
    assert shown["card"]["name"] == DETECTOR
    assert shown["health"]["requests"] > 0
    assert shown["health"]["engine"].startswith("onnx")
    assert ANONYMOUS not in json.dumps(shown)
