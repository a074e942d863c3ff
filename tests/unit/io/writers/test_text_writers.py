"""Atomic files and the text formats: MOT, JSON lines, COCO, CSV."""

from __future__ import annotations

import csv
import io
import json
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from io_results import TENTATIVE, make_detections, make_result, make_tracks

from vision.errors import InvalidInputError, OutputExistsError, StateError
from vision.io.writers.atomic import AtomicFile
from vision.io.writers.base import Writer
from vision.io.writers.coco import CocoWriter, find_image_id, read_coco_index
from vision.io.writers.csv import CsvWriter
from vision.io.writers.jsonl import JsonlWriter, read_jsonl
from vision.io.writers.mot import MotWriter, read_mot


def open_writer(kind: str, path: Path, **options: object) -> Writer:
    if kind == "coco":
        return CocoWriter(path, category_ids=[1], **options)
    return {"mot": MotWriter, "jsonl": JsonlWriter, "csv": CsvWriter}[kind](path, **options)


KINDS = ["mot", "jsonl", "csv", "coco"]
RESULT = make_result(detections=make_detections((1, 2, 3, 4)), source="7.jpg")


def test_atomic_file_appears_on_commit_only(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "out.txt"
    output = AtomicFile(path)
    output.write(b"abc")
    assert not path.exists()
    assert output.part_path.name == "out.txt.part"
    output.commit()
    output.commit()
    assert path.read_bytes() == b"abc"
    assert [entry.name for entry in path.parent.iterdir()] == ["out.txt"]
    with pytest.raises(StateError):
        output.write(b"more")


def test_atomic_file_keeps_the_old_output_until_commit(tmp_path: Path) -> None:
    path = tmp_path / "out.txt"
    path.write_text("old")
    output = AtomicFile(path, overwrite=True)
    output.write(b"new")
    assert path.read_text() == "old"
    output.abort()
    assert path.read_text() == "old"
    assert [entry.name for entry in tmp_path.iterdir()] == ["out.txt"]


def test_an_output_that_appears_during_the_run_is_not_replaced(tmp_path: Path) -> None:
    path = tmp_path / "out.txt"
    output = AtomicFile(path)
    output.write(b"mine")
    path.write_text("theirs")
    with pytest.raises(OutputExistsError, match=r"kept in .*out\.txt\.part"):
        output.commit()
    assert path.read_text() == "theirs"
    assert output.part_path.read_bytes() == b"mine"


def test_a_folder_or_an_impossible_place_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidInputError, match="found a folder"):
        AtomicFile(tmp_path, overwrite=True)
    (tmp_path / "file").write_text("x")
    with pytest.raises(InvalidInputError, match="cannot be written"):
        AtomicFile(tmp_path / "file" / "out.txt")


