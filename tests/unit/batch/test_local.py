"""The local engine with real processes and a core without networks: nothing is lost, doubled, or left behind."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, cast

import pytest
from batch_fakes import fake_core, shards_of, write_pictures, write_video

from vision.batch.config import BatchConfig, RunOptions
from vision.batch.items import Failure, Shard
from vision.batch.local import LocalEngine
from vision.batch.shard_file import ShardWriter
from vision.errors import InvalidInputError, StateError

__all__ = ["fake_core"]
KILLS = 7
pytestmark = pytest.mark.usefixtures("fake_core")


class Writer:
    """Keeps what a shard's file would hold."""

    written: dict[int, Writer]

    def __init__(self, shard: Shard) -> None:
        self.index = shard.index
        self.rows: list[dict[str, Any]] = []
        self.failures: list[Failure] = []
        self.is_aborted = False

    def add(self, rows: Sequence[dict[str, Any]]) -> None:
        self.rows += rows

    def fail(self, failure: Failure) -> None:
        self.failures.append(failure)

    def commit(self) -> Writer:
        return self

    def abort(self) -> None:
        self.is_aborted = True

    def places(self) -> list[tuple[int, int]]:
        return [(row["item"], row["frame_index"]) for row in self.rows]


def run(
    shards: list[Shard], *, task: str = "detect", batch: int = 0, **options: Any
) -> tuple[list[Writer], LocalEngine]:
    """Run the shards and return what was committed, in order; no memory or process may be left."""
    config = BatchConfig(task=cast(Any, task), batch=batch)
    with LocalEngine(config, RunOptions(**{"decoders": 2, "item_timeout_s": 20.0, **options})) as engine:
        done = [cast(Writer, summary) for summary in engine.run(shards, lambda shard: cast(ShardWriter, Writer(shard)))]
        assert engine._arena.in_use == 0, "shared memory was not given back"
        pids = engine.pids
    assert not [pid for pid in pids if Path(f"/proc/{pid}").exists()], "a process was left"
    return sorted(done, key=lambda writer: writer.index), engine


def test_every_picture_becomes_one_row_in_its_place(tmp_path: Path) -> None:
    paths = write_pictures(tmp_path / "in", [f"{number:03}.png" for number in range(50)])
    done, engine = run(shards_of(paths, 12))
    assert [writer.index for writer in done] == [0, 1, 2, 3, 4]
    assert [key for writer in done for key in writer.places()] == [(number, 0) for number in range(50)]
    assert [int(row["boxes"][0][2]) for writer in done for row in writer.rows] == list(range(50))
    assert engine.counts == (50, 50, 0)
    assert engine.stages().decode_s > 0
    assert engine.stages().infer_s > 0


def test_the_company_in_a_batch_depends_on_the_place_alone(tmp_path: Path) -> None:
    paths = write_pictures(tmp_path / "in", [f"{number:03}.png" for number in range(22)])
    done, _ = run(shards_of(paths, 10), batch=4)
    companies = [round(float(row["scores"][0]) * 100) for writer in done for row in writer.rows]
    assert companies == [4] * 8 + [2] * 2 + [4] * 8 + [2] * 2 + [2] * 2


def test_pictures_larger_than_the_room_that_is_guessed_and_a_budget_smaller_than_a_batch(tmp_path: Path) -> None:
    import cv2
    import numpy as np

    paths = write_pictures(tmp_path / "in", [f"{number:03}.png" for number in range(16)])
    for path in paths[::5]:
        cv2.imwrite(str(path), np.full((900, 1200, 3), 7, np.uint8))
    done, _ = run(shards_of(paths, 16), batch=16, max_waiting_mb=1)
    assert done[0].places() == [(number, 0) for number in range(16)]
    assert done[0].rows[5]["height"] == 900


def test_bad_pictures_are_told_of_and_cost_nobody_else(tmp_path: Path) -> None:
    paths = write_pictures(tmp_path / "in", [f"{number}.png" for number in range(9)])
    paths[2].write_bytes(b"no picture")
    paths[4].write_bytes(paths[4].read_bytes()[:60])
    paths[6].unlink()
    done, engine = run(shards_of(paths, 9), batch=3)
    assert [item for item, _ in done[0].places()] == [0, 1, 3, 5, 7, 8]
    assert [(each.item, each.stage, each.tries) for each in done[0].failures] == [
        (2, "decode", 1),
        (4, "decode", 1),
        (6, "decode", 1),
    ]
    assert "2.png must be a JPEG" in done[0].failures[0].error
    assert engine.counts == (9, 6, 3)


