"""Videos divided by processes that die and hang: planning goes on, and tells of them."""

from __future__ import annotations

import sys
import time
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "io"))
from batch_fakes import fake_core
from io_media import steady, write_clip

from vision.batch import dividers as dividers_module
from vision.batch.config import BatchConfig
from vision.batch.dividers import Dividers
from vision.batch.dividing import _known_parts
from vision.batch.job import known_manifest
from vision.batch.listing import list_inputs
from vision.batch.manifest import Manifest
from vision.batch.output import open_output
from vision.batch.run import BatchRequest, run_batch
from vision.errors import ConfigError, InvalidInputError, StateError

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


def test_a_resumed_job_reads_no_video_twice_but_those_that_changed(
    clip: Path, fake_core: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    copies(clip, "b.mp4", "crash-divide.mp4")
    request = BatchRequest(source=str(clip.parent), out=str(tmp_path / "out"), config=CONFIG, resume=True)
    options = {"should_stop": lambda: True}
    report = run_batch(request, **options)
    assert report.total_shards == 2
    assert [note.partition(" ")[0] for note in report.notes] == ["crash-divide.mp4"]
    before = Manifest.open(tmp_path / "out" / "manifest.parquet").digest
    assert _take_marks(fake_core) == {"a.mp4", "b.mp4", "crash-divide.mp4"}
    run_batch(request, **options)
    assert _take_marks(fake_core) == set()
    assert Manifest.open(tmp_path / "out" / "manifest.parquet").digest == before

    with known_manifest(open_output(request.out), CONFIG) as known:
        assert known is not None
        write_clip(clip.with_name("b.mp4"), steady(30), options=GROUPS)
        items = list_inputs(request.source, CONFIG, known=known).items()
    assert _take_marks(fake_core) == {"b.mp4"}
    assert [item.frames and item.frames.stop for item in items] == [10, 20, 30, 40, 10, 20, 30, None]
    with known_manifest(open_output(request.out), replace(CONFIG, video_chunk=20)) as known:
        assert known is None
    with pytest.raises(ConfigError, match=r"1 input was changed: b.mp4"):
        run_batch(request, **options)


def test_a_damaged_list_of_videos_is_not_believed(clip: Path, tmp_path: Path) -> None:
    Manifest.build(list_inputs(str(clip.parent), CONFIG), CONFIG).write(tmp_path / "m.parquet")
    whole = (tmp_path / "m.parquet").read_bytes()
    known = _known_parts(Manifest.open(tmp_path / "m.parquet"))
    assert [[part.start for part in parts] for parts in known.values()] == [[0, 10, 20, 30]]
    for place in range(4, len(whole), 61):
        (tmp_path / "m.parquet").write_bytes(whole[:place] + bytes([whole[place] ^ 16]) + whole[place + 1 :])
        with suppress(InvalidInputError):
            assert _known_parts(Manifest.open(tmp_path / "m.parquet")) in (known, {})


def _take_marks(folder: Path) -> set[str]:
    """Return the names of the videos that were read, and forget them."""
    marks = list(folder.glob("divided-*"))
    for mark in marks:
        mark.unlink()
    return {mark.name.removeprefix("divided-") for mark in marks}


def test_no_process_is_started_for_what_has_nothing_to_divide(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dividers_module, "_spawn", lambda: pytest.fail("a process was started"))
    for name in ("a.jpg", "empty.mp4", "short.mp4"):
        (tmp_path / name).write_bytes(b"x" * (name == "short.mp4"))
    (tmp_path / "gone.mp4").symlink_to(tmp_path / "nowhere")
    assert len(list_inputs(str(tmp_path), CONFIG)) == 4
