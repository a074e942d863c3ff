"""The local engine with a device that computes beside the CPUs, as a GPU does: does it keep the device busy?

There is no GPU here, and networks on the CPU want the CPUs that decode. So the device is a pretended one
(pretend_device/): a batch takes its time and no CPU. Everything else is the engine as it is, with real pictures.
"""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from typing import Any

from batch_pictures import write_pictures
from service_processes import python

HERE = Path(__file__).parent
# Pictures a second that the device does; two CPUs decode a few more than the last.
RATES = (100, 250, 500, 800)
SECONDS = 8
DISTINCT = 200
Figures = dict[str, Any]


def write_device_pictures(folder: Path) -> Path:
    """Return a folder with pictures enough for all rates."""
    pictures = folder / "device"
    write_pictures(pictures, SECONDS * max(RATES), distinct=DISTINCT)
    return pictures


def measure_devices(pictures: Path) -> dict[str, float]:
    """Return, for each rate of the device, the share of it that a run reaches."""
    return {str(rate): _measure(pictures, rate) for rate in RATES}


def _measure(pictures: Path, rate: int) -> float:
    command = [python(), str(HERE / "batch_rows.py"), "local", "--pictures", str(pictures)]
    path = os.pathsep.join([str(HERE / "pretend_device"), *filter(None, [os.environ.get("PYTHONPATH")])])
    done = subprocess.run(
        [*command, "--count", str(SECONDS * rate)],
        env={**os.environ, "PYTHONPATH": path, "PRETEND_DEVICE_PER_S": str(rate)},
        capture_output=True,
        text=True,
        check=False,
        timeout=600,
    )
    if done.returncode:
        raise RuntimeError(f"the run with a device of {rate} pictures/s failed:\n{done.stderr[-3000:]}")
    found: Figures = json.loads(done.stdout)
    # From the first rows to the last: this device loads nothing that would hide the start of the decoders.
    share: float = found["steady_per_s"] / rate
    print(f"device   {found['steady_per_s']:8.2f}/s of {rate}", flush=True)
    return share
