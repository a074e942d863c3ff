"""Reading COCO JSON, and the training set that is made of it."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch

from vision.backbones.interface import TENSORFLOW_NORMALIZATION
from vision.errors import ConfigError, InvalidInputError
from vision.training.config import DetectorTrainingConfig
from vision.training.datasets.augmented import DetectionDataset, collate
from vision.training.datasets.detection import read_detection_data
from vision.training.datasets.pictures import AnnotatedImage, load_rgb, readable_images
from vision.training.datasets.training_data import load_training_data


def annotation(image_id: int, category_id: int, bbox: list[float], **fields: Any) -> dict[str, Any]:
    return {"image_id": image_id, "category_id": category_id, "bbox": bbox, "iscrowd": 0, **fields}


def write_coco(path: Path, images: int = 2, annotations: list[dict[str, Any]] | None = None, first: int = 1) -> Path:
    """Write pictures of 40 x 60 and their annotations: categories 3 person, 7 dog."""
    rows = []
    for number in range(first, first + images):
        name = f"{path.stem}_{number}.png"
        cv2.imwrite(str(path.parent / name), np.full((40, 60, 3), 10 * number, np.uint8))
        rows.append({"id": number, "file_name": name, "width": 60, "height": 40})
    document = {
        "images": rows,
        "annotations": annotations or [],
        "categories": [{"id": 7, "name": "dog"}, {"id": 3, "name": "person"}],
    }
    path.write_text(json.dumps(document))
    return path


def test_boxes_become_xyxy_and_labels_follow_the_category_ids(tmp_path: Path) -> None:
    rows = [annotation(1, 3, [5, 6, 10, 20]), annotation(2, 7, [0, 0, 1.5, 2]), annotation(1, 7, [1, 1, 2, 2])]
    images, names = read_detection_data(write_coco(tmp_path / "train.json", annotations=rows))
    assert names == ("person", "dog")
    assert [image.image_id for image in images] == [1, 2]
    assert images[0].path == tmp_path / "train_1.png"
    assert images[0].boxes.tolist() == [[5, 6, 15, 26], [1, 1, 3, 3]]
    assert images[0].boxes.dtype == np.float32
    assert images[0].labels.tolist() == [0, 1]
    assert images[1].boxes.tolist() == [[0, 0, 1.5, 2]]


def test_wanted_classes_set_the_labels_and_leave_out_the_rest(tmp_path: Path) -> None:
    rows = [annotation(1, 3, [5, 6, 10, 20]), annotation(1, 7, [1, 1, 2, 2])]
    path = write_coco(tmp_path / "train.json", annotations=rows)
    images, names = read_detection_data(path, ("dog",))
    assert names == ("dog",)
    assert images[0].labels.tolist() == [0]
    assert images[0].boxes.tolist() == [[1, 1, 3, 3]]
    assert read_detection_data(path, ("dog", "person"))[0][0].labels.tolist() == [1, 0]


def test_crowds_and_boxes_without_area_are_left_out(tmp_path: Path) -> None:
    rows = [
        annotation(1, 3, [0, 0, 30, 30], iscrowd=1),
        annotation(1, 3, [0, 0, 0, 30]),
        annotation(1, 3, [0, 0, 30, -1]),
        annotation(1, 3, [1, 2, 3, 4]),
    ]
    images, _ = read_detection_data(write_coco(tmp_path / "train.json", annotations=rows))
    assert images[0].boxes.tolist() == [[1, 2, 4, 6]]
    assert images[1].boxes.shape == (0, 4)


MALFORMED = {
    "text": "this is no JSON",
    "cut short": '{"images": [',
    "a list": "[]",
    "a number": "3",
    "no categories": '{"images": [], "annotations": []}',
    "images are no list": '{"images": {}, "annotations": [], "categories": []}',
    "category without a name": '{"images": [], "annotations": [], "categories": [{"id": 1}]}',
    "category is no object": '{"images": [], "annotations": [], "categories": ["person"]}',
    "image without a file": '{"images": [{"id": 1}], "annotations": [], "categories": [{"id": 1, "name": "a"}]}',
    "unknown picture": '{"images": [], "annotations": [{"image_id": 5, "category_id": 1, "bbox": [0, 0, 1, 1]}], '
    '"categories": [{"id": 1, "name": "a"}]}',
    "three numbers": '{"images": [{"id": 1, "file_name": "a.png"}], "annotations": '
    '[{"image_id": 1, "category_id": 1, "bbox": [0, 0, 1]}], "categories": [{"id": 1, "name": "a"}]}',
    "words for numbers": '{"images": [{"id": 1, "file_name": "a.png"}], "annotations": '
    '[{"image_id": 1, "category_id": 1, "bbox": ["a", "b", "c", "d"]}], "categories": [{"id": 1, "name": "a"}]}',
}


@pytest.mark.parametrize("text", MALFORMED.values(), ids=MALFORMED.keys())
def test_malformed_files_are_refused_by_name(text: str, tmp_path: Path) -> None:
    path = tmp_path / "train.json"
    path.write_text(text)
    with pytest.raises(InvalidInputError, match=r"train\.json must") as caught:
        read_detection_data(path)
    assert caught.value.path == path


def test_a_missing_file_and_a_binary_one(tmp_path: Path) -> None:
    with pytest.raises(InvalidInputError, match=r"found none at .*absent\.json; check the path"):
        read_detection_data(tmp_path / "absent.json")
    (tmp_path / "picture.json").write_bytes(b"\x89PNG\xff\xfe")
    with pytest.raises(InvalidInputError, match="cannot parse it"):
        read_detection_data(tmp_path / "picture.json")


def test_an_unknown_class_gets_a_suggestion(tmp_path: Path) -> None:
    with pytest.raises(InvalidInputError, match=r"lacks 'persn' \(did you mean 'person'\?\)"):
        read_detection_data(write_coco(tmp_path / "train.json"), ("persn",))


# --- pictures ---


def test_pictures_are_rgb(tmp_path: Path) -> None:
    cv2.imwrite(str(tmp_path / "red.png"), np.full((4, 4, 3), (0, 0, 255), np.uint8))
    assert load_rgb(tmp_path / "red.png")[0, 0].tolist() == [255, 0, 0]


def test_unreadable_pictures_are_skipped_with_a_warning(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    images, _ = read_detection_data(write_coco(tmp_path / "train.json", images=4))
    images[1].path.unlink()
    images[2].path.write_text("this is no picture")
    with caplog.at_level(logging.WARNING):
        kept = readable_images(images)
    assert [image.image_id for image in kept] == [1, 4]
    assert [record.args[0] for record in caplog.records if isinstance(record.args, tuple)] == [
        images[1].path,
        images[2].path,
    ]


def test_no_readable_picture_at_all(tmp_path: Path) -> None:
    with pytest.raises(InvalidInputError, match=r"none of 1 training pictures can be read, first: .*absent\.png"):
        readable_images(
            [AnnotatedImage(tmp_path / "absent.png", 1, np.zeros((0, 4), np.float32), np.zeros(0, np.int64))]
        )
    with pytest.raises(InvalidInputError, match="none of 0"):
        readable_images([])


def test_a_picture_that_breaks_while_reading_is_named(tmp_path: Path) -> None:
    path = tmp_path / "broken.png"
    path.write_bytes(b"no pixels")
    with pytest.raises(InvalidInputError, match=r"broken\.png cannot be read"):
        load_rgb(path)


# --- the training set ---


def make_config(folder: Path, **fields: Any) -> DetectorTrainingConfig:
    values: dict[str, Any] = {"train_data": folder / "train.json", "val_data": folder / "train.json", "image_size": 64}
    return DetectorTrainingConfig(**values | fields)


def test_negatives_are_pictures_without_the_classes(tmp_path: Path) -> None:
    write_coco(tmp_path / "train.json", annotations=[annotation(1, 3, [1, 2, 30, 30])])
    rows = [
        annotation(11, 7, [1, 1, 9, 9]),
        annotation(12, 3, [1, 1, 9, 9]),
        annotation(13, 3, [0, 0, 5, 5], iscrowd=1),
    ]
    write_coco(tmp_path / "more.json", images=4, annotations=rows, first=11)
    data = load_training_data(make_config(tmp_path, classes=("person",), negatives_data=tmp_path / "more.json"))
    images = data.train
    assert data.class_names == ("person",)
    # 12 shows a person, 13 a crowd of them; 11 shows a dog, which is background here.
    assert [image.image_id for image in images] == [1, 2, 11, 14]
    assert all(len(image.labels) == 0 for image in images[1:])


@pytest.fixture
def dataset(tmp_path: Path) -> DetectionDataset:
    rows = [annotation(number, 3, [10, 5, 30, 30]) for number in (1, 2, 3)]
    images, _ = read_detection_data(write_coco(tmp_path / "train.json", images=4, annotations=rows))
    return DetectionDataset(images, make_config(tmp_path, seed=7), TENSORFLOW_NORMALIZATION)


def test_an_item_is_decided_by_seed_epoch_and_index(dataset: DetectionDataset, tmp_path: Path) -> None:
    assert len(dataset) == 4
    first = [dataset[item] for item in (1, 5, 9)]
    other = DetectionDataset(dataset.images, make_config(tmp_path, seed=7), TENSORFLOW_NORMALIZATION)
    for item, (image, target) in zip((9, 5, 1), first[::-1], strict=True):  # in another order
        again, again_target = other[item]
        assert torch.equal(again, image)
        assert torch.equal(again_target.boxes, target.boxes)
    assert not torch.equal(first[0][0], first[1][0])
    assert not torch.equal(first[1][0], first[2][0])
    reseeded = DetectionDataset(dataset.images, make_config(tmp_path, seed=8), TENSORFLOW_NORMALIZATION)
    assert not torch.equal(reseeded[1][0], first[0][0])


def test_items_are_normalised_squares_with_boxes_inside(dataset: DetectionDataset) -> None:
    for item in range(40):
        image, target = dataset[item]
        assert image.shape == (3, 64, 64)
        assert image.dtype == torch.float32
        assert image.abs().max() <= 1.01
        assert target.boxes.dtype == torch.float32
        assert target.labels.dtype == torch.int64
        assert ((target.boxes >= 0) & (target.boxes <= 64)).all()
        assert (target.boxes[:, 2:] > target.boxes[:, :2]).all()


def test_collate_stacks_pictures_and_lists_targets(dataset: DetectionDataset) -> None:
    images, targets = collate([dataset[0], dataset[3]])
    assert images.shape == (2, 3, 64, 64)
    assert [target.boxes.shape[1] for target in targets] == [4, 4]
    assert len(targets[1].boxes) == 0


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"image_size": 100}, "multiple of 64"),
        ({"image_size": 0}, "multiple of 64"),
        ({"epochs": 0}, "eval_every"),
        ({"batch_size": 0}, "batch_size"),
        ({"scale_range": (2.0, 1.0)}, "scale_range"),
        ({"lr": 0.0}, "lr must be > 0"),
        ({"ema_decay": 1.0}, "ema_decay"),
        ({"device": "gpu"}, "device must be auto, cpu or cuda"),
    ],
)
def test_config_ranges(fields: dict[str, Any], words: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=words):
        make_config(tmp_path, **fields)
