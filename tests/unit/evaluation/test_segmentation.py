"""Scores of segmentation against hand-counted pixels."""

import numpy as np
import pytest

from vision.errors import InvalidInputError
from vision.evaluation.borders import border_f_score, border_of, border_tolerance
from vision.evaluation.segmentation import SegmentationMeter, labels_by_name

NAMES = ("road", "car", "sky")


def meter_of(labels, truth, **options):
    meter = SegmentationMeter(NAMES, **options)
    meter.add(np.array(labels, np.uint8), np.array(truth, np.uint8))
    return meter


def test_iou_by_hand_with_ignored_pixels():
    meter = meter_of([[0, 0, 1, 1]], [[0, 1, 1, 255]], borders=False)
    scores = meter.scores()
    assert scores["iou/road"] == pytest.approx(1 / 2)
    assert scores["iou/car"] == pytest.approx(1 / 2)
    assert np.isnan(scores["iou/sky"])
    assert scores["mIoU"] == pytest.approx(1 / 2)
    assert scores["accuracy"] == pytest.approx(2 / 3)
    assert scores["class_accuracy"] == pytest.approx((1 + 1 / 2) / 2)
    assert scores["pictures"] == 1
    np.testing.assert_array_equal(meter.confusion, [[1, 0, 0], [1, 1, 0], [0, 0, 0]])


def test_a_class_found_where_none_is_has_iou_zero_and_does_not_count_in_the_mean():
    scores = meter_of([[0, 2]], [[0, 0]], borders=False).scores()
    assert scores["iou/sky"] == 0
    assert scores["mIoU"] == pytest.approx(1 / 2)


def test_pictures_add_up():
    meter = meter_of([[0]], [[0]], borders=False)
    meter.add(np.array([[1, 1]]), np.array([[0, 1]], np.uint8))
    assert meter.scores()["iou/road"] == pytest.approx(1 / 2)
    assert meter.scores()["pictures"] == 2


def test_nothing_known_scores_nothing():
    scores = meter_of([[0]], [[255]], borders=False).scores()
    assert np.isnan(scores["mIoU"])
    assert np.isnan(scores["accuracy"])


def test_maps_of_another_size_are_refused():
    with pytest.raises(InvalidInputError, match="must have one size"):
        meter_of([[0, 1]], [[0]])


def square(left, size=40, side=10):
    mask = np.zeros((size, size), bool)
    mask[10 : 10 + side, left : left + side] = True
    return mask


def test_borders_of_a_square():
    assert border_of(square(10)).sum() == 4 * 10 - 4


def test_the_pictures_edge_is_no_border():
    assert border_of(np.ones((5, 5), bool)).sum() == 0


def test_border_f_score_forgives_within_the_radius():
    assert border_f_score(square(10), square(10), 1) == 1
    assert border_f_score(square(11), square(10), 1) == 1
    assert border_f_score(square(14), square(10), 1) < 0.7
    assert border_f_score(square(25), square(10), 1) == 0
    assert border_f_score(np.zeros((40, 40), bool), square(10), 1) == 0
    assert border_f_score(np.ones((40, 40), bool), np.ones((40, 40), bool), 1) == 1


def brute_force(labels, truth, count, ignore):
    """Count pixel by pixel, and average as the definitions say."""
    pairs = [(t, f) for t, f in zip(truth.ravel().tolist(), labels.ravel().tolist(), strict=True) if t != ignore]
    iou, recall = {}, {}
    for label in range(count):
        both = sum(t == f == label for t, f in pairs)
        either = sum(label in pair for pair in pairs)
        true = sum(t == label for t, _ in pairs)
        if either:
            iou[label] = both / either
        if true:
            recall[label] = both / true
    occurring = [iou[label] for label in recall]
    return {
        "mIoU": np.mean(occurring),
        "accuracy": np.mean([t == f for t, f in pairs]),
        "class_accuracy": np.mean(list(recall.values())),
        **{f"iou/{NAMES[label]}": iou.get(label, float("nan")) for label in range(count)},
    }


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("ignore", [255, 3])
def test_scores_equal_counting_pixel_by_pixel(seed, ignore):
    rng = np.random.default_rng(seed)
    pictures = [(rng.integers(0, 3, (2, size, 7)).astype(np.uint8)) for size in (5, 9)]
    meter = SegmentationMeter(NAMES, ignore=ignore, borders=False)
    for labels, truth in pictures:
        truth[rng.random(truth.shape) < 0.2] = ignore
        if seed % 2:
            truth[truth == 2] = 0  # a class that is found and never true
        meter.add(labels, truth)
    flat = [np.concatenate([picture[at].ravel() for picture in pictures]) for at in (0, 1)]
    expected = brute_force(*flat, 3, ignore)
    found = meter.scores()
    for name, value in expected.items():
        assert found[name] == pytest.approx(value, nan_ok=True), name


def test_the_table_of_classes():
    meter = meter_of([[0, 0, 1, 1]], [[0, 1, 1, 255]], borders=False)
    road, car, sky = meter.classes()
    assert (road.pixels, road.found_pixels, road.recall, road.precision) == (1, 2, 1, 0.5)
    assert (car.pixels, car.found_pixels, car.recall, car.precision) == (2, 1, 0.5, 1)
    assert (sky.pixels, sky.found_pixels) == (0, 0)
    assert all(np.isnan([sky.iou, sky.recall, sky.precision, sky.border_f1, road.border_f1]))


