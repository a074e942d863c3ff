from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import batch_jobs
import numpy as np
import pytest
from faster_coco_eval.core import mask as coco_mask

from vision.batch.coco_runs import bound_runs
from vision.batch.exports import check_format, write_coco, write_jsonl
from vision.batch.items import Item
from vision.batch.output import Output, open_output
from vision.batch.shard_summary import shard_name
from vision.errors import ConfigError, InvalidInputError
from vision.geometry.rle import decode_mask, encode_mask

PICTURES = [Item(i, f"é x/{i:03d}.jpg", f"/in/{i}", "image") for i in range(12)]


@pytest.fixture(params=["folder", "memory"])
def output(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Output:
    batch_jobs.install_manifest(monkeypatch)
    return open_output(str(tmp_path) if request.param == "folder" else f"memory://exports/{tmp_path.name}")


def write_annotations(path: Path, *, names: Any = batch_jobs.CLASS_NAMES, images: Any = PICTURES) -> Path:
    content = {
        "images": [{"id": 100 + at, "file_name": item.name.split("/")[1]} for at, item in enumerate(images)],
        "categories": [{"id": 90 - at, "name": name} for at, name in enumerate(names)],
    }
    path.write_text(json.dumps(content))
    return path


@pytest.mark.parametrize("task", ["detect", "track", "embed", "classify"])
def test_lines_hold_the_rows(output: Output, task: Any) -> None:
    batch_jobs.write_job(output, task, failed={2})
    assert write_jsonl(output) == 11
    header, *lines = [json.loads(line) for line in output.read("results.jsonl").splitlines()]
    assert (header["kind"], header["task"], header["source"]) == ("header", task, "pictures")
    assert (header["class_names"], header["models"]) == (list(batch_jobs.CLASS_NAMES), batch_jobs.MODELS)
    assert [line["item"] for line in lines] == [item for item in range(12) if item != 2]
    row = batch_jobs.make_rows(task, PICTURES[3])[0]
    for name, value in row.items():
        found = lines[2][name]
        assert (
            np.array_equal(np.asarray(found, value.dtype), value)
            if isinstance(value, np.ndarray)
            else (list(found) == list(value) if isinstance(value, tuple) else found == value)
        )


def test_lines_hold_masks_as_coco_reads_them(output: Output) -> None:
    batch_jobs.write_job(output, "segment")
    write_jsonl(output)
    lines = [json.loads(line) for line in output.read("results.jsonl").splitlines()][1:]
    for item, line in zip(PICTURES, lines, strict=True):
        row = batch_jobs.make_rows("segment", item)[0]
        assert set(line) == {"item", "path", "frame_index", "timestamp_s", "height", "width", "masks"}
        for mask, counts, label in zip(line["masks"], row["mask_counts"], row["mask_labels"], strict=True):
            expected = decode_mask({"size": [6, 8], "counts": counts})
            assert (coco_mask.decode(mask["segmentation"]) == expected).all()
            assert (mask["label"], mask["area"]) == (label, expected.sum())


def test_a_job_without_rows_has_a_header_alone(output: Output) -> None:
    batch_jobs.begin_job(output)
    assert (write_jsonl(output), write_coco(output)) == (0, 0)
    assert len(output.read("results.jsonl").splitlines()) == 1
    assert json.loads(output.read("results.coco.json")) == []


def test_boxes_as_coco_results(output: Output) -> None:
    batch_jobs.write_job(output)
    count = write_coco(output)
    results = json.loads(output.read("results.coco.json"))
    rows = [batch_jobs.make_rows("detect", item)[0] for item in PICTURES]
    assert len(results) == count == sum(len(row["labels"]) for row in rows)
    x1, y1, x2, y2 = rows[1]["boxes"][0].astype(float)
    assert results[0] == {
        "image_id": 1,
        "category_id": int(rows[1]["labels"][0]) + 1,
        "bbox": [round(x1, 2), round(y1, 2), round(x2 - x1, 2), round(y2 - y1, 2)],
        "score": round(float(rows[1]["scores"][0]), 5),
    }


def test_masks_as_coco_results(output: Output) -> None:
    batch_jobs.write_job(output, "segment")
    count = write_coco(output)
    results = json.loads(output.read("results.coco.json"))
    assert len(results) == count == 36
    for result in results:
        mask = coco_mask.decode(result["segmentation"])
        assert coco_mask.area(result["segmentation"]) == result["area"] == mask.sum()
        assert coco_mask.toBbox(result["segmentation"]).tolist() == result["bbox"]
        assert result["score"] == 1


def test_ids_come_from_the_annotations(output: Output, tmp_path: Path) -> None:
    batch_jobs.write_job(output)
    names = (*batch_jobs.CLASS_NAMES, "unused")
    write_coco(output, write_annotations(tmp_path / "gt.json", names=names))
    results = json.loads(output.read("results.coco.json"))
    assert results[0]["image_id"] == 101
    # Label 2 has no name in the model; it stays what it would be without annotations.
    assert {result["category_id"] for result in results} == {90, 89, 3}


def test_annotations_that_do_not_fit_are_refused_and_nothing_is_left(output: Output, tmp_path: Path) -> None:
    batch_jobs.write_job(output)
    with pytest.raises(ConfigError, match="lacks 'person'"):
        write_coco(output, write_annotations(tmp_path / "gt.json", names=("Person?",)))
    with pytest.raises(InvalidInputError, match="not among 3 images"):
        write_coco(output, write_annotations(tmp_path / "gt.json", images=PICTURES[:3]))
    assert "results.coco.json" not in output.names()
    assert not list(tmp_path.glob(".*.part"))


def test_two_pictures_with_one_id_need_annotations(output: Output) -> None:
    manifest = batch_jobs.make_manifest(12, videos=(4,))
    batch_jobs.write_job(output, manifest=manifest)
    with pytest.raises(InvalidInputError, match=r"001\.jpg and é x/004\.mp4/000001\.jpg both get 1; .*--coco-gt"):
        write_coco(output)


def test_frames_of_a_video_count_from_one(output: Output) -> None:
    batch_jobs.write_job(output, manifest=batch_jobs.make_manifest(1, videos=(0,)))
    write_coco(output)
    assert [result["image_id"] for result in json.loads(output.read("results.coco.json"))] == [2, 3, 3]


def test_a_name_with_more_digits_than_an_id_may_have_needs_annotations(output: Output) -> None:
    batch_jobs.write_job(output, manifest=batch_jobs.make_manifest(1, prefix="9" * 30))
    with pytest.raises(InvalidInputError, match=r"below 2\*\*63"):
        write_coco(output)


def test_a_damaged_shard_leaves_the_last_results_as_they_were(output: Output) -> None:
    batch_jobs.write_job(output)
    write_jsonl(output)
    before = output.read("results.jsonl")
    output.replace(shard_name(2), output.read(shard_name(2))[:-20])
    with pytest.raises(InvalidInputError, match="shard-00002"):
        write_jsonl(output)
    assert output.read("results.jsonl") == before


@pytest.mark.parametrize("task", ["track", "embed", "classify"])
def test_tasks_without_a_coco_form_are_refused(output: Output, task: Any) -> None:
    check_format(task, "jsonl")
    with pytest.raises(ConfigError, match=f"detect and segment, got {task}"):
        check_format(task, "coco")
    batch_jobs.begin_job(output, task)
    with pytest.raises(ConfigError, match="COCO"):
        write_coco(output)
    with pytest.raises(ConfigError, match="pick one"):
        check_format(task, "xml")


def test_the_box_of_runs_is_that_of_their_mask() -> None:
    random = np.random.default_rng(7)
    for _ in range(300):
        mask = random.random(random.integers(1, 25, 2)) < random.random() ** 3
        counts = np.array(encode_mask(mask)["counts"], np.int32)
        rows, columns = np.nonzero(mask)
        box = [columns.min(), rows.min(), np.ptp(columns) + 1, np.ptp(rows) + 1] if len(rows) else [0] * 4
        assert bound_runs(counts, mask.shape[0]) == box
