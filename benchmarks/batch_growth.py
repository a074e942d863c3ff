"""What a picture costs, and what memory a job takes, as jobs grow: a cheap task, so that the job itself would show.

The pictures are 200 files under many names; each name is an item. Memory is the sum of PSS (pages that processes share
are counted once) over the coordinator and its workers, sampled while the run works.
"""

from __future__ import annotations

import json
import subprocess
import tempfile
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from statistics import median
from typing import Any

from batch_pictures import write_pictures
from service_processes import memory_mb, python

HERE = Path(__file__).parent
TASK = "embed"
DISTINCT = 200
PERIOD_S = 0.5
Figures = dict[str, Any]


def measure_growth(folder: Path, counts: Sequence[int]) -> list[Figures]:
    """Return the figures of a job of each size."""
    pictures = folder / "growth"
    write_pictures(pictures, max(counts), distinct=DISTINCT)
    return [measure_job(pictures, count) for count in counts]


def measure_job(pictures: Path, count: int) -> Figures:
    """Return speed, processor time and memory of one job."""
    row = [python(), str(HERE / "batch_rows.py"), "local", "--task", TASK]
    command = [*row, "--pictures", str(pictures), "--count", str(count)]
    with tempfile.TemporaryFile("w+") as answer, tempfile.TemporaryFile("w+") as errors:
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=answer, stderr=errors)
        samples = _Samples(process)
        if process.wait():
            errors.seek(0)
            raise RuntimeError(f"a job of {count} pictures failed:\n{errors.read()[-3000:]}")
        memory = samples.close()
        answer.seek(0)
        found = json.load(answer)
    made = {
        "pictures": count,
        "per_s": round(found["per_s"], 2),
        "ms": round(1000 / found["per_s"], 3),
        "cpu_ms": round(found["cpu_ms"], 3),
        "coordinator_cpu_ms": round(found["coordinator_cpu_ms"], 3),
        "pss_mb": memory,
    }
    print(f"growth   {json.dumps(made)}", flush=True)
    return made


class _Samples:
    """The memory of a process and its children over time."""

    def __init__(self, process: subprocess.Popen[Any]) -> None:
        self._process = process
        self._values: list[float] = []
        self._thread = threading.Thread(target=self._sample)
        self._thread.start()

    def _sample(self) -> None:
        while self._process.poll() is None:
            self._values.append(memory_mb(self._process.pid)["pss"])
            time.sleep(PERIOD_S)

    def close(self) -> Figures:
        """Return the median of the job's second half and the peak, in MB."""
        self._thread.join()
        half = self._values[len(self._values) // 2 :]
        return {"second_half": round(median(half), 1), "peak": round(max(self._values), 1)}