@pytest.mark.parametrize("kind", KINDS)
def test_existing_outputs_are_refused_unless_overwritten(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "out"
    path.write_text("old")
    with pytest.raises(OutputExistsError, match="--overwrite"):
        open_writer(kind, path)
    assert path.read_text() == "old"
    with open_writer(kind, path, overwrite=True) as writer:
        writer.write(None, RESULT)
    assert path.read_text() != "old"


@pytest.mark.parametrize("kind", KINDS)
def test_an_interruption_leaves_a_valid_file_of_what_was_finished(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "out"

    def run() -> None:
        with open_writer(kind, path) as writer:
            writer.write(None, RESULT)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run()
    assert [entry.name for entry in tmp_path.iterdir()] == ["out"]
    text = path.read_text()
    if kind == "coco":
        assert len(json.loads(text)) == 1
    else:
        assert text.endswith("\n")
        assert len(text.splitlines()) == (1 if kind == "mot" else 2)


@pytest.mark.parametrize("kind", KINDS)
def test_abort_leaves_nothing_and_close_after_it_does_nothing(tmp_path: Path, kind: str) -> None:
    writer = open_writer(kind, tmp_path / "out")
    writer.write(None, RESULT)
    writer.abort()
    writer.close()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("kind", ["mot", "csv", "coco"])
def test_results_without_objects_of_the_needed_kind_are_refused(tmp_path: Path, kind: str) -> None:
    with open_writer(kind, tmp_path / "out") as writer, pytest.raises(InvalidInputError, match="need"):
        writer.write(None, make_result(source="1.jpg"))


def test_mot_rows(tmp_path: Path) -> None:
    path = tmp_path / "out.txt"
    with MotWriter(path) as writer:
        writer.write(None, make_result(0, tracks=make_tracks((7, (10.1, 20, 40.126, 60)))))
        writer.write(None, make_result(1, tracks=make_tracks()))
        writer.write(None, make_result(2, tracks=make_tracks((8, (0, 0, 1, 1)), state=TENTATIVE)))
        writer.write(None, make_result(3, tracks=make_tracks((9, (0, 0, 1, 1)), missed=1)))
        writer.write(None, make_result(4, tracks=make_tracks((7, (-5, 0, 1, 1)), (9, (1, 1, 2, 2)), score=1)))
    assert path.read_text().splitlines() == [
        "1,7,10.10,20.00,30.03,40.00,0.90,-1,-1,-1",
        "5,7,-5.00,0.00,6.00,1.00,1.00,-1,-1,-1",
        "5,9,1.00,1.00,1.00,1.00,1.00,-1,-1,-1",
    ]


def test_mot_detections_are_read_back(tmp_path: Path) -> None:
    path = tmp_path / "det.txt"
    detections = make_detections((1, 2, 30, 40), (5.25, 6, 7, 8), score=0.1234)
    with MotWriter(path) as writer:
        writer.write(None, make_result(3, detections=detections))
    (read,) = read_mot(path).items()
    assert read[0] == 3
    np.testing.assert_allclose(read[1].boxes, detections.boxes, atol=0.006)
    np.testing.assert_allclose(read[1].scores, detections.scores, atol=1e-4)


@pytest.mark.parametrize(
    ("text", "frames", "scores"),
    [
        ("", [], []),
        ("1,-1,10,20,30,40,0.5,-1,-1,-1\n", [0], [0.5]),
        ("1 -1 10 20 30 40 0.5\n", [0], [0.5]),
        ("1, -1, 10, 20, 30, 40\n\n", [0], [1.0]),
        ("\ufeff3,-1,10,20,30,40,7\r\n1,-1,10,20,30,40,-2\r\n", [0, 2], [-2, 7]),
        ("1.0,-1.0,1e1,20,30,40,0.5,-1,nan,-1", [0], [0.5]),
    ],
)
def test_read_mot_is_tolerant_of_layout(tmp_path: Path, text: str, frames: list[int], scores: list[float]) -> None:
    path = tmp_path / "det.txt"
    path.write_text(text, encoding="utf-8", newline="")
    read = read_mot(path)
    assert list(read) == frames
    np.testing.assert_allclose([float(value.scores[0]) for value in read.values()], scores)
    for value in read.values():
        assert value.boxes.tolist() == [[10, 20, 40, 60]]


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ("1,-1,10,20,30", "at least 6 columns"),
        ("1,-1,10,20,30,40,0.5", "as those before it"),
        ("1,-1,nan,20,30,40,0.5,-1,-1,-1", "finite"),
        ("1,-1,10,20,inf,40,0.5,-1,-1,-1", "finite"),
        ("1,-1,10,20,30,40,nan,-1,-1,-1", "finite"),
        ("1,-1,ten,20,30,40,0.5,-1,-1,-1", "numbers only"),
        ("0,-1,10,20,30,40,0.5,-1,-1,-1", "frame number from 1"),
        ("1.5,-1,10,20,30,40,0.5,-1,-1,-1", "frame number from 1"),
        ("1,-1,10,20,-30,40,0.5,-1,-1,-1", "w and h"),
        ("frame,id,x,y,w,h,score,a,b,c", "numbers only"),
    ],
)
def test_read_mot_names_the_line_of_what_is_wrong(tmp_path: Path, row: str, reason: str) -> None:
    path = tmp_path / "det.txt"
    path.write_text(f"1,-1,10,20,30,40,0.5,-1,-1,-1\n\n{row}\n")
    with pytest.raises(InvalidInputError, match="line 3") as caught:
        read_mot(path)
    assert reason in str(caught.value)
    assert "det.txt" in str(caught.value)


