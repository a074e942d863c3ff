from __future__ import annotations

import io
import logging
import re
from pathlib import Path

import pytest
from io_media import encode_image, quadrants, steady, write_clip

from vision.errors import InvalidInputError, LimitExceededError, MediaError, VisionError
from vision.io.images import ImageLimits
from vision.io.sources import open_source

PNG = encode_image(quadrants())


def write_images(folder: Path, *names: str) -> Path:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(PNG)
    return folder


def read_names(source: str | Path) -> list[str]:
    with open_source(source) as opened:
        return [opened.relative_name(frame) for frame in opened]


def test_a_single_image(tmp_path: Path) -> None:
    path = write_images(tmp_path, "a.png") / "a.png"
    with open_source(str(path)) as source:
        frames = list(source)
        assert (source.kind, source.name, source.fps, source.frame_count) == ("images", "a", None, 1)
        assert source.relative_name(frames[0]) == "a.png"
    assert (frames[0].source, frames[0].index, frames[0].timestamp_s) == (str(path), 0, None)


def test_content_decides_before_the_name(tmp_path: Path) -> None:
    (tmp_path / "photo.dat").write_bytes(PNG)
    write_clip(tmp_path / "clip.mp4", steady(3)).rename(tmp_path / "clip.bin")
    assert open_source(tmp_path / "photo.dat").kind == "images"
    with open_source(tmp_path / "clip.bin") as source:
        assert source.kind == "video"


@pytest.mark.parametrize("content", [b"", b"text", PNG[:60]])
def test_a_bad_single_image_raises(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "bad.png").write_bytes(content)
    with open_source(tmp_path / "bad.png") as source, pytest.raises(MediaError, match=r"bad\.png"):
        list(source)


def test_a_directory_is_read_in_natural_order_without_hidden_and_other_files(tmp_path: Path) -> None:
    write_images(tmp_path, "f10.png", "f2.png", "sub/f1.JPG", ".hidden.png", ".cache/x.png", "sub2/deep/a.webp")
    (tmp_path / "notes.txt").write_text("x")
    assert read_names(tmp_path) == ["f2.png", "f10.png", "sub/f1.JPG", "sub2/deep/a.webp"]


def test_a_ring_of_links_does_not_hang(tmp_path: Path) -> None:
    write_images(tmp_path, "sub/a.png")
    (tmp_path / "sub" / "loop").symlink_to(tmp_path, target_is_directory=True)
    assert read_names(tmp_path) == ["sub/a.png"]


def test_a_hidden_directory_named_by_the_user_is_read(tmp_path: Path) -> None:
    assert read_names(write_images(tmp_path / ".frames", "a.png")) == ["a.png"]


def test_bad_images_among_many_are_recorded_and_skipped(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    write_images(tmp_path, "1.png", "3.png")
    (tmp_path / "2.png").write_bytes(PNG[:50])
    (tmp_path / "4.png").write_text("text")
    with caplog.at_level(logging.WARNING), open_source(tmp_path) as source:
        assert [frame.index for frame in source] == [0, 2]
        assert source.frame_count == 4
        assert [Path(path).name for path, _ in source.errors] == ["2.png", "4.png"]
    assert len(caplog.records) == 2
    assert all("\n" not in record.getMessage() for record in caplog.records)


def test_a_picture_over_the_limit_among_many_is_skipped_too(tmp_path: Path) -> None:
    write_images(tmp_path, "1.png")
    (tmp_path / "2.png").write_bytes(encode_image(quadrants(100, 100)))
    with open_source(tmp_path, limits=ImageLimits(max_pixels=48 * 64)) as source:
        assert len(list(source)) == 1
        assert "100 x 100" in source.errors[0][1]


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [
        ("*.png", ["a1.png", "a2.png", "a10.png"]),
        ("a?.*", ["a1.png", "a2.png"]),
        ("**/*", ["a1.png", "a2.png", "a10.png", "b/c.png", "b/d/e.png"]),
        ("b/**/*.png", ["c.png", "d/e.png"]),
        ("[b]/*", ["b/c.png"]),
    ],
)
def test_globs(tmp_path: Path, pattern: str, expected: list[str]) -> None:
    write_images(tmp_path, "a1.png", "a2.png", "a10.png", "b/c.png", "b/d/e.png")
    (tmp_path / "a3.csv").write_text("x")
    assert read_names(f"{tmp_path}/{pattern}") == expected


