"""kill -9 ten times in the life of a batch job, then compare it with one that nobody disturbed.

    python benchmarks/batch_kills.py [--pictures 2000] [--kills 10] [--seed 32] [--out FILE]

The same pictures (five of them damaged) are processed twice by ``stride32 batch --task detect``: once to the end, once
killed again and again and gone on with by ``--resume``. The kills are drawn from a seed:

    start     at some moment of the first seconds: processes begin, networks load, inputs are listed, the job is planned
    work      at some moment of what is left of the work, after the decoders are there
    commit    in the milliseconds in which a shard's file is written, brought to the disk and renamed

They strike the coordinator alone, or it and all its workers. In between, and in the run that ends the job, workers are
killed alone: that must not end a run. Fails unless in the end the files of all shards, the list of inputs, job.json and
the quarantine are the same byte by byte, each item is there once (as a row or a failure), ``verify`` finds nothing, and
neither a process nor an unfinished file is left. Writes benchmarks/results/batch_kills.json.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from batch_pictures import IN_WORDS, damage, write_pictures
from service_processes import process_tree

from vision.bench.machine import describe_machine

RESULTS = Path(__file__).parent / "results" / "batch_kills.json"
SHARD_SIZE, DAMAGED = 50, 5
# Of ten kills; the rest of them come while the job works.
START_SHARE, COMMIT_SHARE = 0.3, 0.3
GROUP_SHARE, WORKER_SHARE = 0.3, 0.4
# Marks the processes of this test, so that none is overlooked.
MARK = "STRIDE32_BATCH_KILLS"
PERIOD_S = 0.001


@dataclass(frozen=True)
class Kill:
    """One kill and what it hit."""

    moment: str
    after_s: float
    victims: int
    workers_killed_before: int
    committed_before: int
    committed_after: int
    unfinished_files: int
    is_job: bool


class Job:
    """A job in a folder, run by the command line as a user would.

    Args:
        pictures: its inputs. out: where it goes. temporary: TMPDIR of its runs.
    """

    def __init__(self, pictures: Path, out: Path, temporary: Path) -> None:
        self.out = out
        words = ["batch", str(pictures), "--task", "detect", "--out", str(out), "--shard-size", str(SHARD_SIZE)]
        self._command = [sys.executable, "-m", "vision.cli", *words, "--resume"]
        self._environment = {**os.environ, MARK: str(os.getpid()), "TMPDIR": str(temporary)}
        self._log = out.with_suffix(".log")

    def start(self) -> subprocess.Popen[bytes]:
        """Begin the job, or go on with it."""
        with self._log.open("ab") as log:
            return subprocess.Popen(
                self._command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=self._environment
            )

    def finish(self, process: subprocess.Popen[bytes]) -> None:
        """Wait for the end of a run that must end the job; some items have failed, which is exit code 3."""
        code = process.wait(3600)
        if code != 3:
            raise RuntimeError(f"the run must end with 3, it ended with {code}:\n{self.said()}")

    def said(self) -> str:
        """Return the last lines of what the runs wrote."""
        return self._log.read_text(encoding="utf-8", errors="replace")[-2000:]

    def committed(self) -> int:
        """Return how many shards there are."""
        return len(list((self.out / "rows").glob("shard-*.parquet")))

    def is_committing(self, committed: int) -> bool:
        """Return whether a shard is being written at this moment, or was just committed."""
        if self.committed() > committed:
            return True
        with suppress(OSError):
            return any(path.stat().st_size for path in (self.out / "rows").glob(".*.part"))
        return False

    def unfinished(self) -> list[str]:
        """Return the files that were not given their name."""
        return [path.name for path in self.out.rglob("*") if path.name.endswith(".part")]

    def verify(self) -> dict[str, Any]:
        """Return what ``batch verify`` says."""
        command = [sys.executable, "-m", "vision.cli", "batch", "verify", str(self.out), "--json"]
        found: dict[str, Any] = json.loads(subprocess.run(command, capture_output=True, text=True, check=False).stdout)
        return found

    def digests(self) -> dict[str, str]:
        """Return the sha256 of each file that must not depend on when or how often it was made."""
        files = [*(self.out / "rows").iterdir(), *(self.out / name for name in ("manifest.parquet", "job.json"))]
        files.append(self.out / "quarantine.jsonl")
        return {str(path.relative_to(self.out)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}

    def keys(self) -> list[tuple[int, str, int]]:
        """Return item, path and frame of each row."""
        import pyarrow.parquet as pq

        found: list[tuple[int, str, int]] = []
        for path in sorted((self.out / "rows").iterdir()):
            columns = pq.read_table(path, columns=["item", "path", "frame_index"]).to_pydict().values()
            found += zip(*columns, strict=True)
        return found

    def failed_items(self) -> list[int]:
        """Return the items of the quarantine."""
        lines = (self.out / "quarantine.jsonl").read_text(encoding="utf-8").splitlines()
        return [int(json.loads(line)["item"]) for line in lines]


class Killer:
    """Ends runs at moments that a seed decides.

    Args:
        job: whose runs. shards: that it has.
        start_s, work_s: how long an undisturbed run starts and works.
        choice: of all that is random.
    """

    def __init__(self, job: Job, shards: int, start_s: float, work_s: float, choice: random.Random) -> None:
        self._job = job
        self._shards = shards
        self._start_s = start_s
        self._work_s = work_s
        self._choice = choice

    def moments(self, kills: int) -> list[str]:
        """Return the kind of each kill, in order."""
        starts, commits = round(START_SHARE * kills), round(COMMIT_SHARE * kills)
        kinds = ["start"] * starts + ["commit"] * commits + ["work"] * (kills - starts - commits)
        self._choice.shuffle(kinds)
        return kinds

    def strike(self, moment: str, left: int) -> Kill:
        """Start a run and kill it; ``left`` kills come after this one."""
        before = self._job.committed()
        started = time.monotonic()
        process = self._job.start()
        share_s = self._work_s * (1 - before / self._shards) / (left + 2)
        workers = self._kill_worker(process, share_s) if moment != "start" else 0
        if moment == "start":
            self._wait(process, self._choice.uniform(0, self._start_s))
        elif moment == "work":
            self._wait_for_work(process)
            self._wait(process, self._choice.uniform(0, 2 * share_s))
        else:
            committed = self._job.committed()
            while not self._job.is_committing(committed):
                self._wait(process, PERIOD_S)
            time.sleep(self._choice.uniform(0, 0.01))
        tree = process_tree(process.pid)
        victims = tree[1:] if self._choice.random() < GROUP_SHARE else []
        after_s = time.monotonic() - started
        for pid in (*victims, process.pid):
            kill(pid)
        if process.wait() != -signal.SIGKILL:
            raise RuntimeError(f"the run ended with {process.returncode} before a kill:\n{self._job.said()}")
        return Kill(
            moment=moment,
            after_s=round(after_s, 3),
            victims=1 + len(victims),
            workers_killed_before=workers,
            committed_before=before,
            committed_after=self._job.committed(),
            unfinished_files=len(self._job.unfinished()),
            is_job=(self._job.out / "job.json").exists(),
        )

    def finish(self) -> int:
        """Go on to the end, with a worker killed on the way; return how many were."""
        process = self._job.start()
        killed = self._kill_worker(process, self._work_s / self._shards, always=True)
        self._job.finish(process)
        return killed

    def _kill_worker(self, process: subprocess.Popen[bytes], within_s: float, *, always: bool = False) -> int:
        """Perhaps kill a worker while the run works; return how many were killed."""
        if not always and self._choice.random() >= WORKER_SHARE:
            return 0
        self._wait_for_work(process)
        self._wait(process, self._choice.uniform(0, within_s))
        kill(self._choice.choice(sorted(workers_of(process))))
        return 1

    def _wait_for_work(self, process: subprocess.Popen[bytes]) -> None:
        """Wait until there is a decoder: the networks are loaded then."""
        while not any("decode_worker" in each for each in workers_of(process).values()):
            self._wait(process, 10 * PERIOD_S)

    def _wait(self, process: subprocess.Popen[bytes], seconds: float) -> None:
        end = time.monotonic() + seconds
        while True:
            if process.poll() is not None:
                raise RuntimeError(f"the run ended with {process.returncode} before a kill:\n{self._job.said()}")
            if time.monotonic() >= end:
                return
            time.sleep(min(PERIOD_S, max(0.0, end - time.monotonic())))


def workers_of(process: subprocess.Popen[bytes]) -> dict[int, str]:
    """Return the workers of a run and what each of them runs; libraries start other processes now and then."""
    found = {}
    for pid in process_tree(process.pid)[1:]:
        with suppress(OSError):
            words = (Path("/proc") / str(pid) / "cmdline").read_bytes().decode(errors="replace")
            if "vision.batch." in words:
                found[pid] = words
    return found


def kill(pid: int) -> None:
    """End a process at once."""
    with suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)


def run_undisturbed(job: Job) -> tuple[float, float]:
    """Run a job to its end and return the seconds of its start and of its work."""
    process = job.start()
    job.finish(process)
    (run,) = json.loads((job.out / "report.json").read_text(encoding="utf-8"))["runs"]
    return run["startup_s"], run["seconds"] - run["startup_s"]


def processes_left() -> list[int]:
    """Return the processes of this test's runs that are still there."""
    mark, found = f"{MARK}={os.getpid()}".encode(), []
    for path in Path("/proc").glob("[0-9]*/environ"):
        with suppress(OSError):
            if mark in path.read_bytes().split(b"\0"):
                found.append(int(path.parent.name))
    return found


