"""Videos divided by processes that die and hang: planning goes on, and tells of them."""

from __future__ import annotations

import sys
import time
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "io"))
from batch_fakes import fake_core
from io_media import steady, write_clip

from vision.batch import dividers as dividers_module
from vision.batch.config import BatchConfig
from vision.batch.dividers import Dividers
from vision.batch.listing import list_inputs
from vision.errors import StateError

__all__ = ["fake_core"]
GROUPS = {"x264-params": "keyint=10:min-keyint=10:scenecut=0"}
CONFIG = BatchConfig(task="detect", video_chunk=10)


@pytest.fixture
def clip(tmp_path: Path) -> Path:
    (tmp_path / "in").mkdir()
    return write_clip(tmp_path / "in" / "a.mp4", steady(40), options=GROUPS)


def copies(clip: Path, *names: str) -> list[str]:
    for name in names:
        clip.with_name(name).write_bytes(clip.read_bytes())
    return [str(clip.with_name(name)) for name in names]


def test_a_video_that_kills_or_hangs_its_reader_stays_whole_and_costs_no_other(clip: Path, fake_core: Path) -> None:
    paths = [str(clip), *copies(clip, "crash-divide.mp4", "hang-divide.mp4", "b.mp4", "c.mp4"), str(clip)]
    with Dividers(len(paths), 10, silence_s=1.5) as dividers:
        done = dividers.divide(paths)
        pids = dividers.pids
    assert [division.parts and len(division.parts) for division in done] == [4, None, None, 4, 4, 4]
    assert [division.harm for division in done[:1] + done[3:]] == [""] * 4
    assert "died of it (SIGSEGV)" in done[1].harm
    assert "within 1.5 s" in done[2].harm
    assert not [pid for pid in pids if Path(f"/proc/{pid}").exists()], "a process was left"


def test_planning_notes_what_it_could_not_read(clip: Path, fake_core: Path) -> None:
    copies(clip, "crash-divide.mp4")
    inputs = list_inputs(str(clip.parent), CONFIG)
    assert [item.label for item in inputs.items()][3:] == ["a.mp4 (frames 30 to 39)", "crash-divide.mp4"]
    (note,) = inputs.notes
    assert note.startswith("crash-divide.mp4 is not divided: the process that read it died of it")


def test_packets_that_come_slowly_are_waited_for(clip: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "site").mkdir()
    (tmp_path / "site" / "sitecustomize.py").write_text(
        "import sys, time\n"
        "if 'vision.batch.divide_worker' in sys.orig_argv:\n"
        "    import vision.batch.video_parts as parts\n"
        "    def divide(path, chunk, on_packet):\n"
        "        for _ in range(8):\n"
        "            time.sleep(0.2)\n"
        "            on_packet()\n"
        "        return []\n"
        "    parts.divide_video = divide\n"
    )
    monkeypatch.syspath_prepend(tmp_path / "site")
    with Dividers(1, 10, silence_s=1.3) as dividers:
        started = time.monotonic()
        (division,) = dividers.divide([str(clip)])
    assert time.monotonic() - started > 1.3
    assert division.parts == []


def test_processes_that_cannot_start_blame_no_video(clip: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        dividers_module, "_spawn", lambda: dividers_module.WorkerProcess("vision.batch.no_such_worker", [], [])
    )
    with Dividers(1, 10) as dividers, pytest.raises(StateError, match=r"must start.*exit code 1"):
        dividers.divide([str(clip)])


def test_no_process_is_started_for_what_has_nothing_to_divide(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dividers_module, "_spawn", lambda: pytest.fail("a process was started"))
    for name in ("a.jpg", "empty.mp4", "short.mp4"):
        (tmp_path / name).write_bytes(b"x" * (name == "short.mp4"))
    (tmp_path / "gone.mp4").symlink_to(tmp_path / "nowhere")
    assert len(list_inputs(str(tmp_path), CONFIG)) == 4
