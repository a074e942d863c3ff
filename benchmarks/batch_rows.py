"""One measurement of bench_batch.py in a process of its own; prints its figures as JSON.

    python benchmarks/batch_rows.py decode|infer|loader|local|ray|plan --pictures DIR --task detect [--count N]

    decode   the decoding of all pictures and nothing behind it, a process a CPU
    infer    the networks alone, with the threads and batches of a run; the pictures are decoded before the clock starts
    loader   what one writes in thirty lines: a DataLoader whose workers decode, the detector in the main process, and
             the results in one Parquet file at the end
    local    a batch job on this machine, as ``stride32 batch`` runs it
    ray      the same with --engine ray
    plan     a job's beginning: 50,000 names listed, sorted, divided into shards and written to a manifest

``per_s`` is pictures a second without the start (imports, models, the start of workers; of Ray its actors load their
networks later), ``steady_per_s`` from the first rows to the last, ``seconds`` the wall time with the start, ``cpu_ms``
the processor time of a picture, of all processes together and without the start where it can be told apart; ``cv`` is
the standard deviation of a picture's processor time over its mean.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import multiprocessing
import os
import secrets
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from queue import Empty, SimpleQueue
from statistics import fmean, pstdev
from typing import TYPE_CHECKING, Any

from service_processes import cpu_seconds

if TYPE_CHECKING:
    from vision.batch.stats import RunProgress

Figures = dict[str, Any]
# Decoded pictures that the row "infer" goes round: 120 MB, far more than a cache holds.
IN_MEMORY = 128
LOADER_WORKERS, LOADER_BATCH = 2, 8
PLANNED = 50_000


def figures(count: int, work_s: float, started_s: float, cpu_s: float, **more: Any) -> Figures:
    """Return what each row says."""
    return {
        "per_s": count / work_s,
        "seconds": time.perf_counter() - started_s,
        "cpu_ms": 1000 * cpu_s / count,
        "count": count,
        **more,
    }


def measure_decode(pictures: Sequence[Path], task: str) -> Figures:
    """Decode everything, a process a CPU."""
    started = time.perf_counter()
    cpus = len(os.sched_getaffinity(0))
    # As the decoders of a run have it: one thread each.
    os.environ["OPENCV_FOR_THREADS_NUM"] = "1"
    context = multiprocessing.get_context("spawn")
    barrier, answers = context.Barrier(cpus + 1), context.SimpleQueue()
    # In turns, so that each process has the same mix.
    shares = [[str(path) for path in pictures[number::cpus]] for number in range(cpus)]
    workers = [context.Process(target=_decode_share, args=(share, barrier, answers)) for share in shares]
    for worker in workers:
        worker.start()
    barrier.wait()
    begun = time.perf_counter()
    found = [answers.get() for _ in workers]
    work_s = time.perf_counter() - begun
    for worker in workers:
        worker.join()
    seconds = [each for share in found for each in share]
    return figures(len(pictures), work_s, started, sum(seconds), cv=pstdev(seconds) / fmean(seconds))


def _decode_share(paths: Sequence[str], barrier: Any, answers: Any) -> None:
    from vision.io.images import read_image

    read_image(paths[0])
    barrier.wait()
    seconds = []
    for path in paths:
        before = time.process_time()
        read_image(path)
        seconds.append(time.process_time() - before)
    answers.put(seconds)


def measure_infer(pictures: Sequence[Path], task: str) -> Figures:
    """Compute rows of pictures that lie in memory, with as many threads as a run has."""
    from vision.batch.config import BatchConfig
    from vision.batch.core import open_core
    from vision.batch.facts import Work
    from vision.io.images import read_image

    started = time.perf_counter()
    core = open_core(BatchConfig(task=task))  # type: ignore[arg-type]
    frames = [read_image(path) for path in pictures[:IN_MEMORY]]
    batches: SimpleQueue[list[Work]] = SimpleQueue()
    works = (Work(number, "", number, frames[number % len(frames)]) for number in range(len(pictures)))
    while batch := list(islice(works, core.facts.batch)):
        batches.put(batch)
    core.rows([Work(0, "", 0, frame) for frame in frames[: core.facts.batch]])

    seconds: list[float] = []

    def compute() -> None:
        with contextlib.suppress(Empty):
            while True:
                batch, since = batches.get_nowait(), time.thread_time()
                core.rows(batch)
                seconds.append(time.thread_time() - since)

    threads = [threading.Thread(target=compute) for _ in range(core.facts.parallel)]
    begun, before = time.perf_counter(), time.process_time()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    work_s = time.perf_counter() - begun
    # Pictures of a batch are independent: together they differ less than each does.
    cv = pstdev(seconds) / fmean(seconds) * core.facts.batch**0.5
    facts = {"threads": core.facts.parallel, "batch": core.facts.batch, "cv": cv}
    return figures(len(pictures), work_s, started, time.process_time() - before, **facts)


def measure_loader(pictures: Sequence[Path], task: str) -> Figures:
    """Do it by hand: decode in a DataLoader's workers, compute in this process, write one file at the end."""
    if task != "detect":
        raise SystemExit("the row loader is written for the task detect")
    started = time.perf_counter()
    import cv2
    import pyarrow as pa
    import pyarrow.parquet as pq
    from torch.utils.data import DataLoader, Dataset

    from vision.build import build_detector
    from vision.config import PipelineConfig
    from vision.runtime.config import RuntimeConfig
    from vision.types import Frame

    class Pictures(Dataset[tuple[str, Any]]):
        def __len__(self) -> int:
            return len(pictures)

        def __getitem__(self, index: int) -> tuple[str, Any]:
            return str(pictures[index]), cv2.imread(str(pictures[index]), cv2.IMREAD_COLOR_RGB)

    detector = build_detector(PipelineConfig().detection, RuntimeConfig())
    begun, before = time.perf_counter(), cpu_seconds(os.getpid())
    loader = DataLoader(Pictures(), batch_size=LOADER_BATCH, num_workers=LOADER_WORKERS, collate_fn=list)
    rows = []
    for batch in loader:
        found = detector.detect([Frame(image, source=path) for path, image in batch])
        for (path, image), each in zip(batch, found, strict=True):
            rows.append(
                {
                    "path": path,
                    "height": image.shape[0],
                    "width": image.shape[1],
                    "boxes": each.boxes.tolist(),
                    "scores": each.scores.tolist(),
                    "labels": each.labels.tolist(),
                }
            )
    with tempfile.TemporaryDirectory() as folder:
        pq.write_table(pa.Table.from_pylist(rows), Path(folder, "rows.parquet"))
    work_s = time.perf_counter() - begun
    return figures(len(rows), work_s, started, cpu_seconds(os.getpid()) - before, batch=LOADER_BATCH)


