"""A segmentation above its picture: colours, borders, and a legend that fits and says what it leaves out."""

from __future__ import annotations

import numpy as np
import pytest

from vision.errors import InvalidInputError
from vision.palette import PALETTE_RGB, STREET_RGB, mask_palette
from vision.render import Annotator
from vision.render_segmentation import blend_segmentation, border_pixels, classes_shown, write_legend
from vision.types import Frame, FrameResult, SegmentationMap

GREY = 90
STREET = tuple(STREET_RGB)


def halves(
    left: int, right: int, names: tuple[str, ...] = STREET, size_hw: tuple[int, int] = (120, 160)
) -> SegmentationMap:
    labels = np.full(size_hw, left, np.uint8)
    labels[:, size_hw[1] // 2 :] = right
    return SegmentationMap(labels, names)


def grey(size_hw: tuple[int, int] = (120, 160)) -> np.ndarray:
    return np.full((*size_hw, 3), GREY, np.uint8)


def swatches(picture: np.ndarray, names: tuple[str, ...] = STREET) -> list[str]:
    """Return the names whose full colour stands in the lower quarter, from above and from left to right."""
    strip = picture[picture.shape[0] * 3 // 4 :].astype(np.int64)
    colours, first = np.unique(strip @ (65536, 256, 1), return_index=True)
    places = dict(zip(colours.tolist(), first.tolist(), strict=True))
    codes = {name: r * 65536 + g * 256 + b for name, (r, g, b) in zip(names, mask_palette(names), strict=True)}
    return sorted((name for name in names if codes[name] in places), key=lambda name: places[codes[name]])


def test_each_class_has_its_colour_and_its_border() -> None:
    image = grey()
    blended = blend_segmentation(image, halves(0, 3), opacity=0.5)
    sky, road = (np.array(STREET_RGB[name]) for name in ("sky", "road"))
    assert np.abs(blended[60, 10].astype(int) - (GREY + sky) / 2).max() <= 1
    assert np.abs(blended[60, 150].astype(int) - (GREY + road) / 2).max() <= 1
    assert (blended[60, 79] == sky).all()
    assert (image == GREY).all()
    without = blend_segmentation(image, halves(0, 3), borders=False)
    assert (without[60, 79] == without[60, 10]).all()


@pytest.mark.parametrize("dtype", [np.uint8, np.int64])
def test_background_stays_as_it_is(dtype: type) -> None:
    segmentation = halves(0, 1, ("background", "lamp"))
    segmentation = SegmentationMap(segmentation.labels.astype(dtype), segmentation.class_names)
    blended = blend_segmentation(grey(), segmentation, opacity=1)
    assert (blended[:, :80] == GREY).all()
    assert (blended[:, 80:] == PALETTE_RGB[0]).all()


def test_labels_beyond_a_byte_have_borders_of_their_own() -> None:
    names = tuple(str(number) for number in range(300))
    segmentation = SegmentationMap(np.array([[1, 257], [1, 257]], np.int64), names)
    assert border_pixels(segmentation.labels).tolist() == [[True, False], [True, False]]
    assert blend_segmentation(grey((2, 2)), segmentation).shape == (2, 2, 3)


def test_borders_grow_with_the_picture() -> None:
    assert border_pixels(halves(0, 1).labels).sum() == 120
    assert border_pixels(halves(0, 1, size_hw=(2160, 3840)).labels).sum() > 2 * 2160


def test_a_map_of_another_size_is_refused() -> None:
    with pytest.raises(InvalidInputError, match=r"size of its picture \(4, 4\), got \(120, 160\)"):
        blend_segmentation(grey((4, 4)), halves(0, 1))


def test_classes_are_named_by_area_without_specks_and_background() -> None:
    labels = np.zeros((1000, 1000), np.uint8)
    labels[:, 600:] = 2
    labels[0, 0] = 3  # one pixel of a million
    labels[:400, :100] = 4
    assert classes_shown(SegmentationMap(labels, ("other", "a", "b", "c", "d"))) == ["b", "d"]
    assert classes_shown(SegmentationMap(np.ones((1, 1), np.uint8), ("a", "b"))) == ["b"]


@pytest.mark.parametrize("size_hw", [(360, 480), (480, 640), (1080, 1920), (1920, 1080)])
def test_a_legend_names_all_classes_along_the_lower_edge(size_hw: tuple[int, int]) -> None:
    picture = grey(size_hw)
    write_legend(picture, STREET[::-1], STREET)
    strip = int(np.argmax((picture != GREY).any(axis=(1, 2))))
    assert (picture[:strip] == GREY).all()
    assert strip >= 0.75 * size_hw[0]
    assert sorted(swatches(picture)) == sorted(STREET)
    first_row = swatches(picture)[:3]
    assert first_row == list(STREET[:3])
    assert (picture.max(axis=2)[strip:] > 230).any()


def test_a_legend_without_room_keeps_the_largest_classes() -> None:
    picture = grey((150, 220))
    write_legend(picture, STREET[::-1], STREET)
    kept = swatches(picture)
    assert "bicyclist" in kept
    assert "sky" not in kept
    assert len(STREET) // 2 < len(kept) < len(STREET)


@pytest.mark.parametrize("size_hw", [(1, 1), (8, 8), (20, 900), (120, 40)])
def test_a_picture_too_small_for_a_legend_stays(size_hw: tuple[int, int]) -> None:
    picture = grey(size_hw)
    write_legend(picture, STREET, STREET)
    write_legend(picture, [], STREET)
    assert (picture == GREY).all()


def test_names_in_other_alphabets_can_be_written() -> None:
    picture = grey((360, 480))
    write_legend(picture, ["Straße", "дерево"], ["Straße", "дерево"])
    assert len(swatches(picture, ("Straße", "дерево"))) == 2


def drawn(annotator: Annotator, segmentation: SegmentationMap, timestamp_s: float | None) -> list[str]:
    """Return the names in the legend; the map itself is drawn without strength, and so without colour."""
    frame = Frame(grey((360, 480)), 0, timestamp_s)
    picture = annotator.draw(frame, FrameResult(0, segmentation=segmentation))
    return swatches(picture)


def test_a_video_keeps_the_classes_it_met_and_pictures_do_not() -> None:
    maps = [halves(0, 8, size_hw=(360, 480)), halves(0, 3, size_hw=(360, 480))]
    still, video, plain = Annotator(), Annotator(), Annotator(legend=False)
    assert [drawn(still, each, None) for each in maps] == [["sky", "car"], ["sky", "road"]]
    assert [drawn(video, each, time) for time, each in enumerate(maps)] == [["sky", "car"], ["sky", "road", "car"]]
    assert all("road" not in drawn(plain, maps[0], None) for _ in range(2))
