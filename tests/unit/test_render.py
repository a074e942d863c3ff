from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest

from vision.errors import InvalidInputError
from vision.palette import PALETTE_RGB, STREET_RGB
from vision.render import Annotator, contact_sheet
from vision.types import Classification, Detections, Frame, FrameResult, SegmentationMap, Tracks, TrackState

GREY = 90


def make_frame(size_hw: tuple[int, int] = (120, 160)) -> Frame:
    return Frame(np.full((*size_hw, 3), GREY, np.uint8))


def make_tracks(*ids: int, x: float = 40, state: TrackState = TrackState.CONFIRMED, missed: int = 0) -> Tracks:
    n = len(ids)
    boxes = np.array([(x, 50 + 5 * row, x + 40, 90 + 5 * row) for row in range(n)], np.float32).reshape(n, 4)
    column = np.zeros(n, np.int64)
    return Tracks(
        boxes, np.array(ids, np.int64), np.full(n, 0.83), column, column + state, column, column + missed, column
    )


def colours(image: np.ndarray) -> set[tuple[int, ...]]:
    return {tuple(pixel) for pixel in np.unique(image.reshape(-1, 3), axis=0).tolist()}


def test_import_is_cheap() -> None:
    code = "import sys, vision.render; print([n for n in ('supervision', 'matplotlib', 'torch') if n in sys.modules])"
    assert (
        subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip() == "[]"
    )


@pytest.mark.parametrize("track_id", [1, 2, 6, 7, 12, 1_000_003])
def test_the_colour_is_that_of_the_id_in_rgb(track_id: int) -> None:
    frame = make_frame()
    picture = Annotator(["person"]).draw(frame, FrameResult(0, tracks=make_tracks(track_id)))
    assert tuple(picture[90, 60].tolist()) == PALETTE_RGB[track_id % len(PALETTE_RGB)]
    assert (picture.dtype, picture.shape) == (np.uint8, frame.image.shape)


def test_the_frame_is_not_drawn_on() -> None:
    frame = make_frame()
    Annotator().draw(frame, FrameResult(0, tracks=make_tracks(1)))
    assert (frame.image == GREY).all()


@pytest.mark.parametrize(
    "result",
    [
        FrameResult(0),
        FrameResult(0, tracks=Tracks.empty()),
        FrameResult(0, detections=Detections.empty()),
        FrameResult(0, tracks=make_tracks(1, state=TrackState.TENTATIVE)),
        FrameResult(0, tracks=make_tracks(1, missed=2)),
    ],
    ids=["nothing ran", "no tracks", "no detections", "tentative", "not matched"],
)
def test_nothing_to_show_leaves_the_picture(result: FrameResult) -> None:
    picture = Annotator().draw(make_frame(), result)
    assert (picture == GREY).all()
    picture[0, 0] = 0


def test_detections_are_coloured_by_class_and_hidden_behind_tracks() -> None:
    boxes, scores = np.array([[20, 30, 60, 80]], np.float32), np.array([0.5], np.float32)
    detections = Detections(boxes, scores, np.array([3]))
    picture = Annotator(["a"]).draw(make_frame(), FrameResult(0, detections=detections))
    assert PALETTE_RGB[3] in colours(picture)
    picture = Annotator(["a"]).draw(make_frame(), FrameResult(0, detections=detections, tracks=make_tracks(1)))
    assert PALETTE_RGB[3] not in colours(picture)


@pytest.mark.parametrize(("trace_length", "is_drawn"), [(40, True), (0, False)])
def test_a_trace_follows_the_track(trace_length: int, is_drawn: bool) -> None:
    annotator = Annotator(trace_length=trace_length)
    for step in range(5):
        picture = annotator.draw(make_frame(), FrameResult(step, tracks=make_tracks(5, x=10 + 20 * step)))
    # Left of the last box, at the height where the objects stood.
    assert (tuple(picture[90, 50].tolist()) == PALETTE_RGB[5]) == is_drawn


def test_two_annotators_do_not_share_traces() -> None:
    first, second = Annotator(), Annotator()
    for step in range(5):
        first.draw(make_frame(), FrameResult(step, tracks=make_tracks(5, x=10 + 20 * step)))
    picture = second.draw(make_frame(), FrameResult(5, tracks=make_tracks(5, x=110)))
    assert (picture[90, :100] == GREY).all()


@pytest.mark.parametrize("size_hw", [(1, 1), (8, 8), (120, 160), (480, 640), (2160, 3840)])
def test_every_size_can_be_drawn_on(size_hw: tuple[int, int]) -> None:
    picture = Annotator(["person"]).draw(make_frame(size_hw), FrameResult(0, tracks=make_tracks(1, 2)))
    assert picture.shape == (*size_hw, 3)


def test_lines_grow_with_the_picture() -> None:
    def line_width(size_hw: tuple[int, int]) -> int:
        tracks = make_tracks(1, x=200)
        picture = Annotator(trace_length=0).draw(make_frame(size_hw), FrameResult(0, tracks=tracks))
        return int((picture[70, 180:215] == PALETTE_RGB[1]).all(axis=-1).sum())

    assert line_width((240, 320)) < line_width((2160, 3840))