def measure_engine(pictures: Sequence[Path], task: str, engine: str) -> Figures:
    """Run a batch job on the folder of the pictures."""
    started = time.perf_counter()
    from vision.batch.config import BatchConfig
    from vision.batch.run import BatchRequest, run_batch

    with tempfile.TemporaryDirectory() as folder:
        names = Path(folder, "names.txt")
        names.write_text("".join(f"{path}\n" for path in pictures))
        request = BatchRequest(
            source=str(names),
            out=str(Path(folder, "out")),
            config=BatchConfig(task=task),  # type: ignore[arg-type]
            engine=engine,  # type: ignore[arg-type]
        )
        clock = _Clock()
        report = run_batch(request, on_progress=clock.tick)
        written = sum(path.stat().st_size for path in Path(folder, "out", "rows").iterdir())
    if report.failures or report.rows != len(pictures):
        raise RuntimeError(f"all {len(pictures)} pictures must become rows, {report.rows} did: {report}")
    stages = report.stages
    return figures(
        report.rows,
        report.rows / report.images_per_s,
        started,
        clock.total_s(),
        coordinator_cpu_ms=1000 * clock.own_s() / report.rows,
        startup_s=report.startup_s,
        steady_per_s=clock.steady_per_s(),
        rows_bytes=written / report.rows,
        idle_share=report.device_idle_share,
        # Wall time of the workers, in which they may have waited for a CPU.
        stage_ms={name: 1000 * getattr(stages, f"{name}_s") / report.rows for name in ("decode", "infer", "write")},
        workers={"decode": stages.decoders, "infer": stages.inferers},
    )