@pytest.mark.parametrize("content", [None, b"\xff\xfe\x00\x80"])
def test_read_mot_needs_a_text_file(tmp_path: Path, content: bytes | None) -> None:
    if content is not None:
        (tmp_path / "det.txt").write_bytes(content)
    with pytest.raises(InvalidInputError, match=r"det\.txt"):
        read_mot(tmp_path / "det.txt")


def test_jsonl_is_read_back(tmp_path: Path) -> None:
    path = tmp_path / "out.jsonl"
    tracks = make_tracks((7, (10.1, 20, 40.126, 60.005)))
    with JsonlWriter(path, class_names=["person"], config={"tracking": {"max_age": 30}}, source="a.mp4") as writer:
        writer.write(None, make_result(0, detections=make_detections((1, 2, 3, 4)), tracks=tracks, time_s=0.0))
        writer.write(None, make_result(1))
    header, results = read_jsonl(path)
    assert header["kind"] == "header"
    assert (header["class_names"], header["source"], header["config"]["tracking"]) == (
        ["person"],
        "a.mp4",
        {"max_age": 30},
    )
    first, second = results
    np.testing.assert_array_equal(first.tracks.boxes, tracks.boxes)
    assert (second.frame_index, second.detections, second.tracks) == (1, None, None)


def test_jsonl_on_standard_output_is_flushed_at_every_line_and_left_open() -> None:
    class Pipe(io.BytesIO):
        flushes = 0

        def flush(self) -> None:
            self.flushes += 1

    pipe = Pipe()
    with JsonlWriter("-", stdout=pipe) as writer:
        writer.write(None, make_result(0))
        assert pipe.flushes == 2
    assert not pipe.closed
    assert [json.loads(line).get("frame_index") for line in pipe.getvalue().splitlines()] == [None, 0]
    assert not Path("-").exists()


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "must begin with the header"),
        ('{"frame_index": 0}\n', "must begin with the header"),
        ('{"kind": "header"}\n{"frame_index": 0}\n', "line 2"),
        ('{"kind": "header"}\n{"frame_ind', "line 2 must be JSON"),
        ('{"kind": "header"}\n[1]\n', "line 2 must be a JSON object"),
    ],
)
def test_read_jsonl_names_the_line_of_what_is_wrong(tmp_path: Path, text: str, reason: str) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text(text)
    with pytest.raises(InvalidInputError, match=reason):
        list(read_jsonl(path)[1])


def test_coco_results(tmp_path: Path) -> None:
    path = tmp_path / "out.json"
    with CocoWriter(path, category_ids=[1, 18]) as writer:
        first = make_detections((1, 2, 4, 8), (0, 0, 1, 1), label=1, score=0.123456789)
        writer.write(None, make_result(0, detections=first, source="val2017/000000000139.jpg"))
        writer.write(None, make_result(1, detections=make_detections(), source="000000000140.jpg"))
        writer.write(None, make_result(2, detections=make_detections((5, 5, 6, 6)), source="000000000141.jpg"))
    rows = json.loads(path.read_text())
    assert rows[0] == {"image_id": 139, "category_id": 18, "bbox": [1, 2, 3, 6], "score": 0.12346}
    assert [(row["image_id"], row["category_id"]) for row in rows] == [(139, 18), (139, 18), (141, 1)]


def test_coco_results_without_detections_are_an_empty_list(tmp_path: Path) -> None:
    CocoWriter(tmp_path / "out.json", category_ids=[1]).close()
    assert json.loads((tmp_path / "out.json").read_text()) == []


