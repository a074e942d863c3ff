"""Camera motion against pictures that were moved by known matrices; no data set, textures are made up."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vision.errors import ConfigError, InvalidInputError
from vision.tracking.camera_motion import METHODS, CameraMotion, is_plausible
from vision.tracking.picture_motion import MotionFailure

SIZE_HW = (240, 320)


def texture(seed: int = 0, size_hw: tuple[int, int] = (480, 640)) -> np.ndarray:
    """Return a picture with structure at several scales, as a street has."""
    rng = np.random.default_rng(seed)
    picture = np.zeros((*size_hw, 3), np.float32)
    for cell in (4, 12, 40):
        coarse = rng.uniform(0, 255, (size_hw[0] // cell + 2, size_hw[1] // cell + 2, 3)).astype(np.float32)
        picture += cv2.resize(coarse, (size_hw[1], size_hw[0]), interpolation=cv2.INTER_CUBIC)
    return np.clip(picture / 3, 0, 255).astype(np.uint8)


def pose(x: float = 0, y: float = 0, degrees: float = 0, zoom: float = 1) -> np.ndarray:
    """Return [3, 3], which maps positions in the texture to a view shifted, turned and zoomed about its centre."""
    angle = np.radians(degrees)
    linear = zoom * np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    matrix = np.eye(3)
    matrix[:2, :2] = linear
    matrix[:2, 2] = np.array(SIZE_HW[::-1]) / 2 - linear @ (320 + x, 240 + y)
    return matrix


def view(picture: np.ndarray, matrix: np.ndarray, scale: int = 1) -> np.ndarray:
    """Return what a camera at ``matrix`` sees, uint8 [240, 320, 3] times ``scale``."""
    # OpenCV counts from pixel centres, we from the corner of the first pixel.
    half = np.array([[1, 0, 0.5], [0, 1, 0.5], [0, 0, 1]])
    full = np.diag([scale, scale, 1.0]) @ matrix
    centred = (np.linalg.inv(half) @ full @ half)[:2]
    return np.asarray(cv2.warpAffine(picture, centred, (scale * SIZE_HW[1], scale * SIZE_HW[0])))


def corner_error(found: np.ndarray, expected: np.ndarray, size_hw: tuple[int, int] = SIZE_HW) -> float:
    height, width = size_hw
    corners = np.array([[0, width, 0, width], [0, 0, height, height], [1, 1, 1, 1]])
    return float(np.linalg.norm((found[:2] - expected[:2]) @ corners, axis=0).max())


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize(
    ("last", "this"),
    [
        (pose(), pose()),
        (pose(), pose(7.3, -4.6)),
        (pose(-3, 5), pose(12, -9, 2)),
        (pose(degrees=-4), pose(degrees=1)),
        (pose(), pose(30, 20)),
    ],
    ids=["still", "shift", "shift and turn", "turn", "far"],
)
def test_a_known_motion_is_found(method: Any, last: np.ndarray, this: np.ndarray) -> None:
    picture = texture()
    camera = CameraMotion(method)
    np.testing.assert_array_equal(camera.estimate(view(picture, last)), np.eye(2, 3))
    found = camera.estimate(view(picture, this))
    assert (found.shape, found.dtype) == ((2, 3), np.float64)
    assert corner_error(found, this @ np.linalg.inv(last)) < 0.5
    assert (camera.frames, dict(camera.failures), camera.last_failure) == (2, {}, None)


def test_flow_finds_zoom() -> None:
    camera = CameraMotion("flow")
    camera.estimate(view(texture(), pose()))
    found = camera.estimate(view(texture(), pose(4, 2, 1, 1.06)))
    assert corner_error(found, pose(4, 2, 1, 1.06) @ np.linalg.inv(pose())) < 0.5


@pytest.mark.parametrize("method", METHODS)
def test_large_pictures_are_measured_in_their_own_pixels(method: Any) -> None:
    camera = CameraMotion(method)
    scaled = np.diag([3.0, 3, 1])
    camera.estimate(view(texture(), pose(), scale=3))
    found = camera.estimate(view(texture(), pose(6, -3, 1), scale=3))
    expected = scaled @ pose(6, -3, 1) @ np.linalg.inv(pose()) @ np.linalg.inv(scaled)
    assert corner_error(found, expected, (720, 960)) < 1.0


@settings(max_examples=15, deadline=None)
@given(
    x=st.floats(-25, 25),
    y=st.floats(-20, 20),
    degrees=st.floats(-5, 5),
    zoom=st.floats(0.94, 1.06),
    seed=st.integers(0, 9),
)
def test_flow_finds_any_motion_within_its_reach(x: float, y: float, degrees: float, zoom: float, seed: int) -> None:
    camera, picture = CameraMotion("flow"), texture(seed)
    camera.estimate(view(picture, pose()))
    found = camera.estimate(view(picture, pose(x, y, degrees, zoom)))
    assert camera.last_failure is None
    assert corner_error(found, pose(x, y, degrees, zoom) @ np.linalg.inv(pose())) < 1.0


@pytest.mark.parametrize("method", METHODS)
def test_objects_in_boxes_do_not_count(method: Any) -> None:
    """Two thirds of the picture move to the right by themselves; the camera does not."""
    camera, still, moving = CameraMotion(method), view(texture(), pose()), texture(3)
    box = np.array([[0, 0, 210, 240]], np.float32)
    for step in range(4):
        picture = still.copy()
        picture[:, :200] = view(moving, pose(-6 * step))[:, :200]
        found = camera.estimate(picture, box)
        assert corner_error(found, np.eye(3)) < 0.3
    assert not camera.failures


@pytest.mark.parametrize("method", METHODS)
def test_a_cut_leaves_the_camera_still_and_is_counted(method: Any) -> None:
    camera = CameraMotion(method)
    for seed in (0, 1):
        matrix = camera.estimate(view(texture(seed), pose()))
        np.testing.assert_array_equal(matrix, np.eye(2, 3))
    assert camera.last_failure is not None
    assert sum(camera.failures.values()) == 1
    # The scene after the cut is followed at once.
    found = camera.estimate(view(texture(1), pose(5)))
    assert camera.last_failure is None
    assert corner_error(found, pose(5) @ np.linalg.inv(pose())) < 0.5


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize(
    "picture",
    [np.zeros((240, 320, 3), np.uint8), np.full((1, 1, 3), 9, np.uint8), np.zeros((5, 900, 3), np.uint8)],
    ids=["black", "one pixel", "a line"],
)
def test_pictures_without_anything_to_follow(method: Any, picture: np.ndarray) -> None:
    camera = CameraMotion(method)
    for _ in range(3):
        np.testing.assert_array_equal(camera.estimate(picture), np.eye(2, 3))
    assert sum(camera.failures.values()) == 2
    assert camera.last_failure in (MotionFailure.FEW_POINTS, MotionFailure.NOT_ALIGNED)


@pytest.mark.parametrize("method", METHODS)
def test_boxes_over_the_whole_picture_leave_nothing(method: Any) -> None:
    camera = CameraMotion(method)
    everything = np.array([[-1e9, -1e9, 1e9, 1e9]], np.float32)
    for shift in (0, 5):
        matrix = camera.estimate(view(texture(), pose(shift)), everything)
        np.testing.assert_array_equal(matrix, np.eye(2, 3))
    assert sum(camera.failures.values()) == 1


@pytest.mark.parametrize("method", METHODS)
def test_a_picture_of_another_size(method: Any) -> None:
    camera = CameraMotion(method)
    camera.estimate(view(texture(), pose()))
    np.testing.assert_array_equal(camera.estimate(view(texture(), pose(5), scale=2)), np.eye(2, 3))
    assert dict(camera.failures) == {MotionFailure.NEW_SIZE: 1}


@pytest.mark.parametrize(
    ("matrix", "plausible"),
    [
        (np.eye(2, 3), True),
        (pose(40, 0)[:2] @ np.linalg.inv(pose()), True),
        (np.array([[1.0, 0, 97], [0, 1, 0]]), False),
        ((pose(degrees=10) @ np.linalg.inv(pose()))[:2], True),
        ((pose(degrees=30) @ np.linalg.inv(pose()))[:2], False),
        ((pose(zoom=1.4) @ np.linalg.inv(pose()))[:2], False),
        ((pose(zoom=0.7) @ np.linalg.inv(pose()))[:2], False),
        (np.array([[-1.0, 0, 320], [0, 1, 0]]), False),
        (np.full((2, 3), np.nan), False),
    ],
    ids=["still", "shift", "far shift", "turn", "large turn", "zoom in", "zoom out", "mirror", "nan"],
)
def test_what_a_camera_can_do(matrix: np.ndarray, plausible: bool) -> None:
    assert is_plausible(matrix, SIZE_HW) is plausible


@pytest.mark.parametrize("method", METHODS)
def test_the_same_frames_give_the_same_matrices(method: Any) -> None:
    """Whatever else in the process draws from OpenCV's random numbers."""
    pictures = [view(texture(), pose(3 * i, -2 * i, i)) for i in range(5)]
    one, other = CameraMotion(method), CameraMotion(method)
    expected = [one.estimate(picture) for picture in pictures]
    for index, picture in enumerate(pictures):
        cv2.setRNGSeed(index + 77)
        cv2.randu(np.zeros((9, 9), np.uint8), 0, 255)
        np.testing.assert_array_equal(other.estimate(picture), expected[index])


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("stop", [0, 1, 3])
def test_a_restored_camera_goes_on_exactly(method: Any, stop: int) -> None:
    pictures = [view(texture(i // 3), pose(4 * i, 0, i)) for i in range(6)]
    camera = CameraMotion(method, long_side=200)
    for picture in pictures[:stop]:
        camera.estimate(picture)
    resumed = CameraMotion.from_arrays(camera.to_arrays(), method, long_side=200)
    assert (resumed.frames, resumed.last_failure) == (stop, camera.last_failure)
    for picture in pictures[stop:]:
        np.testing.assert_array_equal(resumed.estimate(picture), camera.estimate(picture))
    assert resumed.failures == camera.failures


def test_reset_is_a_new_beginning() -> None:
    camera = CameraMotion()
    for seed in (0, 1):
        camera.estimate(view(texture(seed), pose()))
    camera.reset()
    assert (camera.frames, dict(camera.failures), camera.last_failure) == (0, {}, None)
    np.testing.assert_array_equal(camera.estimate(view(texture(), pose())), np.eye(2, 3))


def test_forget_keeps_the_counts() -> None:
    camera = CameraMotion()
    for seed in (0, 1):
        camera.estimate(view(texture(seed), pose()))
    camera.forget()
    resumed = CameraMotion.from_arrays(camera.to_arrays())
    for one in (camera, resumed):
        np.testing.assert_array_equal(one.estimate(view(texture(1), pose(9))), np.eye(2, 3))
        assert (one.frames, sum(one.failures.values()), one.last_failure) == (3, 1, None)


@pytest.mark.parametrize("method", METHODS)
def test_undo_forgets_one_picture(method: Any) -> None:
    pictures = [view(texture(), pose(5 * i)) for i in range(3)]
    camera = CameraMotion(method)
    camera.estimate(pictures[0])
    camera.estimate(view(texture(8), pose()))
    camera.undo()
    assert (camera.frames, dict(camera.failures)) == (1, {})
    found = camera.estimate(pictures[1])
    assert corner_error(found, pose(5) @ np.linalg.inv(pose())) < 0.5


def test_the_motions_of_a_path_add_up() -> None:
    poses = [pose(4 * np.sin(i), 3 * i, i / 2) for i in range(12)]
    camera, total = CameraMotion(), np.eye(3)
    for matrix in poses:
        total = np.vstack([camera.estimate(view(texture(), matrix)), [0, 0, 1]]) @ total
    assert corner_error(total, poses[-1] @ np.linalg.inv(poses[0])) < 1.5


@pytest.mark.parametrize(
    "picture",
    [
        np.zeros((9, 9), np.uint8),
        np.zeros((9, 9, 4), np.uint8),
        np.zeros((9, 9, 3), np.float32),
        np.zeros((0, 9, 3), np.uint8),
    ],
    ids=["grey", "alpha", "float", "empty"],
)
def test_another_form_is_refused(picture: np.ndarray) -> None:
    camera = CameraMotion()
    with pytest.raises(InvalidInputError, match=r"must be uint8 \[H, W, 3\] RGB"):
        camera.estimate(picture)
    assert camera.frames == 0


@pytest.mark.parametrize("boxes", [np.zeros((2, 3)), np.array([[0, 0, np.nan, 4]]), np.array([[9, 0, 4, 4]])])
def test_boxes_of_another_form_are_refused(boxes: np.ndarray) -> None:
    camera = CameraMotion()
    with pytest.raises(InvalidInputError, match="boxes must be"):
        camera.estimate(view(texture(), pose()), boxes)
    assert camera.frames == 0


def test_settings_out_of_range_are_refused() -> None:
    with pytest.raises(ConfigError, match="one of flow, ecc, got 'orb'"):
        CameraMotion("orb")  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="long_side must be >= 64"):
        CameraMotion(long_side=8)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("grey", None),
        ("grey", np.zeros((9, 9), np.uint8)),
        ("grey", np.zeros((240, 320), np.float32)),
        ("corners", np.zeros((4, 3), np.float32)),
        ("corners", np.float32(1)),
        ("corners", np.full((4, 2), np.nan, np.float32)),
        ("size_hw", np.array([480, 9000])),
        ("size_hw", np.array([0, 0])),
        ("counts", np.zeros(2, np.int64)),
        ("counts", np.full(6, -1)),
        ("last_failure", np.array("bored")),
    ],
)
def test_arrays_that_do_not_fit_are_refused(name: str, value: Any) -> None:
    camera = CameraMotion()
    camera.estimate(view(texture(), pose()))
    arrays = camera.to_arrays()
    if value is None:
        del arrays[name]
    else:
        arrays[name] = value
    with pytest.raises(InvalidInputError, match="camera state"):
        CameraMotion.from_arrays(arrays)
