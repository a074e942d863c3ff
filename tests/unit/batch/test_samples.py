"""Which rows a report shows, and the page itself, of small jobs with real shards."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
import pytest

from vision.batch import report as report_module
from vision.batch.config import BatchConfig, Task
from vision.batch.items import Failure, Item, Shard
from vision.batch.local_output import LocalOutput
from vision.batch.report import write_report
from vision.batch.sample_pictures import read_picture, sample_pictures
from vision.batch.samples import ChosenRow, choose_rows, read_row
from vision.batch.shard_file import ShardHeader, ShardWriter, shard_name
from vision.batch.stats import RunReport, StageSeconds
from vision.errors import InvalidInputError
from vision.geometry.rle import encode_mask

NAMES = ("person", "<b>car</b>")
HEIGHT, WIDTH = 60, 80


def head(item: int, path: str) -> dict[str, Any]:
    return {"item": item, "path": path, "frame_index": 0, "timestamp_s": None, "height": HEIGHT, "width": WIDTH}


def boxes(n: int) -> dict[str, Any]:
    return {
        "boxes": np.tile(np.array([[10, 10, 40, 50]], np.float32), (n, 1)),
        "scores": np.full(n, 0.5, np.float32),
        "labels": np.arange(n) % 2,
    }


def masks() -> dict[str, Any]:
    left = np.zeros((HEIGHT, WIDTH), bool)
    left[:, :20] = True
    counts = [np.array(encode_mask(mask)["counts"], np.int32) for mask in (left, ~left)]
    return {"mask_labels": np.array([0, 1]), "mask_areas": np.array([1200, 3600]), "mask_counts": counts}


class Job:
    """A job of pictures in a folder, its shards as a run would have written them."""

    def __init__(self, folder: Path, task: Task = "detect") -> None:
        self.pictures, self.output = folder / "in", LocalOutput(str(folder / "job"))
        self.pictures.mkdir()
        config = BatchConfig(task=task)
        model = {"detection": {"name": "m", "sha256": "0" * 64}}
        dim = 4 if task == "embed" else 0
        self.header = ShardHeader(task=task, config=config.identity(), models=model, class_names=NAMES, dim=dim)
        self.shards: list[Shard] = []

    def add(self, rows: Sequence[dict[str, Any]], names: Sequence[str] = (), failed: Sequence[str] = ()) -> None:
        """Add a shard with a row for each of ``rows``, and items that failed."""
        first = sum(len(shard.items) for shard in self.shards)
        paths = [*(names or [f"{first + place}.png" for place in range(len(rows))]), *failed]
        for path in paths[: len(rows)]:
            cv2.imwrite(str(self.pictures / path), np.full((HEIGHT, WIDTH, 3), 200, np.uint8))
        items = [Item(first + n, path, str(self.pictures / path), "image") for n, path in enumerate(paths)]
        shard = Shard(len(self.shards), tuple(items), "0" * 64)
        self.shards.append(shard)
        writer = ShardWriter(self.output, shard, self.header)
        writer.add([head(item.index, item.name) | row for item, row in zip(items, rows, strict=False)])
        for item in items[len(rows) :]:
            writer.fail(Failure(item.index, item.name, "decode", "not a picture"))
        writer.commit()

    @property
    def files(self) -> list[str]:
        return [shard_name(shard.index) for shard in self.shards]

    def samples(self) -> list[Any]:
        return sample_pictures(self.output, self.files, self.header, self.items_of)

    def items_of(self, index: int) -> Sequence[Item]:
        return self.shards[index].items


def test_rows_are_spread_over_all_shards_and_the_same_each_time(tmp_path: Path) -> None:
    job = Job(tmp_path)
    for _ in range(5):
        job.add([boxes(n) for n in (0, 3, 1, 2)])
    chosen = choose_rows(job.output, job.files, "detect", 5)
    assert [row.file for row in chosen] == job.files
    # The fullest row, or the one in the middle, in turn.
    assert [row.position for row in chosen] == [1, 2, 1, 2, 1]
    assert chosen == choose_rows(job.output, job.files, "detect", 5)


def test_rows_of_one_shard_are_spread_over_it(tmp_path: Path) -> None:
    job = Job(tmp_path)
    job.add([boxes(n) for n in (1, 9, 8, 7, 0, 0, 0, 0, 3, 3, 4, 3)])
    # The fullest of the first and third quarter, the middle of the others.
    assert [row.position for row in choose_rows(job.output, job.files, "detect", 4)] == [1, 4, 8, 10]


def test_a_small_job_shows_each_row_once(tmp_path: Path) -> None:
    job = Job(tmp_path)
    job.add([boxes(n) for n in (1, 0, 2)])
    assert [row.position for row in choose_rows(job.output, job.files, "detect")] == [0, 1, 2]
    assert choose_rows(job.output, [], "detect") == []


def test_a_shard_without_rows_gives_none(tmp_path: Path) -> None:
    job = Job(tmp_path)
    job.add([], failed=["broken.png"])
    assert choose_rows(job.output, job.files, "detect") == []


def test_a_row_is_read_out_of_its_row_group(tmp_path: Path) -> None:
    job = Job(tmp_path)
    job.add([boxes(n % 3) for n in range(300)], names=[f"{n}.png" for n in range(300)])
    assert read_row(job.output, ChosenRow(job.files[0], 299))["path"] == "299.png"
    with pytest.raises(IndexError):
        read_row(job.output, ChosenRow(job.files[0], 300))


@pytest.mark.parametrize(
    ("task", "row", "caption"),
    [
        ("detect", boxes(3), "2 person, 1 <b>car</b>"),
        ("track", boxes(1) | {"track_ids": np.array([7])}, "1 person"),
        ("segment", masks(), "<b>car</b> 75%, person 25%"),
        ("embed", {"embedding": np.ones(4, np.float32)}, "4 numbers"),
        (
            "classify",
            {"labels": np.array([1, 0]), "scores": np.array([0.75, 0.25]), "names": NAMES[::-1], "assigned": 1},
            "<b>car</b> 0.75",
        ),
    ],
)
def test_each_task_is_drawn(task: Task, row: dict[str, Any], caption: str, tmp_path: Path) -> None:
    job = Job(tmp_path, task)
    job.add([row])
    (picture,) = job.samples()
    assert (picture.title, picture.caption) == ("0.png", caption)
    drawn = cv2.imdecode(np.frombuffer(picture.inline, np.uint8), cv2.IMREAD_COLOR)
    assert drawn.shape == (HEIGHT, WIDTH, 3)
    assert (drawn.std() > 5) == (task != "embed")


def test_what_cannot_be_read_again_is_left_out(tmp_path: Path) -> None:
    job = Job(tmp_path)
    job.add([boxes(1)] * 4)
    (job.pictures / "0.png").unlink()
    (job.pictures / "1.png").write_bytes(b"no picture")
    cv2.imwrite(str(job.pictures / "2.png"), np.zeros((HEIGHT * 2, WIDTH, 3), np.uint8))
    assert [picture.title for picture in job.samples()] == ["3.png"]


def test_a_member_of_a_tar_is_read_in_its_place(tmp_path: Path) -> None:
    data = cv2.imencode(".png", np.full((HEIGHT, WIDTH, 3), 9, np.uint8))[1].tobytes()
    (tmp_path / "a.tar").write_bytes(b"x" * 512 + data + b"y" * 512)
    item = Item(0, "a.tar/0.png", str(tmp_path / "a.tar"), "image", 512, len(data))
    assert (read_picture(item, head(0, item.name)) == 9).all()


@pytest.mark.parametrize("index", [0, 1, 17, 39])
def test_a_frame_of_a_video_is_found_by_its_time(index: int, tmp_path: Path) -> None:
    path = tmp_path / "a.mp4"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg4", rate=25, width=WIDTH, height=HEIGHT, options={"g": "12"})
        for number in range(40):
            picture = np.full((HEIGHT, WIDTH, 3), 6 * number, np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(stream.encode())
    item = Item(0, "a.mp4", str(path), "video")
    row = head(0, "a.mp4") | {"frame_index": index, "timestamp_s": index / 25}
    assert abs(read_picture(item, row).mean() - 6 * index) < 3
    with pytest.raises(InvalidInputError, match=r"clock jumps|no frame"):
        read_picture(item, row | {"timestamp_s": index / 25 + 0.01})


def test_the_page_escapes_names_and_shows_everything(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    job = Job(tmp_path)
    monkeypatch.setattr(report_module, "_samples", lambda *args: sample_pictures(*args, job.items_of))
    hostile = '<script>alert("1").png'.replace("/", "")
    job.add([boxes(2), boxes(0)], names=[hostile, "b c ä.png"], failed=["<img src=x>\n.png"])
    line = b'{"path": "<img src=x>\\n.png", "stage": "decode", "error": "<i>not</i> a picture", "item": 2}\n'
    job.output.replace("quarantine.jsonl", line)
    report = RunReport(
        task="detect", source="in/<x>", out=str(tmp_path / "job"), engine="local", device="cpu", items=3, rows=2,
        failures=1, skipped_items=0, committed_shards=1, total_shards=1, total_rows=2, total_failures=1, seconds=2.0,
        stages=StageSeconds(infer_s=1.9),
    )  # fmt: skip
    write_report(job.output, report)
    write_report(job.output, replace(report, finished=False, interrupted=True))
    page = job.output.read("report.html").decode()
    for raw in ("<script", "<img src=x", "<b>car", "<i>not", "<x>"):
        assert raw not in page
    assert page.count("data:image/jpeg") == 2
    assert "&lt;b&gt;car&lt;/b&gt;" in page
    assert "1 of 2 pictures and frames show none of them" in page
    assert "The job is not finished" in page


def test_the_page_of_a_job_without_shards_is_there(tmp_path: Path) -> None:
    output = LocalOutput(str(tmp_path))
    report = RunReport(
        task="segment", source="s", out="o", engine="local", device="cpu", items=0, rows=0, failures=0,
        skipped_items=0, committed_shards=0, total_shards=3, total_rows=0, total_failures=0, seconds=0.1,
        finished=False, stopped_by_errors=True,
    )  # fmt: skip
    write_report(output, report)
    assert "No row shows any class" in output.read("report.html").decode()