@pytest.mark.parametrize(("labels", "truth"), [([[0, 3]], [[0, 0]]), ([[0, 0]], [[0, 7]])])
def test_numbers_that_are_no_class_are_refused(labels, truth):
    with pytest.raises(InvalidInputError, match="labels must be 0 to 2"):
        meter_of(labels, truth)


# --- borders ---


def slow_border_f(found, wanted, radius):
    """Compare every border pixel with every other; pixels outside of the picture are like those inside."""

    def border(mask):
        padded = np.pad(mask, 1, mode="edge")
        inner = padded[:-2, 1:-1] & padded[2:, 1:-1] & padded[1:-1, :-2] & padded[1:-1, 2:]
        return np.argwhere(mask & ~inner)

    ours, theirs = border(found), border(wanted)
    near = np.hypot(*(ours[:, None] - theirs[None]).transpose(2, 0, 1)) <= radius
    precision, recall = near.any(axis=1).mean(), near.any(axis=0).mean()
    return 2 * precision * recall / (precision + recall) if precision + recall else 0


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize("radius", [1, 2.3, 4.5])
def test_the_border_score_equals_comparing_all_pairs(seed, radius):
    rng = np.random.default_rng(seed)
    found, wanted = (np.kron(rng.random((5, 6)) < 0.4, np.ones((4, 4), bool)).astype(bool) for _ in range(2))
    found = np.roll(found, seed % 3, axis=1)
    assert border_f_score(found, wanted, radius) == pytest.approx(slow_border_f(found, wanted, radius))


def test_half_of_a_border_by_hand():
    """The left half of a strip is found: its two long sides are right, its end is not, and half of the strip is
    missed."""
    wanted, found = np.zeros((20, 100), bool), np.zeros((20, 100), bool)
    wanted[8:12] = True
    found[8:12, :50] = True
    # Found: 50 + 50 along the sides, 2 more at the end, all within 1 of the strip's border.
    recall = (2 * 51) / 200  # one further pixel a side lies within 1 of the end
    assert border_f_score(found, wanted, 1) == pytest.approx(2 * recall / (1 + recall))


def test_where_nothing_is_known_a_border_counts_neither_way():
    wanted, unknown = np.zeros((20, 40), bool), np.zeros((20, 40), bool)
    wanted[:, :15] = True
    unknown[:, 15:25] = True
    found = np.zeros((20, 40), bool)
    for end in (15, 20, 25):
        found[:, :end] = True
        assert border_f_score(found, wanted, 1, unknown) == 1
    # Beyond the unknown strip the truth says that it is another class.
    found[:, :30] = True
    assert border_f_score(found, wanted, 1, unknown) == 0
    # Before it, most of what is known is missed, but no border of it.
    found[:] = False
    found[:, :14] = True
    assert border_f_score(found, wanted, 1, unknown) == 1
    found[:] = False
    found[:, :5] = True
    assert border_f_score(found, wanted, 1, unknown) == 0
    found[:] = False
    found[:, 17:20] = True
    assert border_f_score(found, wanted, 1, unknown) == 0


def test_the_tolerance_grows_with_the_picture():
    assert border_tolerance((360, 480)) == pytest.approx(4.5)
    assert border_tolerance((3, 4)) == 1


def test_borders_are_averaged_over_the_pictures_that_show_the_class():
    blank, half = np.zeros((40, 40), np.uint8), np.zeros((40, 40), np.uint8)
    half[:, 20:] = 1
    meter = SegmentationMeter(NAMES)
    meter.add(half, half)
    meter.add(blank, half)
    meter.add(half, blank)
    road, car, _ = meter.classes()
    assert car.border_f1 == pytest.approx(1 / 2)
    # Road in the last picture: no border is true, the found one lies nowhere near one.
    assert road.border_f1 == pytest.approx((1 + 0 + 0) / 3)
    assert meter.scores()["border_f1"] == pytest.approx((1 / 2 + 1 / 3) / 2)


# --- classes by name ---


def test_mask_values_are_matched_by_name():
    table = labels_by_name(("sky", "road", "car"), NAMES)
    assert table.tolist()[:4] == [2, 0, 1, -1]
    assert table[255] == -1


def test_what_only_the_masks_know_is_other_or_not_counted(caplog):
    assert labels_by_name(("dog", "car"), ("other", "car")).tolist()[:3] == [0, 1, -1]
    assert labels_by_name(("dog", "car"), NAMES).tolist()[:2] == [-1, 1]
    assert "pixels of dog are not counted" in caplog.text


def test_an_ignored_value_is_no_class_whatever_its_name():
    assert labels_by_name(("void", "road"), ("void", "road"), ignore=0).tolist()[:2] == [-1, 1]


def test_nothing_in_common_is_refused():
    with pytest.raises(InvalidInputError, match=r"classes in common.*dog.*road, car, sky"):
        labels_by_name(("dog", "cat"), NAMES)