@pytest.mark.parametrize(
    ("name", "stage", "said"),
    [
        ("crash-decode.png", "decode", "the decoder died of it (SIGSEGV), twice"),
        ("hang-decode.png", "decode", "nothing came of it within 1 s, twice"),
        ("crash-infer.png", "infer", "the inference process died of it (SIGSEGV), 3 times"),
        ("raise-infer.png", "infer", "RuntimeError: the network does not like this"),
    ],
)
def test_a_file_that_kills_is_isolated_after_two_tries(tmp_path: Path, name: str, stage: str, said: str) -> None:
    names = [f"{number:02}.png" for number in range(14)]
    names[5] = name
    paths = write_pictures(tmp_path / "in", names)
    done, _ = run(shards_of(paths, 7), batch=2, item_timeout_s=1.0 if "hang" in name else 20.0)
    assert [key for writer in done for key in writer.places()] == [(place, 0) for place in range(14) if place != 5]
    (failure,) = done[0].failures
    assert (failure.item, failure.path, failure.stage) == (5, name, stage)
    # In a batch of two it is tried in company, with its batch alone, and quite alone.
    assert failure.tries == (1 if "raise" in name else 3 if name == "crash-infer.png" else 2)
    assert said in failure.error
    assert not done[1].failures


@pytest.mark.parametrize("name", ["once-crash-decode.png", "once-hang-decode.png", "once-crash-infer.png"])
def test_what_goes_wrong_once_is_done_all_the_same(tmp_path: Path, fake_core: Path, name: str) -> None:
    names = [f"{number:02}.png" for number in range(8)]
    names[3] = name
    paths = write_pictures(tmp_path / "in", names)
    done, _ = run(shards_of(paths, 8), item_timeout_s=1.0)
    assert done[0].places() == [(place, 0) for place in range(8)]
    assert not done[0].failures
    assert list(fake_core.iterdir()), "nothing went wrong at all"


@pytest.mark.parametrize("name", ["once-crash-infer.png", "once-crash-decode.png"])
def test_a_process_that_dies_by_chance_changes_no_batch(tmp_path: Path, name: str) -> None:
    names = [f"{number:02}.png" for number in range(12)]
    names[6] = name
    done, _ = run(shards_of(write_pictures(tmp_path / "in", names), 12), batch=4)
    assert [round(float(row["scores"][0]) * 100) for row in done[0].rows] == [4] * 12


def test_an_inference_that_hangs_is_ended(tmp_path: Path) -> None:
    paths = write_pictures(tmp_path / "in", ["0.png", "once-hang-infer.png", "2.png"])
    done, _ = run(shards_of(paths, 3), item_timeout_s=1.0)
    assert done[0].places() == [(0, 0), (1, 0), (2, 0)]


def test_tracked_videos_keep_their_order_and_their_state(tmp_path: Path) -> None:
    paths = [write_video(tmp_path / f"{name}.mp4", frames) for name, frames in (("a", 23), ("b", 7), ("c", 40))]
    done, _ = run(shards_of(paths, 1), task="track", batch=4)
    assert [len(writer.rows) for writer in done] == [23, 7, 40]
    for place, writer in enumerate(done):
        assert writer.places() == [(place, index) for index in range(len(writer.rows))]
        # The fake tracker counts the frames that it has seen of its stream.
        seen = [row["boxes"][0][3] - row["boxes"][0][2] for row in writer.rows]
        assert seen == pytest.approx(range(1, len(seen) + 1), abs=1e-3)
        assert [row["timestamp_s"] for row in writer.rows] == pytest.approx([index / 25 for index in range(len(seen))])


@pytest.mark.parametrize("name", ["once-crash-infer.mp4", "crash-infer.mp4"])
def test_a_tracker_that_is_lost_begins_anew(tmp_path: Path, name: str) -> None:
    paths = [write_video(tmp_path / each, 12) for each in ("a.mp4", name, "z.mp4")]
    done, _ = run(shards_of(paths, 1), task="track", batch=4)
    is_lost = not name.startswith("once")
    assert [len(writer.rows) for writer in done] == [12, 0 if is_lost else 12, 12]
    for writer in done:
        seen = [row["boxes"][0][3] - row["boxes"][0][2] for row in writer.rows]
        assert seen == pytest.approx(range(1, len(seen) + 1), abs=1e-3)
    assert [len(writer.failures) for writer in done] == [0, int(is_lost), 0]


def test_a_damaged_video_keeps_its_frames_and_is_told_of(tmp_path: Path) -> None:
    path = write_video(tmp_path / "cut.mp4", 60)
    data = bytearray(path.read_bytes())
    data[1500:2200] = bytes(700)
    path.write_bytes(data)
    done, engine = run(shards_of([path], 1), batch=4)
    (failure,) = done[0].failures
    assert 5 < len(done[0].rows) < 60
    assert failure.rows == len(done[0].rows)
    assert "damaged or cut short" in failure.error
    assert engine.counts == (1, len(done[0].rows), 1)


