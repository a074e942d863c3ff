"""``stride32 segment`` with an untrained network: every output, every kind of input, and what is refused."""

from __future__ import annotations

import csv
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from click.testing import Result
from PIL import Image
from tiny_segmenter import LABELS, write_segmenter
from typer.testing import CliRunner

from vision.cli.main import app, main
from vision.geometry.rle import decode_mask, expand_counts
from vision.io.writers.jsonl import read_jsonl

Run = Callable[..., tuple[int, str]]
HW = (48, 80)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_segmenter(tmp_path_factory.mktemp("store") / "tiny").folder


@pytest.fixture
def run(model: Path, capsys: pytest.CaptureFixture[str]) -> Run:
    """Run the command in this process; returns the exit code and what stood on stderr."""

    def invoke(*words: object, name: object = model) -> tuple[int, str]:
        fixed = ["--model", str(name), "--device", "cpu", "--set", "runtime.engine=torch"]
        with pytest.raises(SystemExit) as done:
            main(["segment", *map(str, words), *fixed])
        return int(done.value.code or 0), capsys.readouterr().err

    return invoke


def noise(size_hw: tuple[int, int] = HW, seed: int = 0) -> Image.Image:
    return Image.fromarray(np.random.default_rng(seed).integers(0, 256, (*size_hw, 3), np.uint8))


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with pictures of many shapes, two of one stem and one in a folder below."""
    folder = tmp_path_factory.mktemp("pictures")
    (folder / "below").mkdir()
    noise().save(folder / "1.png")
    noise(seed=1).save(folder / "2.png")
    noise((1, 300)).save(folder / "3.png")
    noise((33, 1)).save(folder / "4.bmp")
    noise((41, 67)).save(folder / "below" / "5.jpg")
    noise((20, 30)).save(folder / "below" / "5.webp")
    return folder


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("clip") / "street.mp4"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=10)
        stream.width, stream.height, stream.pix_fmt = HW[1], HW[0], "yuv420p"
        for index in range(6):
            picture = av.VideoFrame.from_ndarray(np.asarray(noise(seed=index)), format="rgb24")
            container.mux(stream.encode(picture))
        container.mux(stream.encode())
    return path


def read_mask(path: Path) -> np.ndarray:
    with Image.open(path) as mask:
        assert mask.mode == "P"
        return np.asarray(mask)


def test_every_output_says_the_same(run: Run, pictures: Path, tmp_path: Path) -> None:
    shutil.copytree(pictures, tmp_path / "in", ignore=shutil.ignore_patterns("*.webp"))
    code, err = run(
        *(tmp_path / "in", "--masks", tmp_path / "masks", "--coco", tmp_path / "c.json", "--csv", tmp_path / "a.csv"),
        *("--jsonl", tmp_path / "r.jsonl", "--save-images", tmp_path / "drawn"),
    )
    assert code == 0, err
    assert (tmp_path / "masks" / "classes.txt").read_text().split() == list(LABELS)
    header, results = read_jsonl(tmp_path / "r.jsonl")
    assert header["class_names"] == list(LABELS)
    areas: dict[str, dict[str, int]] = {}
    for row in csv.DictReader((tmp_path / "a.csv").read_text().splitlines()):
        areas.setdefault(row["source"], {})[row["class_name"]] = int(row["pixels"])
    rows = json.loads((tmp_path / "c.json").read_text())
    sizes = set()
    for result in results:
        assert result.segmentation is not None
        labels = result.segmentation.labels
        sizes.add(labels.shape)
        relative = Path(result.source).relative_to(tmp_path / "in")
        np.testing.assert_array_equal(read_mask(tmp_path / "masks" / relative.with_suffix(".png")), labels)
        counts = [int((labels == label).sum()) for label in range(len(LABELS))]
        assert list(areas[result.source].values()) == counts
        own = [row for row in rows if row["image_id"] == int(relative.stem)]
        assert {row["category_id"]: row["area"] for row in own} == {
            label + 1: count for label, count in enumerate(counts) if count
        }
        for row in own:
            assert_mask_of(row, labels == row["category_id"] - 1)
    assert sizes == {HW, (1, 300), (33, 1), (41, 67)}
    drawn = {path.relative_to(tmp_path / "drawn").as_posix() for path in (tmp_path / "drawn").rglob("*.*")}
    assert drawn == {"1.png", "2.png", "3.png", "4.bmp.jpg", "below/5.jpg"}


def assert_mask_of(row: dict[str, Any], mask: np.ndarray) -> None:
    runs = row["segmentation"]
    np.testing.assert_array_equal(decode_mask({**runs, "counts": expand_counts(runs["counts"])}), mask)
    x, y, width, height = row["bbox"]
    assert mask[y : y + height, x : x + width].sum() == mask.sum() == row["area"]


def test_masks_of_one_stem_do_not_meet(run: Run, pictures: Path, tmp_path: Path) -> None:
    assert run(pictures / "below", "--masks", tmp_path / "masks")[0] == 0
    assert {path.name for path in (tmp_path / "masks").iterdir()} == {"5.png", "5.webp.png", "classes.txt"}
    assert read_mask(tmp_path / "masks" / "5.webp.png").shape == (20, 30)


def test_a_video_gives_a_video_numbered_masks_and_numbered_images(run: Run, clip: Path, tmp_path: Path) -> None:
    code, err = run(
        *(clip, "--save-video", tmp_path / "v.mp4", "--masks", tmp_path / "m", "--coco", tmp_path / "c.json"),
        *("--csv", tmp_path / "a.csv", "--max-frames", 4),
    )
    assert code == 0, err
    with av.open(str(tmp_path / "v.mp4")) as container:
        stream = container.streams.video[0]
        assert (stream.codec_context.name, stream.pix_fmt, stream.frames) == ("h264", "yuv420p", 4)
        assert (stream.height, stream.width) == HW
    assert sorted(path.name for path in (tmp_path / "m" / "street").iterdir()) == [f"{n:06d}.png" for n in range(1, 5)]
    assert {row["image_id"] for row in json.loads((tmp_path / "c.json").read_text())} == {1, 2, 3, 4}
    times = {row["timestamp_s"] for row in csv.DictReader((tmp_path / "a.csv").read_text().splitlines())}
    assert times == {"0.000", "0.100", "0.200", "0.300"}


def test_classes_by_name(run: Run, pictures: Path, tmp_path: Path) -> None:
    assert run(pictures / "1.png", "--masks", tmp_path / "all")[0] == 0
    options = ("--classes", "sky,road", "--masks", tmp_path / "some", "--coco", tmp_path / "1.json")
    assert run(pictures / "1.png", *options)[0] == 0
    assert (tmp_path / "some" / "classes.txt").read_text().split() == ["other", "sky", "road"]
    everything, some = read_mask(tmp_path / "all" / "1.png"), read_mask(tmp_path / "some" / "1.png")
    np.testing.assert_array_equal(some, np.array([2, 0, 1, 0])[everything])
    # "other" is no category; the kept classes have the numbers after it.
    shown = {int(label) + 1 for label in np.unique(some) if label}
    assert shown
    assert {row["category_id"] for row in json.loads((tmp_path / "1.json").read_text())} == shown


def test_ids_of_a_ground_truth(run: Run, pictures: Path, tmp_path: Path) -> None:
    categories = [{"id": 10 * place, "name": name} for place, name in enumerate(LABELS, start=1)]
    gt = tmp_path / "gt.json"
    gt.write_text(json.dumps({"images": [{"id": 77, "file_name": "1.png"}], "categories": categories}))
    assert run(pictures / "1.png", "--coco", tmp_path / "c.json", "--coco-gt", gt)[0] == 0
    rows = json.loads((tmp_path / "c.json").read_text())
    assert {row["image_id"] for row in rows} == {77}
    assert {row["category_id"] for row in rows} <= {10, 20, 30, 40}
    gt.write_text(json.dumps({"images": [], "categories": categories[1:]}))
    code, err = run(pictures / "1.png", "--coco", tmp_path / "d.json", "--coco-gt", gt)
    assert code == 2
    assert "lacks 'road'" in err


def test_tiles_cover_the_picture(run: Run, pictures: Path, tmp_path: Path) -> None:
    assert run(pictures / "1.png", "--tile", 32, "--overlap", 0.5, "--masks", tmp_path / "tiled")[0] == 0
    assert read_mask(tmp_path / "tiled" / "1.png").shape == HW
    assert run(pictures / "1.png", "--tile", 200, "--masks", tmp_path / "one")[0] == 0
    assert run(pictures / "1.png", "--masks", tmp_path / "whole")[0] == 0
    # A tile that holds the picture is the picture.
    np.testing.assert_array_equal(read_mask(tmp_path / "one" / "1.png"), read_mask(tmp_path / "whole" / "1.png"))


def test_broken_pictures_are_skipped_and_said(run: Run, pictures: Path, tmp_path: Path) -> None:
    folder = tmp_path / "in"
    folder.mkdir()
    shutil.copy(pictures / "1.png", folder / "1.png")
    (folder / "2.png").write_bytes((pictures / "2.png").read_bytes()[:400])
    (folder / "3.jpg").write_text("no picture")
    code, err = run(folder, "--masks", tmp_path / "masks")
    assert code == 3
    assert "2 inputs could not be read" in err
    assert {path.name for path in (tmp_path / "masks").iterdir()} == {"1.png", "classes.txt"}
    assert run(folder / "2.png", "--masks", tmp_path / "none")[0] == 1


def test_stdin_and_stdout(model: Path, pictures: Path) -> None:
    words = ["segment", "-", "--model", str(model), "--device", "cpu", "--set", "runtime.engine=torch"]
    done: Result = CliRunner().invoke(app, words, input=(pictures / "1.png").read_bytes())
    assert done.exception is None, done.output
    header, row = map(json.loads, done.stdout.splitlines())
    assert header["config"]["segmentation"]["model"] == str(model)
    assert row["segmentation"]["size_hw"] == list(HW)


def test_what_exists_is_kept(run: Run, pictures: Path, tmp_path: Path) -> None:
    masks, table = tmp_path / "masks", tmp_path / "a.csv"
    assert run(pictures / "1.png", "--masks", masks, "--csv", table)[0] == 0
    before = table.read_bytes()
    for option, path in (("--masks", masks), ("--csv", table)):
        code, err = run(pictures / "2.png", option, path)
        assert code == 1
        assert "--overwrite" in err
    assert table.read_bytes() == before
    assert run(pictures / "2.png", "--masks", masks, "--csv", table, "--overwrite")[0] == 0
    assert {path.name for path in masks.iterdir()} == {"1.png", "2.png", "classes.txt"}
    code, err = run(pictures / "2.png", "--masks", masks, "--classes", "sky", "--overwrite")
    assert code == 1
    assert "pass another folder, or delete this one" in err


@pytest.mark.parametrize(
    ("words", "code", "expected"),
    [
        (("--classes", "rood"), 2, "did you mean 'road'"),
        (("--classes", "road,road"), 2, "must differ"),
        (("--tile", "32", "--overlap", "0.95"), 2, "overlap"),
        (("--tile", "1"), 2, "at least 32 pixels, got 1"),
        (("--weights", "a.pth"), 2, "has weights of its own"),
        (("--set", "segmentation.max_batch=0"), 2, "max_batch"),
        (("--set", "segmentation.model=fcn_resnet51"), 1, "did you mean 'fcn_resnet50'"),
        (("--set", "segmentation.model=person-lite0"), 1, "which is of kind detector"),
        (("--set", "segmentation.model=fcn_resnet50"), 1, "stride32 models pull fcn_resnet50"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else str(value),
)
def test_what_cannot_be_is_refused(
    run: Run, pictures: Path, tmp_path: Path, words: tuple[str, ...], code: int, expected: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.setenv("STRIDE32_CACHE", str(tmp_path / "cache"))
    found, err = run(pictures / "1.png", *words, "--masks", tmp_path / "masks")
    assert found == code, err
    assert expected in err
    assert not (tmp_path / "masks").exists()