def test_a_relative_glob(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(write_images(tmp_path, "x/a.png", "b.png"))
    assert read_names("**/*.png") == ["b.png", "x/a.png"]


def test_a_file_whose_name_holds_brackets_is_a_file(tmp_path: Path) -> None:
    assert read_names(write_images(tmp_path, "photo[1].png") / "photo[1].png") == ["photo[1].png"]


def test_a_list_file_keeps_its_order_and_comments_are_skipped(tmp_path: Path) -> None:
    write_images(tmp_path, "z.png", "sub/a b.png")
    (tmp_path / "list.txt").write_text("\ufeff# frames\nz.png\n\n  sub/a b.png  \n#a.png\n", encoding="utf-8")
    assert read_names(tmp_path / "list.txt") == ["z.png", "sub/a b.png"]


def test_a_list_file_may_name_pictures_elsewhere(tmp_path: Path) -> None:
    write_images(tmp_path, "data/x/1.png", "data/y/1.png")
    (tmp_path / "lists").mkdir()
    (tmp_path / "lists" / "l.txt").write_text(f"../data/x/1.png\n{tmp_path}/data/y/1.png\n")
    assert read_names(tmp_path / "lists" / "l.txt") == ["x/1.png", "y/1.png"]


def test_a_missing_entry_of_a_list_is_recorded(tmp_path: Path) -> None:
    write_images(tmp_path, "a.png")
    (tmp_path / "list.txt").write_text("gone.png\na.png\n")
    with open_source(tmp_path / "list.txt") as source:
        assert [frame.index for frame in source] == [1]
        assert "gone.png" in source.errors[0][0]


@pytest.mark.parametrize("place", ["sequence", "images"])
def test_a_motchallenge_sequence_has_a_clock(tmp_path: Path, place: str) -> None:
    folder = write_images(tmp_path / "MOT-02", "img1/000001.jpg", "img1/000002.jpg", "det/extra.png")
    (folder / "seqinfo.ini").write_text("[Sequence]\nname=MOT-02\nimDir=img1\nframeRate=30\nseqLength=2\n")
    with open_source(folder if place == "sequence" else folder / "img1") as source:
        frames = list(source)
        assert (source.kind, source.fps, source.name, source.frame_count) == ("images", 30, "MOT-02", 2)
        assert [source.relative_name(frame) for frame in frames] == ["000001.jpg", "000002.jpg"]
    assert [frame.timestamp_s for frame in frames] == [0, 1 / 30]


def test_another_folder_beside_a_seqinfo_is_no_sequence(tmp_path: Path) -> None:
    folder = write_images(tmp_path, "img1/1.jpg", "other/1.jpg")
    (folder / "seqinfo.ini").write_text("[Sequence]\nimDir=img1\nframeRate=30\n")
    assert open_source(folder / "other").fps is None


@pytest.mark.parametrize(
    "text",
    ["frameRate=30", "[Sequence]\nframeRate=fast", "[Sequence]\nframeRate=0", "[Sequence]\nimDir=../..\nframeRate=30"],
)
def test_a_bad_seqinfo_is_named(tmp_path: Path, text: str) -> None:
    write_images(tmp_path, "img1/1.jpg")
    (tmp_path / "seqinfo.ini").write_text(text)
    with pytest.raises(InvalidInputError, match=r"seqinfo\.ini"):
        open_source(tmp_path)


def test_a_video(tmp_path: Path) -> None:
    path = write_clip(tmp_path / "clip.mp4", steady(5))
    with open_source(path) as source:
        frames = list(source)
        assert (source.kind, source.name, source.fps, source.frame_count) == ("video", "clip", 25, 5)
        assert source.relative_name(frames[4]) == "clip/000005.jpg"
        assert source.errors == []


def test_a_damaged_video_counts_as_an_error(tmp_path: Path) -> None:
    path = write_clip(tmp_path / "tail.mp4", steady(100), options={"g": "10", "bf": "0"}, size_hw=(96, 128))
    data = path.read_bytes()
    path.write_bytes(data[: data.index(b"mdat") + int((len(data) - data.index(b"mdat")) * 0.6)])
    with open_source(path) as source:
        assert 0 < len(list(source)) < 100
        assert [name for name, _ in source.errors] == [str(path)]


def test_an_image_on_standard_input() -> None:
    with open_source("-", stdin=io.BytesIO(PNG)) as source:
        frames = list(source)
        assert (source.kind, source.name, source.relative_name(frames[0])) == ("images", "stdin", "stdin.jpg")
    assert (frames[0].source, frames[0].size_hw) == ("-", (48, 64))


def test_a_video_on_standard_input_leaves_no_file_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = write_clip(tmp_path / "clip.mp4", steady(5)).read_bytes()
    spool = tmp_path / "spool"
    spool.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(spool))
    with open_source("-", stdin=io.BytesIO(data)) as source:
        frames = list(source)
        assert (source.kind, source.frame_count, len(frames), frames[0].source) == ("video", 5, 5, "-")
        assert source.relative_name(frames[0]) == "stdin/000001.jpg"
    assert list(spool.iterdir()) == []
    with pytest.raises(MediaError, match="- cannot be opened"):
        open_source("-", stdin=io.BytesIO(b"neither image nor video" * 9))
    assert list(spool.iterdir()) == []