@pytest.mark.parametrize(
    "box",
    [(-50, -50, 20, 20), (150, 110, 400, 300), (-500, -500, -400, -400), (10, 10, 10, 10), (-1e6, -1e6, 1e6, 1e6)],
)
def test_boxes_beyond_the_frame(box: tuple[float, ...]) -> None:
    detections = Detections(np.array([box], np.float32), np.array([0.9], np.float32), np.array([0]))
    assert Annotator().draw(make_frame(), FrameResult(0, detections=detections)).shape == (120, 160, 3)


def test_a_change_of_size_in_a_stream_of_images() -> None:
    annotator = Annotator()
    for size_hw in ((120, 160), (60, 80), (120, 160)):
        assert annotator.draw(make_frame(size_hw), FrameResult(0, tracks=make_tracks(1))).shape == (*size_hw, 3)


def test_a_segmentation_lies_below_tracks() -> None:
    segmentation = SegmentationMap(np.zeros((120, 160), np.uint8), ("road",))
    result = FrameResult(0, tracks=make_tracks(1), segmentation=segmentation)
    picture = Annotator(mask_opacity=1.0, legend=False).draw(make_frame(), result)
    assert {STREET_RGB["road"], PALETTE_RGB[1]} <= colours(picture)


@pytest.mark.parametrize(
    ("n_images", "columns", "grid"), [(1, 4, (1, 1)), (4, 4, (1, 4)), (5, 4, (2, 4)), (3, 1, (3, 1))]
)
def test_contact_sheet_lays_out_rows_and_columns(n_images: int, columns: int, grid: tuple[int, int]) -> None:
    images = [np.full((60, 80, 3), 200, np.uint8)] * n_images
    single = contact_sheet(images[:1], 1, 80)
    sheet = contact_sheet(images, columns, 80)
    gap = 2
    assert sheet.shape[0] - gap == grid[0] * (single.shape[0] - gap)
    assert sheet.shape[1] - gap == grid[1] * (single.shape[1] - gap)
    assert int((sheet == 200).all(axis=-1).sum()) == n_images * 60 * 80


def test_contact_sheet_keeps_colours_and_writes_times() -> None:
    image = np.zeros((60, 80, 3), np.uint8)
    image[..., 0] = 250
    blank = contact_sheet([image], 1, 160, times_s=[None])
    sheet = contact_sheet([image], 1, 160, times_s=[12.5])
    assert (250, 0, 0) in colours(sheet)
    assert (sheet[:122] == blank[:122]).all()
    assert (sheet[122:] != blank[122:]).any()


def test_captions_stand_in_for_times_and_stay_below_their_tile() -> None:
    image = np.full((40, 60, 3), 90, np.uint8)
    blank = contact_sheet([image, image], 2, 160, captions=["", ""])
    sheet = contact_sheet([image, image], 2, 160, captions=["a name that is far too long for one tile " * 3, ""])
    changed = np.argwhere((sheet != blank).any(axis=2))
    assert len(changed)
    assert changed[:, 1].max() < 2 + 160
    other_script = contact_sheet([image], 1, 160, captions=["\u4eba.png"])
    assert np.array_equal(other_script, contact_sheet([image], 1, 160, captions=["?.png"]))


def test_contact_sheet_fits_pictures_of_other_shapes() -> None:
    images = [
        np.full((60, 80, 3), 200, np.uint8),
        np.full((80, 20, 3), 201, np.uint8),
        np.full((1, 500, 3), 202, np.uint8),
    ]
    sheet = contact_sheet(images, 3, 80)
    assert {(200,) * 3, (201,) * 3, (202,) * 3} <= colours(sheet)


@pytest.mark.parametrize(
    ("n_images", "options"),
    [(0, {}), (1, {"columns": 0}), (1, {"tile_width": 4}), (2, {"times_s": [1.0]}), (2, {"captions": ["a"]})],
)
def test_contact_sheet_refuses_what_it_cannot_lay_out(n_images: int, options: dict[str, object]) -> None:
    with pytest.raises(InvalidInputError):
        contact_sheet([np.zeros((4, 4, 3), np.uint8)] * n_images, **options)


@pytest.mark.parametrize("size_hw", [(8, 8), (120, 160), (20, 900)])
def test_a_classification_is_written_into_the_corner(size_hw: tuple[int, int]) -> None:
    frame = make_frame(size_hw)
    scores = np.array([0.75, 0.2], np.float32)
    classes = Classification(np.array([1, 0]), scores, ("a class with a very long name", "b"), assigned=1)
    for found in (classes, Classification(np.zeros(0, np.int64), scores[:0], value=3.5, unit="mm")):
        picture = Annotator().draw(frame, FrameResult(0, classification=found))
        assert picture.shape == frame.image.shape
        assert (picture[0, 0] < GREY).all()
    assert (Annotator().draw(frame, FrameResult(0, classification=classes.top(0))) == GREY).all()