def test_coco_memory_does_not_grow(tmp_path: Path) -> None:
    detections = make_detections(*[(0, 0, 10, 10)] * 200)
    with CocoWriter(tmp_path / "out.json", category_ids=[1]) as writer:
        writer.write(None, make_result(0, detections=detections, source="1.jpg"))
        tracemalloc.start()
        try:
            for index in range(1, 100):
                writer.write(None, make_result(index, detections=detections, source=f"{index + 1}.jpg"))
            grown = tracemalloc.get_traced_memory()[0]
        finally:
            tracemalloc.stop()
    assert (tmp_path / "out.json").stat().st_size > 1_000_000
    assert grown < 100_000


@pytest.mark.parametrize(
    ("source", "expected"),
    [("000000000139.jpg", 139), ("a/COCO_val2014_000000000042.png", 42), ("img7.webp", 7), ("/x/9/frame_0003.jpg", 3)],
)
def test_image_ids_come_from_the_last_number_of_the_name(source: str, expected: int) -> None:
    assert find_image_id(source) == expected


def test_image_ids_are_looked_up_by_the_longest_path_end() -> None:
    ids = {"b/a.jpg": 5, "a.jpg": 6}
    assert [find_image_id(name, ids) for name in ("/data/b/a.jpg", "b/a.jpg", "c/a.jpg")] == [5, 5, 6]


@pytest.mark.parametrize(
    ("sources", "image_ids", "reason"),
    [
        (["photo.jpg"], None, "--coco-gt"),
        ([""], None, "--coco-gt"),
        (["a/1.jpg", "b/1.jpg"], None, "gets 1 again"),
        (["2.jpg"], {"1.jpg": 4}, "must be named in the COCO ground truth"),
    ],
)
def test_an_image_id_that_cannot_be_derived_is_an_error(
    tmp_path: Path, sources: list[str], image_ids: dict[str, int] | None, reason: str
) -> None:
    def run() -> None:
        with CocoWriter(tmp_path / "out.json", category_ids=[1], image_ids=image_ids) as writer:
            for index, source in enumerate(sources):
                writer.write(None, make_result(index, detections=make_detections((0, 0, 1, 1)), source=source))

    with pytest.raises(InvalidInputError, match=reason):
        run()


def test_a_label_without_category_is_an_error(tmp_path: Path) -> None:
    result = make_result(detections=make_detections((0, 0, 1, 1), label=1), source="1.jpg")
    with CocoWriter(tmp_path / "o", category_ids=[1]) as writer, pytest.raises(InvalidInputError, match="label 1"):
        writer.write(None, result)


def test_read_coco_index(tmp_path: Path) -> None:
    path = tmp_path / "gt.json"
    path.write_text('{"images": [{"id": 4, "file_name": "a.jpg"}], "categories": [{"id": 9, "name": "dog"}]}')
    index = read_coco_index(path)
    assert (index.image_ids, index.category_ids) == ({"a.jpg": 4}, {"dog": 9})


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"images": [{}], "categories": []}', "not json"])
def test_read_coco_index_names_a_file_of_another_kind(tmp_path: Path, text: str) -> None:
    path = tmp_path / "gt.json"
    path.write_text(text)
    with pytest.raises(InvalidInputError, match=r"gt\.json must be a COCO"):
        read_coco_index(path)


def test_csv_rows(tmp_path: Path) -> None:
    path = tmp_path / "out.csv"
    with CsvWriter(path, class_names=["person, tall"]) as writer:
        writer.write(None, make_result(0, tracks=make_tracks((7, (1, 2, 3, 4))), time_s=0.04, source='a "b".mp4'))
        writer.write(None, make_result(1, detections=make_detections((1, 2, 3, 4), label=3)))
        writer.write(None, make_result(2, tracks=make_tracks((7, (1, 2, 3, 4)), state=TENTATIVE)))
    with path.open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 2
    assert (rows[0]["track_id"], rows[0]["class_name"], rows[0]["timestamp_s"]) == ("7", "person, tall", "0.040")
    assert (rows[0]["source"], rows[0]["x2"], rows[0]["score"]) == ('a "b".mp4', "3.00", "0.9000")
    assert (rows[1]["track_id"], rows[1]["class_name"], rows[1]["timestamp_s"]) == ("", "3", "")
