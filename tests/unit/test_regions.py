"""What a segmentation says of tracks: whose pixels, on which surface, and the JSON of it."""

from __future__ import annotations

import numpy as np
import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vision.errors import InvalidInputError
from vision.geometry.rle import decode_mask, encode_crop
from vision.regions import TrackRegions
from vision.segmentation.surfaces import regions_of_tracks, thing_labels
from vision.types import FrameResult, SegmentationMap, Tracks

CLASSES = ("sky", "road", "pavement", "pedestrian", "car")
SKY, ROAD, PAVEMENT, PEDESTRIAN, CAR = range(5)


def tracks(*boxes: tuple[float, float, float, float], unseen: tuple[int, ...] = ()) -> Tracks:
    count = len(boxes)
    since = np.array([row in unseen for row in range(count)], np.int64)
    ones = np.ones(count, np.int64)
    return Tracks(
        np.float32(boxes).reshape(-1, 4),
        ones.cumsum(),
        np.ones(count, np.float32),
        ones * 0,
        ones * 2,
        ones,
        since,
        ones,
    )


def street() -> SegmentationMap:
    labels = np.full((100, 200), SKY, np.uint8)
    labels[50:] = ROAD
    labels[50:, 120:] = PAVEMENT
    return SegmentationMap(labels, CLASSES)


def test_a_person_stands_on_what_is_under_the_feet() -> None:
    scene = street()
    scene.labels[30:80, 20:40] = PEDESTRIAN
    scene.labels[30:85, 150:170] = PEDESTRIAN
    found = regions_of_tracks(tracks((18, 28, 42, 80), (148, 28, 172, 85)), scene, ("person",))
    assert found.surfaces == ("road", "pavement")
    assert found.mask(0).sum() == 50 * 20
    assert found.mask(1)[30:85, 150:170].all()
    assert len(found) == 2


def test_of_two_people_the_nearer_one_gets_the_pixels() -> None:
    scene = street()
    scene.labels[20:90, 20:60] = PEDESTRIAN
    nearer, farther = (30.0, 20.0, 60.0, 90.0), (20.0, 20.0, 50.0, 80.0)
    for boxes in ((nearer, farther), (farther, nearer)):
        found = regions_of_tracks(tracks(*boxes), scene, ("person",))
        front = boxes.index(nearer)
        assert found.mask(front).sum() == 70 * 30
        assert found.mask(1 - front).sum() == 60 * 10


def test_pixels_of_other_things_are_nobodys() -> None:
    scene = street()
    scene.labels[40:80, 10:60] = CAR
    found = regions_of_tracks(tracks((10, 20, 60, 80)), scene, ("person",))
    assert not found.mask(0).any()
    # Half of the foot is the car, the rest below it road; a person may stand before a car but not on itself.
    assert found.surfaces[0] in ("road", "car")
    unnamed = regions_of_tracks(tracks((10, 20, 60, 80)), scene, ())
    assert unnamed.mask(0).sum() == 40 * 50
    assert unnamed.surfaces == ("road",)


@pytest.mark.parametrize("box", [(-500, -500, -400, -400), (300, 10, 320, 90), (10, 150, 20, 200), (50, 60, 50, 60)])
def test_boxes_outside_have_no_pixel(box: tuple[float, float, float, float]) -> None:
    scene = street()
    found = regions_of_tracks(tracks(box), scene, ("person",))
    assert not found.mask(0).any()
    assert found.surfaces[0] in (None, "road")


def test_a_track_that_was_not_seen_has_neither() -> None:
    scene = street()
    scene.labels[30:80, 20:40] = PEDESTRIAN
    found = regions_of_tracks(tracks((18, 28, 42, 80), unseen=(0,)), scene, ("person",))
    assert found.surfaces == (None,)
    assert not found.mask(0).any()


def test_things_have_the_names_of_both_worlds() -> None:
    assert thing_labels("person", CLASSES) == [PEDESTRIAN]
    assert thing_labels("road", CLASSES) == [ROAD]
    assert thing_labels("dog", CLASSES) == []
    assert thing_labels("truck", CLASSES) == [CAR]
    voc = ("background", "aeroplane", "bus", "car", "motorbike", "person", "sofa", "tvmonitor", "pottedplant")
    found = [thing_labels(name, voc) for name in ("airplane", "bus", "motorcycle", "couch", "tv", "potted plant")]
    assert found == [[1], [2], [4], [6], [7], [8]]


def test_what_is_no_class_is_no_surface() -> None:
    labels = np.zeros((100, 200), np.uint8)
    labels[78:82] = 1
    kept = SegmentationMap(labels, ("other", "road"))
    boxes = ((20, 20, 40, 80), (20, 20, 40, 50))
    assert regions_of_tracks(tracks(*boxes), kept, ("person",)).surfaces == ("road", None)


