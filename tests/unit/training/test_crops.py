"""The crop folder, the held-out people, the P x K sampler and the augmentation."""

import logging
from collections import Counter

import cv2
import numpy as np
import pytest

from vision.backbones.interface import TENSORFLOW_NORMALIZATION
from vision.errors import InvalidInputError
from vision.training.datasets.crops import (
    CropDataset,
    CropSet,
    PeopleSampler,
    keep_cameras,
    load_crops,
    read_crop_folder,
    split_people,
)

FILL = np.array([127, 127, 127], np.uint8)


@pytest.fixture
def folder(tmp_path):
    """Three people with three crops each, by cameras 1 to 3."""
    for person in ("0002", "0007", "0010"):
        (tmp_path / person).mkdir()
        for camera in (1, 2, 3):
            image = np.full((32, 16, 3), int(person) * 10 + camera, np.uint8)
            cv2.imwrite(str(tmp_path / person / f"{person}_c{camera}s1_000451_03.png"), image)
    return tmp_path


def made_crops(counts, size_hw=(32, 16)):
    rng = np.random.default_rng(0)
    person_ids = np.repeat(np.arange(len(counts)), counts)
    images = [rng.integers(0, 256, (*size_hw, 3), dtype=np.uint8) for _ in person_ids]
    return CropSet(
        images, person_ids, np.zeros(len(person_ids), np.int64), tuple(f"{i:04d}" for i in range(len(counts)))
    )


def test_folder_is_read_in_order(folder):
    files = read_crop_folder(folder)
    assert [(file.person, file.camera) for file in files[:4]] == [("0002", 1), ("0002", 2), ("0002", 3), ("0007", 1)]
    assert len(files) == 9


def test_odd_files_are_reported_and_skipped(folder, caplog):
    (folder / "0002" / "Thumbs.db").write_bytes(b"x")
    (folder / "0002" / "portrait.png").write_bytes(b"x")
    (folder / "0007" / "0007_c4s1_000001_01.jpg").write_bytes(b"not a picture")
    (folder / "readme.txt").write_text("stray files beside the person folders are no crops")
    with caplog.at_level(logging.WARNING):
        crops = load_crops(read_crop_folder(folder), ("0002", "0007", "0010"))
    assert len(crops) == 9
    assert {"Thumbs.db", "portrait.png", "0007_c4s1_000001_01.jpg"} == {
        record.getMessage().split(":")[0].rpartition("/")[2] for record in caplog.records
    }


def test_missing_and_empty_folders_are_refused(tmp_path):
    with pytest.raises(InvalidInputError, match="found no folder"):
        read_crop_folder(tmp_path / "absent")
    with pytest.raises(InvalidInputError, match="one subfolder a person"):
        read_crop_folder(tmp_path)


def test_crops_are_rgb_stretched_and_indexed_by_person(tmp_path):
    (tmp_path / "7").mkdir()
    cv2.imwrite(str(tmp_path / "7" / "7_c12_1.png"), np.full((20, 10, 3), (0, 0, 255), np.uint8))
    crops = load_crops(read_crop_folder(tmp_path), ("5", "7"), (128, 64))
    assert crops.images[0].shape == (128, 64, 3)
    assert crops.images[0][0, 0].tolist() == [255, 0, 0]
    assert (crops.person_ids.tolist(), crops.camera_ids.tolist()) == ([1], [12])


def test_people_not_asked_for_are_left_out(folder):
    crops = load_crops(read_crop_folder(folder), ("0007",))
    assert set(crops.person_ids.tolist()) == {0}
    assert len(crops) == 3
    with pytest.raises(InvalidInputError, match="none of the crops"):
        load_crops(read_crop_folder(folder), ("0099",))


def test_held_out_people_are_disjoint_and_independent_of_order():
    people = [f"{i:04d}" for i in range(20)]
    train, held_out = split_people(people, 5)
    assert set(train).isdisjoint(held_out)
    assert held_out == tuple(people[-5:])
    assert split_people(people[::-1] * 2, 5) == (train, held_out)


def test_excluded_people_are_in_neither_part():
    people = [f"{i:04d}" for i in range(20)]
    train, held_out = split_people(people, 5, exclude=4)
    assert held_out == tuple(people[11:16])
    assert train == tuple(people[:11])
    with pytest.raises(InvalidInputError, match="excluding 4 needs at least 21, got 20"):
        split_people(people, 15, exclude=4)


def test_cameras_are_kept_or_left_to_the_others(folder):
    files = read_crop_folder(folder)
    assert keep_cameras(files, ()) == files
    assert {file.camera for file in keep_cameras(files, (1, 3))} == {1, 3}
    assert {file.camera for file in keep_cameras(files, (1, 3), others=True)} == {2}
    with pytest.raises(InvalidInputError, match=r"among \[1, 2, 3\], got \[7\]"):
        keep_cameras(files, (1, 7))
    with pytest.raises(InvalidInputError, match="all there are"):
        keep_cameras(files, (1, 2, 3), others=True)


def test_too_few_people_are_refused():
    with pytest.raises(InvalidInputError, match="at least 4, got 3"):
        split_people(["1", "2", "3"], 2)


def test_batches_hold_p_people_with_k_distinct_crops_each():
    crops = made_crops([5, 6, 4, 7, 9])
    sampler = PeopleSampler(crops.person_ids, people=3, crops=4, seed=0)
    plans = list(sampler)
    assert len(plans) == len(sampler) == 31 // 12
    for plan in plans:
        assert len(set(plan.indices)) == 12
        assert sorted(Counter(crops.person_ids[list(plan.indices)].tolist()).values()) == [4, 4, 4]


def test_people_with_few_crops_are_repeated():
    crops = made_crops([1, 2, 8])
    plans = list(PeopleSampler(crops.person_ids, people=3, crops=4, seed=0))
    for plan in plans:
        assert sorted(Counter(crops.person_ids[list(plan.indices)].tolist()).values()) == [4, 4, 4]


def test_order_depends_on_seed_and_epoch_alone():
    person_ids = made_crops([6] * 8).person_ids

    def plans(seed, epoch):
        sampler = PeopleSampler(person_ids, people=4, crops=2, seed=seed)
        sampler.set_epoch(epoch)
        return list(sampler)

    assert plans(3, 2) == plans(3, 2)
    assert plans(3, 2) != plans(3, 3)
    assert plans(3, 2) != plans(4, 2)


def test_batches_of_more_people_than_there_are_are_refused():
    with pytest.raises(InvalidInputError, match="got 2; lower people"):
        PeopleSampler(made_crops([3, 3]).person_ids, people=3, crops=2, seed=0)


def test_a_batch_repeats_exactly():
    crops = made_crops([4, 4, 4])
    dataset = CropDataset(crops, TENSORFLOW_NORMALIZATION)
    (plan, *_) = PeopleSampler(crops.person_ids, people=3, crops=2, seed=1)
    (images, person_ids), (again, _) = dataset[plan], dataset[plan]
    assert images.shape == (6, 3, 32, 16)
    assert person_ids.tolist() == crops.person_ids[list(plan.indices)].tolist()
    assert (images == again).all()
    assert images.abs().max() <= 1