def test_a_stop_gives_up_what_is_not_committed(tmp_path: Path) -> None:
    paths = write_pictures(tmp_path / "in", [f"{number:03}.png" for number in range(60)])
    writers: list[Writer] = []

    def open_writer(shard: Shard) -> ShardWriter:
        writers.append(Writer(shard))
        return cast(ShardWriter, writers[-1])

    with LocalEngine(BatchConfig(task="detect"), RunOptions(decoders=1)) as engine:
        done = list(engine.run(shards_of(paths, 50), open_writer, should_stop=lambda: engine.counts[0] > 5))
    assert not done
    assert all(writer.is_aborted for writer in writers)


def test_an_error_of_the_disk_ends_the_run(tmp_path: Path) -> None:
    paths = write_pictures(tmp_path / "in", ["0.png", "1.png"])

    def open_writer(shard: Shard) -> ShardWriter:
        raise InvalidInputError("no space left on the device; free some")

    with (
        LocalEngine(BatchConfig(task="detect"), RunOptions(decoders=1)) as engine,
        pytest.raises(InvalidInputError, match="no space"),
    ):
        list(engine.run(shards_of(paths, 2), open_writer))


def test_a_job_whose_every_item_fails_blames_no_item(tmp_path: Path) -> None:
    paths = write_pictures(tmp_path / "in", [f"raise-infer-{number:03}.png" for number in range(60)])
    with pytest.raises(StateError, match="all failed at the stage infer"):
        run(shards_of(paths, 60))


@pytest.mark.parametrize(("task", "batch"), [("detect", 3), ("track", 4)])
def test_workers_killed_at_any_moment_lose_and_double_nothing(tmp_path: Path, task: str, batch: int) -> None:
    chance = random.Random(3)
    frames = {f"slow-{number:02}.mp4": chance.randint(3, 40) for number in range(6)}
    paths = [write_video(tmp_path / "in" / name, count) for name, count in frames.items()]
    if task == "detect":
        paths += write_pictures(tmp_path / "in", [f"slow-{number:03}.png" for number in range(90)])
    shards = shards_of(paths, 16 if task == "detect" else 1)
    is_over = threading.Event()
    with LocalEngine(
        BatchConfig(task=cast(Any, task), batch=batch), RunOptions(decoders=2, max_waiting_mb=1)
    ) as engine:
        assert engine.facts.batch == batch

        def kill() -> None:
            for _ in range(KILLS):
                # Each time a little further: a process that is only starting has nothing that could be lost.
                seen = engine.counts[1]
                while engine.counts[1] == seen:
                    if is_over.wait(0.01):
                        return
                is_over.wait(chance.uniform(0, 0.3))
                with suppress(ProcessLookupError):
                    os.kill(chance.choice(engine.pids), signal.SIGKILL)

        killer = threading.Thread(target=kill)
        killer.start()
        try:
            done = [cast(Writer, each) for each in engine.run(shards, lambda shard: cast(ShardWriter, Writer(shard)))]
        finally:
            is_over.set()
            killer.join()
        assert engine._arena.in_use == 0
    for shard, writer in zip(shards, sorted(done, key=lambda each: each.index), strict=True):
        # Who was there at two deaths is taken for their cause, and wholly left out.
        lost = {failure.item for failure in writer.failures}
        kept = [item for item in shard.items if item.index not in lost]
        assert writer.places() == [(item.index, index) for item in kept for index in range(frames.get(item.name, 1))]
        if task == "track":
            seen = [row["boxes"][0][3] - row["boxes"][0][2] for row in writer.rows]
            assert seen == pytest.approx(range(1, len(seen) + 1), abs=1e-3)
    assert engine.counts[0] == len(paths)
    assert engine.counts[2] <= KILLS


@pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")
def test_killed_runs_leave_no_process(tmp_path: Path) -> None:
    write_pictures(tmp_path / "in", [f"hang-decode-{number}.png" for number in range(4)])
    script = (
        "import sys; sys.path[:] = " + repr(sys.path) + "\n"
        "from pathlib import Path\n"
        "from batch_fakes import shards_of\n"
        "from vision.batch.config import BatchConfig, RunOptions\n"
        "from vision.batch.local import LocalEngine\n"
        "with LocalEngine(BatchConfig(task='detect'), RunOptions(decoders=2)) as engine:\n"
        "    shards = shards_of(sorted(Path(sys.argv[1]).iterdir()), 4)\n"
        "    told = []\n"
        "    def tell():\n"
        "        if not told: told.append(print(*engine.pids, flush=True))\n"
        "    list(engine.run(shards, None, on_progress=tell))\n"
    )
    process = subprocess.Popen([sys.executable, "-c", script, str(tmp_path / "in")], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    pids = [int(word) for word in process.stdout.readline().split()]
    process.send_signal(signal.SIGKILL)
    process.wait()
    process.stdout.close()
    assert len(pids) == 3
    deadline = time.monotonic() + 10
    while any(_is_alive(pid) for pid in pids):
        assert time.monotonic() < deadline, "workers outlived the run"
        time.sleep(0.05)


def _is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
        return "Z" not in Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (OSError, IndexError):
        return False