def test_json_gives_an_equal_value() -> None:
    owners = np.random.default_rng(0).integers(-1, 3, (37, 53)).astype(np.int32)
    owners[owners == 1] = 0
    value = TrackRegions(owners, ("road", None, "pavement"))
    followed = tracks(*[(0, 0, 9, 9)] * 3)
    row = orjson.loads(orjson.dumps(FrameResult(0, size_hw=(37, 53), tracks=followed, regions=value).to_dict()))
    assert row["regions"]["masks"][1] is None
    again = FrameResult.from_dict(row).regions
    assert again is not None
    np.testing.assert_array_equal(again.owners, owners)
    assert again.surfaces == value.surfaces


def test_json_without_the_map_is_short() -> None:
    result = FrameResult(0, size_hw=(100, 200), segmentation=street())
    assert "segmentation" in result.to_dict()
    assert "segmentation" not in result.to_dict(segmentation=False)


def test_damaged_masks_are_refused() -> None:
    row = TrackRegions(np.zeros((4, 4), np.int32), ("road",)).to_dict()
    with pytest.raises(InvalidInputError, match="size of its frame, 5 x 4"):
        TrackRegions.from_dict({**row, "size_hw": [5, 4]})
    with pytest.raises(InvalidInputError, match="must sum to"):
        TrackRegions.from_dict({**row, "masks": [{"size": [4, 4], "counts": "01"}]})


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"size_hw": [60000, 60000], "surfaces": [], "masks": []}, "at most 100000000 pixels"),
        ({"size_hw": [-4, -4], "masks": [None]}, "a height and a width"),
        ({"masks": []}, "got 1 and 0"),
        ({"masks": [None, None]}, "got 1 and 2"),
    ],
)
def test_forged_regions_are_refused(change: dict[str, object], words: str) -> None:
    row = TrackRegions(np.zeros((4, 4), np.int32), ("road",)).to_dict()
    with pytest.raises(InvalidInputError, match=words):
        TrackRegions.from_dict({**row, **change})


def test_regions_are_those_of_the_frame_and_its_tracks() -> None:
    regions = TrackRegions(np.zeros((4, 4), np.int32), ("road",))
    one = tracks((0, 0, 4, 4))
    row = FrameResult(0, size_hw=(4, 4), tracks=one, regions=regions).to_dict()
    for followed, words in ((None, "no tracks"), (tracks(), "1 regions and 0 tracks")):
        with pytest.raises(InvalidInputError, match=words):
            FrameResult(0, size_hw=(4, 4), tracks=followed, regions=regions)
    for size_hw in ((9, 9), None):
        with pytest.raises(InvalidInputError, match=r"must have its size .*, got \(4, 4\)"):
            FrameResult(0, size_hw=size_hw, tracks=one, regions=regions)
        with pytest.raises(InvalidInputError, match="must have its size"):
            FrameResult.from_dict({**row, "size_hw": size_hw})


def test_scores_of_a_segmentation_are_not_in_json() -> None:
    scene = street()
    scored = SegmentationMap(scene.labels, CLASSES, np.ones(scene.labels.shape, np.float32))
    again = FrameResult.from_dict(FrameResult(0, size_hw=(100, 200), segmentation=scored).to_dict()).segmentation
    assert again is not None
    np.testing.assert_array_equal(again.labels, scene.labels)
    assert again.scores is None


@pytest.mark.parametrize(
    ("owners", "words"),
    [
        (np.zeros((2, 2), np.int64), r"int32 \[H, W\]"),
        (np.ones((2, 2), np.int32), "rows of 1 tracks, got 1 to 1"),
        (np.full((2, 2), -2, np.int32), "got -2"),
    ],
)
def test_owners_are_rows(owners: np.ndarray, words: str) -> None:
    with pytest.raises(InvalidInputError, match=words):
        TrackRegions(owners, ("road",))


@given(
    st.integers(1, 6), st.integers(1, 6), st.integers(0, 3), st.integers(0, 3), st.integers(0, 3), st.integers(0, 3),
    st.integers(0, 2**36 - 1),
)  # fmt: skip
def test_a_crop_is_coded_as_the_whole(
    height: int, width: int, above: int, below: int, left: int, right: int, bits: int
) -> None:
    crop = np.array([bits >> place & 1 for place in range(height * width)], bool).reshape(height, width)
    whole = np.pad(crop, ((above, below), (left, right)))
    counts = encode_crop(crop, (above, left), whole.shape)
    np.testing.assert_array_equal(decode_mask({"size": whole.shape, "counts": counts}), whole)
