from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import batch_jobs
import numpy as np
import pytest

from vision.batch.items import Shard
from vision.batch.output import Output, open_output
from vision.batch.shard_file import ShardWriter
from vision.batch.shard_laws import ShardLaws
from vision.batch.shard_summary import shard_name
from vision.batch.verify import VerifyReport, verify_job
from vision.errors import InvalidInputError


@pytest.fixture
def output(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Output:
    batch_jobs.install_manifest(monkeypatch)
    return open_output(str(tmp_path))


def damage_of(report: VerifyReport) -> list[str]:
    return [str(problem) for problem in report.damage]


@pytest.mark.parametrize("task", ["detect", "segment", "track", "embed", "classify"])
@pytest.mark.parametrize("deep", [False, True])
def test_a_whole_job_is_whole(output: Output, task: Any, deep: bool) -> None:
    batch_jobs.write_job(output, task, manifest=batch_jobs.make_manifest(videos=(4, 5)))
    report = verify_job(output, deep=deep)
    assert report.is_whole
    assert (report.items, report.rows, report.sound_shards, report.pending) == (12, 16, 3, ())
    assert "3 of 3 shards are sound" in report.text()


def test_what_is_missing_is_no_damage(output: Output) -> None:
    batch_jobs.write_job(output, failed={3}, shards=[1, 0])
    report = verify_job(output)
    assert (report.damage, report.pending, report.failures, report.rows) == ((), (2,), 1, 9)
    assert not report.is_whole
    assert "1 shards, from rows/shard-00002.parquet on; --resume" in report.text()
    assert json.loads(json.dumps(report.to_dict()))["pending"] == [2]


@pytest.mark.parametrize("place", [0, 4, 60, *np.linspace(0.05, 0.99, 9).tolist(), -4000, -300, -30, -6, -1])
def test_one_bit_is_found_wherever_it_is(output: Output, tmp_path: Path, place: float) -> None:
    batch_jobs.write_job(output)
    path = tmp_path / shard_name(1)
    content = bytearray(path.read_bytes())
    content[int(place * len(content)) if isinstance(place, float) else place] ^= 1
    path.write_bytes(content)
    report = verify_job(output)
    assert len(report.damage) == 1
    assert damage_of(report)[0].startswith("rows/shard-00001.parquet: expected ")
    assert damage_of(report)[0].endswith("; delete it and run again with --resume")
    assert report.sound_shards == 2


def test_the_bytes_are_read_only_where_that_was_asked_for(output: Output, tmp_path: Path) -> None:
    batch_jobs.write_job(output)
    path = tmp_path / shard_name(0)
    content = bytearray(path.read_bytes())
    content[50] ^= 1
    path.write_bytes(content)
    assert not verify_job(output, deep=False).damage
    assert "bytes with the sha256" in damage_of(verify_job(output))[0]


@pytest.mark.parametrize("lie", ["lost", "twice", "rows of a failure", "columns"])
def test_rows_that_their_footer_belies_are_found(output: Output, monkeypatch: pytest.MonkeyPatch, lie: str) -> None:
    """A writer without its laws, as an error of ours would be."""
    job = batch_jobs.write_job(output, shards=[0, 2])
    shard: Shard = job.manifest.shard(1)
    rows = [row for item in shard.items for row in batch_jobs.make_rows("detect", item)]
    changed = {"lost": rows[1:], "twice": [rows[0], *rows], "rows of a failure": rows, "columns": rows}
    with monkeypatch.context() as patch:
        patch.setattr(ShardLaws, "add", lambda self, *_: setattr(self, "n_rows", self.n_rows + 1))
        patch.setattr(ShardLaws, "close", lambda *_: None)
        header = job.header(class_names=batch_jobs.CLASS_NAMES)
        if lie == "columns":
            from vision.batch import shard_file
            from vision.batch.schema import arrow_schema

            real = arrow_schema("detect")
            patch.setattr(shard_file, "arrow_schema", lambda *_, **__: real.remove(real.get_field_index("scores")))
        writer = ShardWriter(output, shard, header)
        writer.add(changed[lie])
        if lie == "rows of a failure":
            writer.fail(batch_jobs.Failure(5, "x", "decode", "x"))
        writer.commit()
    (problem,) = verify_job(output).damage
    assert problem.file == shard_name(1)
    words = {"lost": "item 5 among them", "twice": "after frame 0 of item 5", "columns": "boxes"}
    assert words.get(lie, "{5: 1}") in problem.found


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("rows/notes.txt", "move it elsewhere"),
        ("rows/shard-00003.parquet", "another file; move it elsewhere"),
        ("rows/shard-2.parquet", "move it elsewhere"),
    ],
)
def test_other_files_are_found(output: Output, name: str, words: str) -> None:
    batch_jobs.write_job(output)
    output.put_new(name, output.read(shard_name(1)))
    assert [problem.file for problem in verify_job(output).damage] == [name]
    assert words in damage_of(verify_job(output))[0]


def test_a_shard_of_another_job_is_found(output: Output, tmp_path: Path) -> None:
    batch_jobs.write_job(output, shards=[0, 1])
    other = open_output(str(tmp_path.with_name(f"{tmp_path.name}-other")))
    batch_jobs.write_job(other, manifest=batch_jobs.make_manifest(prefix="other/"))
    output.put_new(shard_name(2), other.read(shard_name(2)))
    assert "made from the inputs of this job, found one made from others" in damage_of(verify_job(output))[0]


def test_a_job_that_its_list_of_inputs_does_not_fit_is_found(output: Output) -> None:
    job = batch_jobs.write_job(output)
    record = json.loads(output.read("job.json"))
    record["inputs"]["items"] = 13
    output.replace("job.json", json.dumps(record).encode())
    (problem,) = verify_job(output).damage
    assert (problem.file, "13 items" in problem.expected) == ("manifest.parquet", True)
    shards = job.manifest.shards
    gap = batch_jobs.FakeManifest((shards[0], Shard(1, shards[1].items[1:], shards[1].digest), shards[2]))
    part = output.scratch("manifest.parquet")
    gap.write(part)
    output.replace("manifest.parquet", part)
    assert any("items from 5 on in shard 1" in line for line in damage_of(verify_job(output)))


def test_without_its_list_of_inputs_nothing_is_known(output: Output) -> None:
    batch_jobs.write_job(output)
    output.remove("manifest.parquet")
    report = verify_job(output)
    assert [problem.file for problem in report.damage] == ["manifest.parquet"]
    assert report.sound_shards == 0


def test_a_folder_that_is_no_job(output: Output) -> None:
    with pytest.raises(InvalidInputError, match="must hold a batch job"):
        verify_job(output)
