"""Where a run's numbers go while it trains: CSV for the report, TensorBoard for watching."""

from __future__ import annotations

import logging
from importlib.util import find_spec
from pathlib import Path

from lightning.pytorch.loggers import CSVLogger, Logger, TensorBoardLogger

from vision.training.report.history import METRICS_FOLDER

log = logging.getLogger(__name__)

TENSORBOARD_FOLDER = "tensorboard"


def run_loggers(out: Path) -> list[Logger]:
    """Return the loggers of a run in ``out``; TensorBoard's is left out, with a note, where it is not installed.

    The CSV logger makes a folder for each start of the run: a resumed run must not delete the curves before it.
    TensorBoard joins its files by itself when they lie in one folder.
    """
    # Written at once: a run that is killed keeps its curve up to the last checkpoint.
    loggers: list[Logger] = [CSVLogger(out, name=METRICS_FOLDER, flush_logs_every_n_steps=1)]
    if find_spec("tensorboard") is None:
        log.info("no TensorBoard log: the package tensorboard is not installed (it comes with stride32[train])")
    else:
        loggers.append(TensorBoardLogger(out, name=TENSORBOARD_FOLDER, version="", default_hp_metric=False))
    return loggers
