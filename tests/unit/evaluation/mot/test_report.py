"""The report of tracks: what stands in its pages, that they open offline, and the pictures of switches."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from pathlib import Path

import cv2
import numpy as np
import pytest
from track_scenes import crossing, write_lines, write_scene

from vision.errors import InvalidInputError, OutputExistsError
from vision.evaluation.mot.matching import find_switches, match_sequence
from vision.evaluation.mot.pictures import find_frames, switch_pictures
from vision.evaluation.mot.report import write_track_report
from vision.evaluation.mot.summary import summarise_objects
from vision.evaluation.tracking import TrackingEvaluation, evaluate_tracks

pytest.importorskip("trackeval", reason="needs the eval extra")
pytest.importorskip("matplotlib", reason="needs the eval extra")

VOID = {"meta", "img", "source", "br", "hr", "link", "input"}


class Checker(HTMLParser):
    """Follows the tags of a page; ``open`` must be empty at its end."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.addresses: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.addresses += [value or "" for name, value in attrs if name in ("href", "src", "srcset")]
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def check_page(path: Path) -> str:
    """Return the page's text after checking that it is well formed and fetches nothing."""
    text = path.read_text(encoding="utf-8")
    checker = Checker()
    checker.feed(text)
    assert checker.open == []
    assert "http:" not in text
    assert "https:" not in text
    assert "<script" not in text
    for address in checker.addresses:
        assert address.startswith("data:image/") or (path.parent / address).is_file(), address
    return re.sub(r"data:image/[^\"]*", "", text)


def evaluate(folder: Path, *names: str) -> TrackingEvaluation:
    for name in names:
        write_scene(folder, name, *crossing(), 10)
    return evaluate_tracks(folder / "gt", folder / "results")


def write_frames(folder: Path, count: int = 10) -> None:
    folder.mkdir(parents=True)
    for number in range(1, count + 1):
        cv2.imwrite(str(folder / f"{number:06d}.png"), np.full((80, 320, 3), 20 * number, np.uint8))


def test_one_sequence_is_one_page_with_its_switches(tmp_path: Path) -> None:
    evaluation = evaluate(tmp_path, "A")
    write_frames(tmp_path / "gt" / "A" / "img1")
    done: list[str] = []
    index = write_track_report(evaluation, tmp_path / "report", on_page=done.append)
    assert (index, done) == (tmp_path / "report" / "index.html", ["A"])
    text = check_page(index)
    row = "".join(f'<td class="number">{value}</td>' for value in (5, 2, 12, 11, 0))
    assert f"<tr>{row}<td>taken from 1</td></tr>" in text
    assert "Object 2, frame 5" in text
    assert "2 objects in 10 frames (20 boxes), 3 result tracks (19 boxes)." in text
    names = {path.name for path in (tmp_path / "report" / "figures").iterdir()}
    pictures = {"tracks-switch-01.png", "tracks-switch-02.png"}
    assert names == {"tracks-timeline.png", "tracks-alpha.png", "tracks-coverage.png", *pictures}


def test_several_sequences_have_an_index(tmp_path: Path) -> None:
    evaluation = evaluate(tmp_path, "A", "b & <c>")
    index = write_track_report(evaluation, tmp_path / "report")
    text = check_page(index)
    assert 'href="A.html"' in text
    assert "b &amp; &lt;c&gt;" in text
    page = check_page(tmp_path / "report" / "b-c.html")
    assert "<h1>b &amp; &lt;c&gt;</h1>" in page
    assert 'href="index.html"' in page
    with pytest.raises(OutputExistsError):
        write_track_report(evaluation, tmp_path / "report")


def test_nothing_tracked_has_a_page_that_says_so(tmp_path: Path) -> None:
    write_scene(tmp_path, "A", crossing()[0], [], 10)
    evaluation = evaluate_tracks(tmp_path / "gt", tmp_path / "results")
    text = check_page(write_track_report(evaluation, tmp_path / "report"))
    assert "nothing was tracked" in text
    assert "No object changes its id." in text


def test_pictures_come_from_a_folder_or_a_video(tmp_path: Path) -> None:
    item = evaluate(tmp_path, "A").sequences[0]
    matches = match_sequence(item.data)
    switches = find_switches(matches)
    objects = summarise_objects(matches, switches)
    write_frames(tmp_path / "frames")
    video = cv2.VideoWriter(str(tmp_path / "v.avi"), cv2.VideoWriter.fourcc(*"MJPG"), 10, (320, 80))
    for number in range(1, 11):
        video.write(np.full((80, 320, 3), 20 * number, np.uint8))
    video.release()
    for source in ("frames", "v.avi"):
        (switch, picture), _ = switch_pictures(matches, objects, switches, tmp_path / source)
        assert (switch.object_id, switch.frame) == (2, 5)
        # Frame 4 on the left, frame 5 on the right; a corner of the tiles has nothing drawn on it.
        middle = picture.shape[0] // 2
        assert abs(int(picture[middle, 6, 0]) - 80) < 6
        assert abs(int(picture[middle, -8, 0]) - 100) < 6
    assert switch_pictures(matches, objects, switches, tmp_path / "gt") == []


def test_frames_are_found_by_sequence(tmp_path: Path) -> None:
    truth = write_lines(tmp_path / "A/gt/gt.txt", [])
    assert find_frames("A", truth, None, only=True) is None
    write_frames(tmp_path / "A/img1", 1)
    assert find_frames("A", truth, None, only=True) == tmp_path / "A/img1"
    assert find_frames("A", truth, tmp_path, only=False) == tmp_path / "A"
    assert find_frames("B", truth, tmp_path / "A/img1", only=True) == tmp_path / "A/img1"
    video = write_lines(tmp_path / "C.mp4", [])
    assert find_frames("C", truth, tmp_path, only=False) == video
    assert find_frames("A", truth, video, only=True) == video
    for frames, only in ((tmp_path, False), (video, False), (tmp_path / "none", True)):
        with pytest.raises(InvalidInputError, match="frames must"):
            find_frames("Z", truth, frames, only=only)
