from __future__ import annotations

import json
from pathlib import Path

import batch_jobs
import pytest

from vision.batch.output import Output, open_output
from vision.batch.shard_summary import shard_name
from vision.batch.status import read_status
from vision.errors import InvalidInputError


@pytest.fixture
def output(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Output:
    batch_jobs.install_manifest(monkeypatch)
    return open_output(str(tmp_path / "out"))


def test_a_job_that_goes_on(output: Output) -> None:
    with output.lock():
        job = batch_jobs.write_job(output, failed={1}, shards=[0, 2])
        status = read_status(open_output(output.address))
        assert (status.committed_shards, status.total_shards, status.done_items, status.total_items) == (2, 3, 7, 12)
        assert (status.rows, status.failures, status.is_running) == (6, 1, True)
        assert "a run is working on it" in status.text()
    status = read_status(output)
    assert status.is_running is False
    assert not status.is_finished
    assert "not finished; --resume goes on" in status.text()
    assert "7 of 12 done (58%)" in status.text()
    batch_jobs.write_shard(job, 1)
    status = read_status(output)
    assert (status.is_finished, status.is_whole) == (True, False)
    assert json.loads(json.dumps(status.to_dict()))["failures"] == 1


def test_a_job_before_its_first_shard_and_one_without_failures(output: Output) -> None:
    batch_jobs.begin_job(output)
    assert "0 of 3 committed" in read_status(output).text()
    batch_jobs.begin_job(output, resume=True)
    for index in range(3):
        batch_jobs.write_shard(batch_jobs.begin_job(output, resume=True), index)
    assert read_status(output).is_whole


def test_a_job_of_no_items(output: Output) -> None:
    batch_jobs.begin_job(output, manifest=batch_jobs.make_manifest(0))
    assert "0 of 0 done (100%)" in read_status(output).text()


def test_damage_is_told_of_and_does_not_keep_the_rest_from_being_counted(output: Output) -> None:
    batch_jobs.write_job(output)
    output.replace(shard_name(1), b"not Parquet")
    output.put_new("rows/notes.txt", b"")
    status = read_status(output)
    assert (status.committed_shards, status.done_items, status.is_finished) == (2, 7, False)
    assert len(status.damaged) == 2
    assert "stride32 batch verify" in status.text()
    assert shard_name(1) in status.text()


@pytest.mark.parametrize("there", [False, True])
def test_a_folder_that_is_no_job(output: Output, tmp_path: Path, there: bool) -> None:
    if there:
        (tmp_path / "out").mkdir()
    with pytest.raises(InvalidInputError, match=r"must hold a batch job, found no job\.json"):
        read_status(output)
    assert (tmp_path / "out").exists() is there
