from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import batch_jobs
import pytest

from vision import __version__
from vision.batch.config import BatchConfig
from vision.batch.job import open_job
from vision.batch.output import Output, open_output
from vision.batch.quarantine import write_quarantine
from vision.batch.shard_summary import shard_name
from vision.config import PipelineConfig
from vision.detection.config import DetectorConfig
from vision.errors import ConfigError, InvalidInputError, OutputExistsError


@pytest.fixture(params=["folder", "memory"])
def output(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Output:
    batch_jobs.install_manifest(monkeypatch)
    return open_output(str(tmp_path / "out") if request.param == "folder" else f"memory://jobs/{tmp_path.name}")


def test_a_new_job_says_what_it_was_begun_with(output: Output) -> None:
    job = batch_jobs.begin_job(output)
    record = json.loads(output.read("job.json"))
    assert record["task"] == "detect"
    assert record["identity"] == json.loads(json.dumps(BatchConfig(task="detect").identity()))
    assert record["inputs"] == {
        "items": 12,
        "digest": job.manifest.digest,
        "shards": 3,
        "shard_size": 1000,
    }
    assert (record["models"], record["stride32"], record["source"]) == (batch_jobs.MODELS, __version__, "pictures")
    assert (record["version"], record["schema_version"]) == (1, 1)
    assert (job.committed, job.pending()) == (set(), [0, 1, 2])
    with output.open("manifest.parquet") as file:
        assert batch_jobs.FakeManifest.open(file) == job.manifest


def test_resuming_skips_what_is_committed(output: Output) -> None:
    batch_jobs.write_job(output, shards=[1])
    job = batch_jobs.begin_job(output, resume=True)
    assert (job.committed, job.pending()) == ({1}, [0, 2])
    assert [summary.index for summary in job.summaries()] == [1]
    batch_jobs.write_shard(job, 0)
    assert [summary.index for summary in job.summaries()] == [0, 1]


def test_a_job_that_nobody_wants_to_go_on_with_is_left_alone(output: Output) -> None:
    batch_jobs.write_job(output, shards=[0, 2])
    before = output.read("job.json")
    with pytest.raises(OutputExistsError, match="a job with 2 of 3 shards; pass --resume to go on, or another --out"):
        batch_jobs.begin_job(output)
    assert output.read("job.json") == before


def test_a_place_with_other_files_is_refused(output: Output) -> None:
    output.put_new("thesis.txt", b"")
    for resume in (False, True):
        with pytest.raises(OutputExistsError, match=r"'thesis\.txt'"):
            batch_jobs.begin_job(output, resume=resume)
    assert output.names() == ["thesis.txt"]


@pytest.mark.parametrize("resume", [False, True])
def test_a_start_that_was_killed_is_begun_again(output: Output, resume: bool) -> None:
    batch_jobs.begin_job(output)
    output.remove("job.json")
    job = batch_jobs.begin_job(output, resume=resume)
    assert job.pending() == [0, 1, 2]


def test_a_killed_start_with_other_inputs_is_begun_again_where_nobody_else_can_be(output: Output) -> None:
    batch_jobs.begin_job(output)
    output.remove("job.json")
    other = batch_jobs.make_manifest(7)
    if not output.is_lockable:
        with pytest.raises(OutputExistsError, match="delete it"):
            batch_jobs.begin_job(output, manifest=other)
        return
    batch_jobs.begin_job(output, manifest=other)
    with output.open("manifest.parquet") as file:
        assert batch_jobs.FakeManifest.open(file) == other


def test_every_difference_is_shown(output: Output) -> None:
    batch_jobs.write_job(output, shards=[0])
    record = json.loads(output.read("job.json"))
    record["stride32"] = "0.0.1"
    record["identity"]["detection"]["gone"] = [1, 2]
    record["models"]["embedding"] = {"name": "reid-lite", "sha256": "ef" * 32}
    output.replace("job.json", json.dumps(record).encode())
    models = {"detection": {"name": "person-lite0", "sha256": "cd" * 32}}
    pipeline = PipelineConfig(detection=DetectorConfig(conf=0.5))
    config = BatchConfig(task="detect", pipeline=pipeline, shard_size=7)
    manifest = batch_jobs.make_manifest(10)
    with pytest.raises(ConfigError) as caught:
        open_job(output, config=config, models=models, manifest=manifest, source="pictures", resume=True)
    lines = str(caught.value).splitlines()
    assert "8 things differ" in lines[0]
    assert (
        lines[1:-1]
        == [
            f"  stride32: 0.0.1 in the job, {__version__} now",
            "  detection.conf: auto in the job, 0.5 now",
            "  detection.gone: [1,2] in the job, not there now",
            "  shard_size: 1000 in the job, 7 now",
            "  model detection person-lite0: sha256 abababababab… in the job, cdcdcdcdcdcd… now",
            "  model embedding: reid-lite (efefefefefef…) in the job, none now",
            "  inputs: é x/010.jpg is gone",
            "  inputs: é x/011.jpg is gone",
        ]
        or lines[1:-1]
    )


def test_a_lost_list_of_inputs_is_written_anew_unless_the_inputs_have_changed(output: Output) -> None:
    batch_jobs.write_job(output, shards=[0])
    output.remove("manifest.parquet")
    with pytest.raises(ConfigError, match="inputs: 12 items in 3 shards in the job, 7 in 2 now"):
        batch_jobs.begin_job(output, manifest=batch_jobs.make_manifest(7), resume=True)
    assert batch_jobs.begin_job(output, resume=True).pending() == [1, 2]
    assert output.exists("manifest.parquet")


def test_settings_that_change_only_the_speed_do_not_matter(output: Output) -> None:
    batch_jobs.begin_job(output)
    faster = replace(PipelineConfig().runtime, threads=3)
    assert batch_jobs.begin_job(output, resume=True, pipeline=replace(PipelineConfig(), runtime=faster)).pending()


@pytest.mark.parametrize(
    "content", [b"", b"{", b"[]", b'{"version": 1}', b'{"version": 99}', b'{"version":1,"task":"x"}']
)
def test_a_damaged_job_is_no_reason_to_begin_another(output: Output, content: bytes) -> None:
    batch_jobs.begin_job(output)
    output.replace("job.json", content)
    with pytest.raises(InvalidInputError, match=r"job\.json must be what stride32 batch writes"):
        batch_jobs.begin_job(output, resume=True)


def change_shard(output: Output, change: str) -> None:
    job: Any = batch_jobs.write_job(output, shards=[0, 1])
    if change == "cut":
        output.replace(shard_name(1), output.read(shard_name(1))[:-50])
    elif change == "moved":
        output.put_new(shard_name(2), output.read(shard_name(1)))
    elif change == "beyond":
        output.put_new(shard_name(3), output.read(shard_name(1)))
    elif change == "foreign":
        output.put_new("rows/notes.txt", b"")
    else:
        other = open_output(f"memory://other/{change}{id(output)}")
        prefix = "other/" if change == "inputs" else "é x/"
        size = {"shard_size": 7} if change == "config" else {}
        job = batch_jobs.begin_job(other, manifest=batch_jobs.make_manifest(prefix=prefix), **size)
        batch_jobs.write_shard(job, 1)
        output.replace(shard_name(1), other.read(shard_name(1)))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ("cut", "whole shard"),
        ("moved", "shard 1 under its name"),
        ("beyond", "move it elsewhere"),
        ("foreign", r"notes\.txt; move it elsewhere"),
        ("inputs", "made from others"),
        ("config", "configuration, models and version"),
    ],
)
def test_a_file_that_is_not_of_the_job_counts_for_nothing(output: Output, change: str, words: str) -> None:
    change_shard(output, change)
    with pytest.raises(InvalidInputError, match=words):
        batch_jobs.begin_job(output, resume=True)


def test_the_quarantine_lists_what_failed_in_order(output: Output) -> None:
    job = batch_jobs.write_job(output, failed={11, 0, 6})
    assert write_quarantine(output, reversed(list(job.summaries()))) == 3
    lines = [json.loads(line) for line in output.read("quarantine.jsonl").splitlines()]
    assert lines[0] == {
        "path": "é x/000.jpg",
        "stage": "decode",
        "error": "cut short",
        "tries": 2,
        "item": 0,
        "rows": 0,
    }
    assert [line["item"] for line in lines] == [0, 6, 11]
    assert write_quarantine(output, []) == 0
    assert output.read("quarantine.jsonl") == b""


def test_a_folder_can_be_moved(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    batch_jobs.install_manifest(monkeypatch)
    batch_jobs.write_job(open_output(str(tmp_path / "a")), shards=[0])
    shutil.move(tmp_path / "a", tmp_path / "b")
    assert batch_jobs.begin_job(open_output(str(tmp_path / "b")), resume=True).committed == {0}
