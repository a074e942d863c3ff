"""Writers of segmentations: index masks, areas, COCO masks."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from io_results import make_frame, make_result
from PIL import Image

from vision.errors import InvalidInputError, OutputExistsError
from vision.geometry.rle import decode_mask, expand_counts
from vision.io.writers.areas import AreaCsvWriter
from vision.io.writers.coco_masks import CocoMasksWriter, mask_rows
from vision.io.writers.masks import MasksWriter, write_index_mask
from vision.types import Frame, FrameResult, SegmentationMap

NAMES = ("road", "car", "sky")
PALETTE = [(128, 64, 128), (0, 0, 255), (1, 2, 3)]
LABELS = np.array([[0, 0, 2], [0, 2, 2]], np.uint8)


def segmented(
    labels: np.ndarray = LABELS, *, source: str = "a.jpg", index: int = 0, time_s: float | None = None,
    scores: np.ndarray | None = None,
) -> tuple[Frame, FrameResult]:  # fmt: skip
    size_hw = (labels.shape[0], labels.shape[1])
    frame = make_frame(index, size_hw, source=source, time_s=time_s)
    return frame, FrameResult(index, time_s, source, size_hw, segmentation=SegmentationMap(labels, NAMES, scores))


def masks_writer(folder: Path, **options: object) -> MasksWriter:
    return MasksWriter(folder, class_names=NAMES, palette=PALETTE, **options)


# --- index masks ---


@pytest.mark.parametrize("dtype", [np.uint8, np.int64])
def test_a_mask_holds_numbers_and_shows_colours(tmp_path: Path, dtype: type) -> None:
    with masks_writer(tmp_path / "m") as writer:
        writer.write(*segmented(LABELS.astype(dtype), source="in/a.jpg"))
    with Image.open(tmp_path / "m" / "a.png") as mask:
        assert mask.mode == "P"
        np.testing.assert_array_equal(np.asarray(mask), LABELS)
        assert mask.convert("RGB").getpixel((2, 0)) == (1, 2, 3)
    assert (tmp_path / "m" / "classes.txt").read_text() == "road\ncar\nsky\n"


def test_training_reads_what_is_written(tmp_path: Path) -> None:
    from vision.training.datasets.masks import MaskFormat, read_mask

    with masks_writer(tmp_path / "m") as writer:
        writer.write(*segmented())
    np.testing.assert_array_equal(read_mask(tmp_path / "m" / "a.png", MaskFormat(NAMES)), LABELS)


def test_no_two_pictures_share_a_mask(tmp_path: Path) -> None:
    names = ["a.jpg", "a.webp", "a.png", "a.png.jpg", "a", "sub/a.jpg", "b.1.jpg", "b.2.jpg"]
    with masks_writer(tmp_path / "m", relative_name=lambda frame: frame.source) as writer:
        for index, name in enumerate(names):
            writer.write(*segmented(np.full((1, index + 1), 1, np.uint8), source=name))
    widths = set()
    for path in (tmp_path / "m").rglob("*.png"):
        with Image.open(path) as mask:
            widths.add(mask.size[0])
    assert widths == set(range(1, len(names) + 1))
    assert {"a.png", "a.webp.png", "b.1.png", "b.2.png"} < {path.name for path in (tmp_path / "m").iterdir()}


def test_frames_of_a_video_are_not_remembered(tmp_path: Path) -> None:
    with masks_writer(tmp_path / "m", relative_name=lambda frame: f"v/{frame.index + 1:06d}.jpg") as writer:
        for index in range(3):
            writer.write(*segmented(source="v.mp4", index=index, time_s=index / 10))
        assert not writer._owners
    assert len(list((tmp_path / "m" / "v").iterdir())) == 3


def test_masks_are_refused_where_they_cannot_be(tmp_path: Path) -> None:
    with pytest.raises(InvalidInputError, match="256 classes"):
        MasksWriter(tmp_path / "m", class_names=list(map(str, range(257))), palette=[(0, 0, 0)] * 257)
    with masks_writer(tmp_path / "m") as writer:
        with pytest.raises(InvalidInputError, match="run stride32 segment"):
            writer.write(make_frame(), make_result())
        with pytest.raises(InvalidInputError, match=r"without '\.\.'"):
            masks_writer(tmp_path / "n", relative_name=lambda frame: "../a.jpg").write(*segmented())
    with pytest.raises(OutputExistsError):
        masks_writer(tmp_path / "m")
    masks_writer(tmp_path / "m", overwrite=True).close()


def test_masks_of_other_classes_are_never_mixed(tmp_path: Path) -> None:
    with masks_writer(tmp_path / "m", relative_name=lambda frame: "below/a.jpg") as writer:
        writer.write(*segmented())
    for overwrite in (False, True):
        with pytest.raises(OutputExistsError, match="another folder" if overwrite else "--overwrite"):
            MasksWriter(tmp_path / "m", class_names=("other", "car"), palette=PALETTE, overwrite=overwrite)
    assert (tmp_path / "m" / "classes.txt").read_text() == "road\ncar\nsky\n"
    masks_writer(tmp_path / "m", overwrite=True).close()
    (tmp_path / "m" / "below" / "a.png").unlink()
    MasksWriter(tmp_path / "m", class_names=("other", "car"), palette=PALETTE, overwrite=True).close()
    assert (tmp_path / "m" / "classes.txt").read_text() == "other\ncar\n"


def test_one_mask_appears_whole_or_not_at_all(tmp_path: Path) -> None:
    path = tmp_path / "new" / "a.png"
    with pytest.raises(ValueError, match="palette"):
        write_index_mask(path, LABELS, [(0, 0, 0)] * 257)
    for labels in (LABELS.astype(np.int64), LABELS[0]):
        with pytest.raises(InvalidInputError, match="an index mask must be uint8"):
            write_index_mask(path, labels, PALETTE)
    assert list(path.parent.iterdir()) == []
    write_index_mask(path, LABELS.T, PALETTE)
    with Image.open(path) as mask:
        np.testing.assert_array_equal(np.asarray(mask), LABELS.T)
    with pytest.raises(OutputExistsError):
        write_index_mask(path, LABELS, PALETTE)
    write_index_mask(path, LABELS, PALETTE, overwrite=True)


# --- areas ---


def test_areas_have_a_row_for_every_class(tmp_path: Path) -> None:
    with AreaCsvWriter(tmp_path / "a.csv") as writer:
        writer.write(*segmented(source="a, b.jpg"))
        writer.write(*segmented(index=1, time_s=0.04))
        with pytest.raises(InvalidInputError, match="areas need a segmentation"):
            writer.write(make_frame(), make_result())
    lines = (tmp_path / "a.csv").read_text().splitlines()
    assert lines[0] == "frame_index,timestamp_s,source,label,class_name,pixels,share"
    assert lines[1:4] == [
        '0,,"a, b.jpg",0,road,3,0.500000',
        '0,,"a, b.jpg",1,car,0,0.000000',
        '0,,"a, b.jpg",2,sky,3,0.500000',
    ]
    assert lines[4].startswith("1,0.040,a.jpg,0,road")
    assert len(lines) == 7


# --- COCO masks ---


def test_coco_masks_of_the_classes_that_occur(tmp_path: Path) -> None:
    scores = np.array([[0.5, 0.7, 0.9], [0.6, 0.8, 1.0]], np.float32)
    with CocoMasksWriter(tmp_path / "c.json", category_ids=[11, 12, 13]) as writer:
        writer.write(*segmented(source="7.jpg", scores=scores))
        writer.write(*segmented(source="8.jpg", index=1))
    rows = json.loads((tmp_path / "c.json").read_text())
    assert [(row["image_id"], row["category_id"], row["area"]) for row in rows] == [
        (7, 11, 3), (7, 13, 3), (8, 11, 3), (8, 13, 3),
    ]  # fmt: skip
    assert rows[0]["bbox"] == [0, 0, 2, 2]
    assert rows[1]["bbox"] == [1, 0, 2, 2]
    assert [row["score"] for row in rows] == [0.6, 0.9, 1, 1]
    for row, true in zip(rows, [label == LABELS for label in (0, 2, 0, 2)], strict=True):
        runs = {**row["segmentation"], "counts": expand_counts(row["segmentation"]["counts"])}
        np.testing.assert_array_equal(decode_mask(runs), true)


def test_coco_reads_them_as_results(tmp_path: Path) -> None:
    coco = pytest.importorskip("faster_coco_eval", reason="needs faster-coco-eval (the extra eval)")
    with CocoMasksWriter(tmp_path / "c.json", category_ids=[1, 2, 3]) as writer:
        writer.write(*segmented(source="7.jpg"))
    truth = {
        "images": [{"id": 7, "width": 3, "height": 2, "file_name": "7.jpg"}],
        "categories": [{"id": place, "name": name} for place, name in enumerate(NAMES, start=1)],
        "annotations": [
            {"id": place, "image_id": 7, "category_id": label + 1, "iscrowd": 0, **row}
            for place, (label, row) in enumerate(mask_rows(SegmentationMap(LABELS, NAMES)), start=1)
        ],
    }
    ground = coco.COCO(truth)
    scores = coco.COCOeval_faster(ground, ground.loadRes(str(tmp_path / "c.json")), "segm")
    scores.run()
    assert scores.stats[0] == pytest.approx(1)


def test_labels_that_are_left_out_and_frames_of_a_video(tmp_path: Path) -> None:
    writer = CocoMasksWriter(
        tmp_path / "c.json", category_ids=[0, 2, 3], left_out=[0],
        relative_name=lambda frame: f"v/{frame.index + 1:06d}.jpg",
    )  # fmt: skip
    with writer:
        for index in range(2):
            writer.write(*segmented(source="v.mp4", index=index, time_s=index / 10))
        with pytest.raises(InvalidInputError, match="COCO masks need a segmentation"):
            writer.write(make_frame(), make_result(source="9.jpg"))
    rows = json.loads((tmp_path / "c.json").read_text())
    assert [(row["image_id"], row["category_id"]) for row in rows] == [(1, 3), (2, 3)]
