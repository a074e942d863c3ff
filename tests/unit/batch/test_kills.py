"""kill -9 at any moment of a run, ten times over: what is there in the end is what an undisturbed run writes."""

from __future__ import annotations

import multiprocessing
import os
import random
import signal
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from multiprocessing.process import BaseProcess
from pathlib import Path
from unittest.mock import MagicMock

import cv2
import numpy as np
import pytest
from batch_fakes import SITECUSTOMIZE, shards_of, write_pictures

from vision.batch.config import BatchConfig, RunOptions
from vision.batch.local import LocalEngine
from vision.batch.messages import Setup
from vision.batch.output import open_output
from vision.batch.run import BatchRequest, run_batch
from vision.batch.verify import verify_job
from vision.batch.worker_process import WorkerProcess
from vision.errors import ModelError

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")

PICTURES, SHARD, DAMAGED = 300, 20, (0, 19, 20, 150, 299)
SEED = 32
# So slow that kills land between pictures, too.
PICTURE_S = 0.004
_SLOWNESS = f"""
if "vision.batch.infer_worker" in sys.orig_argv:
    quick = Core.rows
    Core.rows = lambda core, works: (time.sleep({PICTURE_S} * len(works)), quick(core, works))[1]
"""


@pytest.fixture
def pictures(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Pictures, five of them damaged, and processes that use the slow fake core."""
    site = tmp_path / "site"
    (site / "marks").mkdir(parents=True)
    (site / "sitecustomize.py").write_text(SITECUSTOMIZE + _SLOWNESS)
    monkeypatch.syspath_prepend(site)
    paths = write_pictures(tmp_path / "in", [f"{number:03}.png" for number in range(PICTURES)])
    for number in DAMAGED:
        paths[number].write_bytes(paths[number].read_bytes()[: 40 + number % 7])
    return tmp_path / "in"


class Runs:
    """Runs of one job, each in a process that has the modules loaded already: ten starts in the time of three."""

    def __init__(self, pictures: Path, out: Path) -> None:
        self._context = multiprocessing.get_context("forkserver")
        self._context.set_forkserver_preload(["vision.batch.run", "vision.batch.verify", "pyarrow.parquet", "pytest"])
        config = BatchConfig(task="detect", shard_size=SHARD)
        self._request = BatchRequest(
            source=str(pictures), out=str(out), config=config, options=RunOptions(decoders=2), resume=True
        )
        self.out = out
        # The first one waits until the modules are loaded, which is no part of a run.
        self._run(abs, 0).join()

    def start(self) -> BaseProcess:
        """Begin or go on."""
        return self._run(run_batch, self._request)

    def _run(self, target: Callable[..., object], argument: object) -> BaseProcess:
        process = self._context.Process(target=target, args=(argument,))
        process.start()
        return process

    def committed(self) -> int:
        """Return how many shards there are."""
        return len(list((self.out / "rows").glob("shard-*.parquet")))

    def finish(self) -> None:
        """Go on to the end."""
        process = self.start()
        process.join(60)
        assert process.exitcode == 0


def test_ten_kills_change_nothing(pictures: Path, tmp_path: Path) -> None:
    undisturbed = Runs(pictures, tmp_path / "undisturbed")
    started = time.monotonic()
    process = undisturbed.start()
    wait_for(lambda: undisturbed.committed() > 0)
    start_s = time.monotonic() - started
    process.join(60)
    assert process.exitcode == 0

    killed = Runs(pictures, tmp_path / "killed")
    choice = random.Random(SEED)
    # While it starts and plans; and while it works, near a commit or between two.
    moments = ["start"] * 5 + ["work"] * 5
    choice.shuffle(moments)
    progress = [kill_once(killed, moment, start_s, choice) for moment in moments]
    assert 0 < progress[-1] < PICTURES // SHARD, f"the kills came too early or too late: {progress}"
    assert len(set(progress)) > 3, f"the kills hit no work: {progress}"
    killed.finish()

    assert contents(killed.out) == contents(undisturbed.out)
    assert_each_item_once(killed.out)
    report = verify_job(open_output(str(killed.out)))
    assert not report.damage
    assert not report.pending
    assert (report.items, report.rows, report.failures) == (PICTURES, PICTURES - len(DAMAGED), len(DAMAGED))
    assert not [path for path in killed.out.rglob("*") if ".part" in path.name]
    wait_for(lambda: not processes_of(tmp_path))


def test_memory_stays_bounded_while_networks_are_loaded_again(pictures: Path, tmp_path: Path) -> None:
    paths = [tmp_path / f"{number}.png" for number in range(120)]
    for path in paths:
        assert cv2.imwrite(str(path), np.zeros((400, 400, 3), np.uint8))
    in_use: list[int] = []
    with LocalEngine(BatchConfig(task="detect"), RunOptions(decoders=2, max_waiting_mb=5)) as engine:

        def kill_the_inference_once() -> None:
            if not in_use and engine.counts[1] > 2:
                kill(engine.pids[0])
            if engine.counts[1] > 2:
                in_use.append(engine._arena.in_use)

        writer = MagicMock(**{"commit.return_value.index": 0})
        shards = shards_of(paths, len(paths))
        assert list(engine.run(shards, lambda shard: writer, on_progress=kill_the_inference_once))
    assert engine.counts == (120, 120, 0)
    # Beside the budget what the decoders were promised before they knew the size.
    assert max(in_use) < 5e6 + 4 * 2**20


def kill_once(runs: Runs, moment: str, start_s: float, choice: random.Random) -> int:
    """Start a run, kill it at a chosen moment, and return how many shards there are then."""
    before = runs.committed()
    process = runs.start()
    if moment == "work":
        wait_for(lambda: runs.committed() > before)
        if choice.random() < 0.5:
            kill(choice.choice(children(process)))
        time.sleep(choice.uniform(0, 1.2) * SHARD * PICTURE_S / 2)
    else:
        time.sleep(choice.uniform(0, 0.9) * start_s)
    assert process.exitcode is None, "the run ended before it was killed"
    victims = children(process) if choice.random() < 0.3 else []
    for pid in [*victims, process.pid]:
        kill(pid)
    process.join()
    assert process.exitcode == -signal.SIGKILL
    return runs.committed()


def kill(pid: int | None) -> None:
    assert pid is not None
    with suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)


def children(process: BaseProcess) -> list[int]:
    """Return the workers of a run."""
    lists = Path(f"/proc/{process.pid}/task").glob("*/children")
    return [int(pid) for path in lists for pid in path.read_text().split()]


def processes_of(folder: Path) -> list[int]:
    """Return all workers that use the fake core of a test."""
    found = []
    for path in Path("/proc").glob("[0-9]*/environ"):
        with suppress(OSError):
            if str(folder).encode() in path.read_bytes() and b"PYTHONPATH" in path.read_bytes():
                found.append(int(path.parent.name))
    return found


def contents(out: Path) -> dict[str, bytes]:
    """Return the bytes of what does not depend on when it was made."""
    files = [*(out / "rows").iterdir(), out / "quarantine.jsonl", out / "manifest.parquet", out / "job.json"]
    return {str(path.relative_to(out)): path.read_bytes() for path in files}


def assert_each_item_once(out: Path) -> None:
    import pyarrow.parquet as pq

    tables = [pq.read_table(path, columns=["item", "frame_index"]) for path in sorted((out / "rows").iterdir())]
    keys = [key for table in tables for key in zip(*table.to_pydict().values(), strict=True)]
    assert keys == [(item, 0) for item in range(PICTURES) if item not in DAMAGED]


def wait_for(condition: Callable[[], bool], timeout_s: float = 30.0) -> None:
    end = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < end, "it did not come about in time"
        time.sleep(0.002)


@pytest.mark.usefixtures("pictures")
def test_networks_are_loaded_again_by_a_process_in_the_place_of_one_that_was_killed() -> None:
    with LocalEngine(BatchConfig(task="detect"), RunOptions(decoders=1)) as engine:
        kill(engine.pids[0])
        assert engine.facts.class_names == ("thing",)


@pytest.mark.usefixtures("pictures")
def test_networks_that_kill_every_process_end_the_run(monkeypatch: pytest.MonkeyPatch) -> None:
    with LocalEngine(BatchConfig(task="detect"), RunOptions(decoders=1)) as engine:
        spawn = engine._inferers._spawn

        def spawn_and_kill(setup: Setup) -> WorkerProcess:
            process = spawn(setup)
            kill(process.pid)
            return process

        monkeypatch.setattr(engine._inferers, "_spawn", spawn_and_kill)
        kill(engine.pids[0])
        with pytest.raises(ModelError, match=r"it died 2 times \(SIGKILL, perhaps for lack of memory\)"):
            _ = engine.facts
