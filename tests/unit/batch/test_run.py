"""A whole run with real processes and a core without networks: what is kept from others until its end."""

from __future__ import annotations

from pathlib import Path

import pytest
from batch_fakes import fake_core, write_pictures

from vision.batch.config import BatchConfig, RunOptions
from vision.batch.output import Output, open_output
from vision.batch.run import BatchRequest, run_batch
from vision.batch.stats import RunReport
from vision.errors import InvalidInputError

__all__ = ["fake_core"]


def test_other_runs_are_kept_out_until_reports_and_exports_are_written(tmp_path: Path, fake_core: Path) -> None:
    write_pictures(tmp_path / "in", ["0.png", "raise-infer.png"])
    request = BatchRequest(
        source=str(tmp_path / "in"),
        out=str(tmp_path / "out"),
        config=BatchConfig(task="detect"),
        options=RunOptions(decoders=1),
        resume=True,
    )
    told: list[RunReport] = []

    def finish(output: Output, report: RunReport) -> None:
        told.append(report)
        part = output.scratch("results.jsonl")
        part.write_bytes(b"half")
        assert b"raise-infer.png" in output.read("quarantine.jsonl")
        assert open_output(request.out).is_running()
        with pytest.raises(InvalidInputError, match=r"run"):
            run_batch(request)
        assert part.read_bytes() == b"half"

    assert told == [run_batch(request, finish=finish)]
    assert not open_output(request.out).is_running()
