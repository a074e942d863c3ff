"""COCO-video files of tracks: ours, the like of others, and what is wrong where."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from track_rows import HEADER, assert_close, make_trajectories

from vision.errors import InvalidInputError
from vision.io.tracks import TracksHeader, read_track_file, read_tracks, write_tracks

IMAGES = [{"id": 10, "video_id": 1, "frame_index": 0}, {"id": 11, "video_id": 1, "frame_index": 30}]
ANNOTATION = {"id": 1, "image_id": 11, "track_id": 5, "bbox": [1, 2, 3, 4]}


def write(tmp_path: Path, **lists: Any) -> Path:
    """Write a file of one video, one category and the given lists."""
    path = tmp_path / "a.json"
    document = {"videos": [{"id": 1, "name": "v"}], "images": IMAGES, "annotations": []} | lists
    path.write_text(json.dumps({name: entries for name, entries in document.items() if entries is not None}))
    return path


def test_there_and_back(tmp_path: Path) -> None:
    path, tracks = tmp_path / "a.json", make_trajectories()
    write_tracks(tracks, path, header=HEADER)
    found, header = read_track_file(path)
    assert_close(found, tracks, pixels=0.001, score=1e-5)
    assert header == HEADER


def test_the_form_is_the_documented_one(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    write_tracks(make_trajectories(), path, header=HEADER)
    document = json.loads(path.read_text())
    assert document["videos"] == [
        {"id": 1, "name": "street.mp4", "width": 640, "height": 480, "length": 6, "fps": 12.5}
    ]
    assert [image["frame_index"] for image in document["images"]] == [0, 1, 2, 3, 4, 5]
    assert document["images"][1] == {
        "id": 2, "video_id": 1, "frame_index": 1, "frame_id": 1, "file_name": "street/000002.jpg", "width": 640,
        "height": 480,
    }  # fmt: skip
    assert document["annotations"][2] == {
        "id": 3, "image_id": 2, "video_id": 1, "track_id": 1, "instance_id": 1, "category_id": 1,
        "bbox": [2.25, 2.5, 28.75, 38.25], "area": 1099.688, "iscrowd": 0, "score": 0.0, "filled": True,
    }  # fmt: skip
    assert document["tracks"] == [
        {"id": 1, "video_id": 1, "category_id": 1},
        {"id": 7, "video_id": 1, "category_id": 3},
    ]
    assert document["categories"] == [
        {"id": 1, "name": "person"}, {"id": 2, "name": 'car, "red"'}, {"id": 3, "name": "dog"}
    ]  # fmt: skip


def test_no_rows(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    write_tracks(make_trajectories([]), path)
    found, header = read_track_file(path)
    assert len(found) == 0
    assert header == TracksHeader(frame_count=0)


def test_categories_with_gaps_become_labels_by_rising_id(tmp_path: Path) -> None:
    categories = [{"id": 805, "name": "dog"}, {"id": 0, "name": "cat"}, {"id": 41, "name": "cow"}]
    annotations = [ANNOTATION | {"track_id": n, "category_id": n} for n in (0, 41, 805)]
    found, header = read_track_file(write(tmp_path, annotations=annotations, categories=categories))
    assert found.ids.tolist() == [0, 41, 805]
    assert found.labels.tolist() == [0, 1, 2]
    assert found.frames.tolist() == [30] * 3
    assert header == TracksHeader(class_names=("cat", "cow", "dog"), source="v", frame_count=31)


def test_instance_and_frame_ids_of_toolkits(tmp_path: Path) -> None:
    images = [{"id": "a", "video_id": 1, "frame_id": 3, "height": 9, "width": 16}]
    annotations = [{"image_id": "a", "instance_id": 4, "bbox": [0, 0, 1, 1], "score": 0.25}]
    found, header = read_track_file(write(tmp_path, images=images, annotations=annotations))
    assert (found.frames.tolist(), found.ids.tolist(), found.scores.tolist()) == ([3], [4], [0.25])
    assert header.size_hw == (9, 16)


def test_tracks_with_boxes_as_youtube_vis_writes_them(tmp_path: Path) -> None:
    videos = [{"id": 1, "name": "v", "length": 4, "width": 16, "height": 9, "frame_rate": 6}]
    annotations = [
        {"id": 8, "video_id": 1, "category_id": 2, "bboxes": [[0, 0, 1, 1], None, [2, 2, 3, 3], None]},
        {"id": 9, "video_id": 2, "category_id": 2, "bboxes": [[0, 0, 1, 1]]},
    ]
    categories = [{"id": 2, "name": "owl"}]
    path = write(tmp_path, videos=videos, images=None, annotations=annotations, categories=categories)
    found, header = read_track_file(path)
    assert (found.frames.tolist(), found.ids.tolist()) == ([0, 2], [8, 8])
    assert found.boxes[1].tolist() == [2, 2, 5, 5]
    assert header == TracksHeader(class_names=("owl",), fps=6, source="v", size_hw=(9, 16), frame_count=4)


def test_one_of_several_videos_by_name_or_id(tmp_path: Path) -> None:
    videos = [{"id": 1, "name": "street"}, {"id": 2, "name": "park"}]
    images = [*IMAGES, {"id": 20, "video_id": 2, "frame_index": 0}]
    path = write(tmp_path, videos=videos, images=images, annotations=[ANNOTATION, ANNOTATION | {"image_id": 20}])
    assert read_tracks(path, video="street").frames.tolist() == [30]
    assert read_tracks(path, video="2").frames.tolist() == [0]
    with pytest.raises(InvalidInputError, match="holds 2 videos and one is wanted; choose from street, park"):
        read_tracks(path)
    with pytest.raises(InvalidInputError, match=r"must hold the video 'pork' \(did you mean 'park'\?\)"):
        read_tracks(path, video="pork")


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        ({"image_id": 12}, r"a\.json annotations\[1\] must have a image_id that is one of the images, got 12"),
        ({"image_id": []}, r"annotations\[1\] must have a image_id"),
        ({"track_id": None}, r"annotations\[1\] must have track_id or instance_id, got id, image_id"),
        ({"track_id": "five"}, r"annotations\[1\] must have a whole number as track id, got 'five'"),
        ({"track_id": -1}, r"annotations\[1\] must have a track id >= 0, got -1"),
        ({"bbox": [1, 2, 3]}, r"annotations\[1\] must have four numbers as bbox .* got \[1, 2, 3\]"),
        ({"bbox": [1, 2, 3, "4"]}, r"annotations\[1\] must have four numbers as bbox"),
        ({"bbox": None}, r"annotations\[1\] must have four numbers as bbox .* got None"),
        ({"bbox": [1, 2, -3, 4]}, r"annotations\[1\] must have a width and a height >= 0, got -3 x 4"),
        ({"score": "high"}, r"annotations\[1\] must have a number as score, got 'high'"),
        ({"score": None}, r"annotations\[1\] must have a number as score, got None"),
        ({"category_id": 3}, r"annotations\[1\] must have a category_id that is one of the categories, got 3"),
        ({"bboxes": 3, "video_id": 1}, r"annotations\[1\] must have a list as bboxes, got int"),
        ({}, r"annotations\[1\] must have a track id of its own in frame 30, got 5 a second time"),
    ],
)
def test_what_is_wrong_where(tmp_path: Path, entry: dict[str, Any], message: str) -> None:
    path = write(tmp_path, annotations=[ANNOTATION, ANNOTATION | entry])
    with pytest.raises(InvalidInputError, match=message):
        read_tracks(path)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[]", "must be a JSON object with videos, images and annotations, got a list; a list of results"),
        ("{", r"must be JSON, .*; it may be cut short"),
        ('{"images": [], "annotations": []}', "must have videos and annotations, found images, annotations"),
        ('{"videos": [{"id": 1}], "annotations": {}}', "must have a list as annotations, got a dict"),
        ('{"videos": [1], "annotations": []}', "must have an object as each of videos"),
        ('{"videos": [{"id": 1}], "annotations": [4]}', r"annotations\[0\] must be an object, got int"),
        ('{"videos": [{"id": 1}], "annotations": [], "images": [{}]}', r"images\[0\] must be an object with an id"),
        (
            '{"videos": [{"id": 1}], "annotations": [], "images": [{"id": 1, "video_id": 1}]}',
            r"images\[0\] must have frame_index or frame_id, got id, video_id",
        ),
        (
            '{"videos": [{"id": 1}], "annotations": [], "images": [{"id": 1, "video_id": 1, "frame_index": "a"}]}',
            r"images\[0\] must have a whole number as frame_index, got 'a'",
        ),
    ],
)
def test_what_is_no_coco_video_file(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "a.json"
    path.write_text(text)
    with pytest.raises(InvalidInputError, match=message):
        read_tracks(path)


def test_an_absent_file(tmp_path: Path) -> None:
    with pytest.raises(InvalidInputError, match=r"a\.json cannot be read: No such file"):
        read_tracks(tmp_path / "a.json")