def wait_for_the_end(timeout_s: float = 30.0) -> list[int]:
    """Return the processes that are there in spite of some patience: a worker looks for its coordinator each second."""
    end = time.monotonic() + timeout_s
    while processes_left() and time.monotonic() < end:
        time.sleep(0.1)
    return processes_left()


def compare(undisturbed: Job, killed: Job, pictures: Sequence[Path]) -> list[str]:
    """Return all that is wrong with the job that was killed."""
    wrong = []
    expected, found = undisturbed.digests(), killed.digests()
    for name in sorted(expected.keys() | found.keys()):
        if expected.get(name) != found.get(name):
            wrong.append(f"{name} is {'missing' if name not in found else 'not the same'}")
    times = Counter(killed.keys())
    wrong += [f"{key} is there {count} times" for key, count in times.items() if count > 1]
    # Names sort as the job's items do, so their place in the list is their index.
    rows = {item for item, _, _ in times}
    failed = killed.failed_items()
    wrong += [f"item {item} failed and has rows" for item in failed if item in rows]
    wrong += [f"item {item} is lost" for item in range(len(pictures)) if item not in rows and item not in failed]
    wrong += [f"{path} of item {item} is not its picture" for item, path, _ in times if pictures[item].name != path]
    if len(failed) != DAMAGED:
        wrong.append(f"{len(failed)} items failed in place of {DAMAGED}")
    report = killed.verify()
    if report["damage"] or report["pending"] or report["items"] != len(pictures):
        wrong.append(f"verify says {report}")
    wrong += [f"{name} is left" for name in killed.unfinished()]
    wrong += [f"process {pid} is left" for pid in wait_for_the_end()]
    return wrong