def test_limits_hold_on_standard_input() -> None:
    with pytest.raises(LimitExceededError), open_source("-", stdin=io.BytesIO(PNG), limits=ImageLimits(1000)) as source:
        list(source)
    limits = ImageLimits(max_bytes=len(PNG) - 1)
    with pytest.raises(LimitExceededError), open_source("-", stdin=io.BytesIO(PNG), limits=limits) as source:
        list(source)


REFUSED = {
    "missing file": ("nowhere.png", "found nothing at"),
    "missing folder": ("nowhere/", "found nothing at"),
    "empty name": ("", "found nothing at"),
    "http": ("https://user:pw@example.com/a.mp4", "must begin with rtsp://"),
    "file url": ("file:///etc/passwd", "must begin with rtsp://"),
    "glob without match": ("nowhere/*.png", "matches nothing"),
    "glob of others": ("*.csv", "files of other types"),
    "empty folder": ("empty", "found none"),
    "folder of others": ("others", "found none"),
    "empty list": ("empty.txt", "found no entry"),
    "list of comments": ("comments.txt", "found no entry"),
    "binary list": ("binary.txt", "UTF-8"),
    "text named mp4": ("text.mp4", "cannot be opened as video"),
    "empty video": ("empty.mp4", "an empty file"),
    "camera": ("63", "camera 63"),
    "empty stdin": ("-", "got nothing"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_cannot_be_opened_is_said_in_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, case: str) -> None:
    monkeypatch.chdir(tmp_path)
    for folder in ("empty", "others"):
        (tmp_path / folder).mkdir()
    files = {"others/a.csv": b"x", "a.csv": b"x", "empty.txt": b"", "comments.txt": b"# a.png\n\n", "empty.mp4": b""}
    files |= {"binary.txt": b"\xff\xfe\x00", "text.mp4": b"hello\n" * 99}
    for name, content in files.items():
        (tmp_path / name).write_bytes(content)
    text, reason = REFUSED[case]
    with pytest.raises(InvalidInputError, match=re.escape(reason)) as caught:
        open_source(text, stdin=io.BytesIO(b""))
    message = str(caught.value)
    assert isinstance(caught.value, VisionError)
    assert "\n" not in message
    assert "pw" not in message