class _Clock:
    """Processor time of a run from its first progress on (the models are loaded by then), and its steady speed."""

    def __init__(self) -> None:
        self._began: tuple[float, float] | None = None
        self._rows: list[tuple[float, int]] = []

    def tick(self, progress: RunProgress) -> None:
        """Remember the first moment, and when how many rows were there."""
        if self._began is None:
            self._began = cpu_seconds(os.getpid()), time.process_time()
        if progress.rows:
            self._rows.append((time.perf_counter(), progress.rows))

    def steady_per_s(self) -> float:
        """Return rows a second from the first that were told of to the last: engines start in different ways."""
        (first_s, first), (last_s, last) = self._rows[0], next(each for each in self._rows if each[1] == self._last)
        return (last - first) / max(last_s - first_s, 1e-9)

    @property
    def _last(self) -> int:
        return self._rows[-1][1]

    def total_s(self) -> float:
        """Return the time of all processes; those that have ended are counted by their parent."""
        return cpu_seconds(os.getpid()) - (self._began or (0.0, 0.0))[0]

    def own_s(self) -> float:
        """Return the time of this process alone."""
        return time.process_time() - (self._began or (0.0, 0.0))[1]


def measure_local(pictures: Sequence[Path], task: str) -> Figures:
    """Run on this machine."""
    return measure_engine(pictures, task, "local")


def measure_ray(pictures: Sequence[Path], task: str) -> Figures:
    """Run on a Ray that is started here."""
    found = measure_engine(pictures, task, "ray")
    if "ray" not in sys.modules:
        raise RuntimeError("the run did not use Ray")
    # Its processes are not ours, so nobody has told us of their time.
    return {key: value for key, value in found.items() if not key.endswith("cpu_ms")}


def measure_plan(pictures: Sequence[Path], task: str) -> Figures:
    """List many names and plan a job of them."""
    from vision.batch.config import BatchConfig
    from vision.batch.listing import list_inputs
    from vision.batch.manifest import Manifest

    config = BatchConfig(task=task)  # type: ignore[arg-type]
    with tempfile.TemporaryDirectory(dir=pictures[0].parent.parent) as folder:
        for number in range(PLANNED):
            # Names that do not shrink by compression, as those of real collections.
            os.link(pictures[number % len(pictures)], Path(folder, f"{secrets.token_hex(10)}.jpg"))
        started, before = time.perf_counter(), time.process_time()
        inputs = list_inputs(folder, config)
        manifest = Manifest.build(inputs, config)
        written = Path(folder, "manifest.parquet")
        manifest.write(written)
        work_s = time.perf_counter() - started
        sizes = {"file_bytes": written.stat().st_size / PLANNED, "memory_bytes": inputs.table.nbytes / PLANNED}
    return figures(PLANNED, work_s, started, time.process_time() - before, **sizes)


ROWS: dict[str, Callable[[Sequence[Path], str], Figures]] = {
    "decode": measure_decode,
    "infer": measure_infer,
    "loader": measure_loader,
    "local": measure_local,
    "ray": measure_ray,
    "plan": measure_plan,
}


@contextlib.contextmanager
def _quiet_output() -> Iterator[Any]:
    """Keep the JSON apart from what libraries print: give them stderr as their stdout."""
    with os.fdopen(os.dup(1), "w") as ours:
        os.dup2(2, 1)
        yield ours


def main() -> int:
    """Measure one row."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("row", choices=ROWS)
    parser.add_argument("--pictures", type=Path, required=True)
    parser.add_argument("--task", default="detect")
    parser.add_argument("--count", type=int, help="pictures to take; all without it")
    options = parser.parse_args()
    pictures = sorted(path for path in options.pictures.iterdir() if path.is_file())[: options.count]
    with _quiet_output() as output:
        json.dump(ROWS[options.row](pictures, options.task), output)
    return 0


if __name__ == "__main__":
    sys.exit(main())