def main() -> int:
    """Kill, compare, and write the JSON; 1 where something is wrong."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pictures", type=int, default=2000)
    parser.add_argument("--kills", type=int, default=10)
    parser.add_argument("--seed", type=int, default=32)
    parser.add_argument("--out", type=Path, default=RESULTS)
    options = parser.parse_args()
    machine = describe_machine()
    with tempfile.TemporaryDirectory(prefix="stride32-kills-") as folder:
        place = Path(folder)
        temporary = place / "tmp"
        temporary.mkdir()
        pictures = write_pictures(place / "pictures", options.pictures)
        damage(pictures[:: len(pictures) // DAMAGED][:DAMAGED])
        undisturbed = Job(place / "pictures", place / "undisturbed", temporary)
        start_s, work_s = run_undisturbed(undisturbed)
        print(f"undisturbed: {start_s:.1f} s of starting, {work_s:.1f} s of work", flush=True)
        job = Job(place / "pictures", place / "killed", temporary)
        shards = undisturbed.committed()
        killer = Killer(job, shards, start_s, work_s, random.Random(options.seed))
        kills = []
        for number, moment in enumerate(killer.moments(options.kills), start=1):
            kills.append(killer.strike(moment, options.kills - number))
            print(f"kill {number}: {kills[-1]}", flush=True)
        workers = sum(each.workers_killed_before for each in kills) + killer.finish()
        wrong = compare(undisturbed, job, pictures)
        record = {
            "commit": commit(),
            "machine": machine,
            "pictures": f"{options.pictures}, {IN_WORDS}; {DAMAGED} of them damaged",
            "seed": options.seed,
            "undisturbed_s": {"start": round(start_s, 2), "work": round(work_s, 2)},
            "kills": [asdict(each) for each in kills],
            "workers_killed_alone": workers,
            "shards": {"total": shards, "same_bytes": same_bytes(undisturbed, job)},
            "rows": len(job.keys()),
            "quarantined": len(job.failed_items()),
            "left_in_tmp": sorted(path.name for path in temporary.iterdir()),
            "wrong": wrong,
        }
    options.out.write_text(json.dumps(record, indent=1) + "\n")
    print(json.dumps({key: value for key, value in record.items() if key not in ("kills", "machine")}, indent=1))
    return 1 if wrong else 0


def same_bytes(one: Job, other: Job) -> int:
    """Return how many shard files are the same in both."""
    expected, found = one.digests(), other.digests()
    return sum(found.get(name) == digest for name, digest in expected.items() if name.startswith("rows/"))


def commit() -> str:
    """Return the version of this checkout."""
    command = ["git", "rev-parse", "--short", "HEAD"]
    return subprocess.run(command, capture_output=True, text=True, check=False).stdout.strip()


if __name__ == "__main__":
    sys.exit(main())
