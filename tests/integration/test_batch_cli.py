"""``stride32 batch`` in this process: what its options ask for, its progress, its exit codes. What runs the job is
played by a function; tests/unit/batch has the real one."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from vision.batch import exports, run, status, verify
from vision.batch.config import BatchConfig, RunOptions
from vision.batch.output import open_output
from vision.batch.stats import RunProgress, RunReport, StageSeconds
from vision.cli import batch_progress
from vision.cli.batch_progress import BatchProgress
from vision.cli.main import main
from vision.errors import ConfigError, InvalidInputError

FINISHED = RunReport(
    task="detect",
    source="in",
    out="out",
    engine="local",
    device="cpu",
    items=3,
    rows=3,
    failures=0,
    skipped_items=0,
    committed_shards=1,
    total_shards=1,
    total_rows=3,
    total_failures=0,
    seconds=2.0,
    stages=StageSeconds(infer_s=1.9),
)

Call = Callable[..., int]

EVERY_OPTION = """
    --resume --column file --shard-size 7 --video-chunk 0 --batch 4 --max-pixels 1000 --decoders 3 --tracker sort
    --devices cpu,cuda:1 --item-timeout 5 --max-errors 0 --model m --conf 0.5 --classes a,b --tile 64 --device cpu
    --set tracking.max_age=9 --engine ray --ray-address auto --ray-workers 2 --ray-cpus 2 --ray-gpus 0.5
"""


class FakeRun:
    """Plays ``run_batch``: remembers what it was asked for, and answers with ``report``."""

    def __init__(self) -> None:
        self.requests: list[Any] = []
        self.report = FINISHED
        self.work: Callable[..., None] = lambda on_progress, should_stop: None

    def __call__(self, request: Any, *, on_progress: Any, should_stop: Any, finish: Any) -> RunReport:
        self.requests.append(request)
        self.work(on_progress, should_stop)
        finish(open_output(request.out), self.report)
        return self.report


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> FakeRun:
    fake = FakeRun()
    monkeypatch.setattr(run, "run_batch", fake)
    return fake


@pytest.fixture
def call(fake: FakeRun, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Call:
    """Run the command line in an empty folder and return its exit code."""
    monkeypatch.chdir(tmp_path)

    def called(*words: str) -> int:
        with pytest.raises(SystemExit) as ended:
            main(["batch", *words])
        assert isinstance(ended.value.code, int)
        return ended.value.code

    return called


def job(*words: str, task: str = "detect") -> tuple[str, ...]:
    return ("in", "--task", task, "--out", "out", *words)


def test_a_source_alone_asks_for_the_defaults(call: Call, fake: FakeRun, capsys: pytest.CaptureFixture[str]) -> None:
    assert call(*job()) == 0
    (request,) = fake.requests
    assert (request.source, request.out, request.engine, request.resume, request.column) == (
        "in",
        "out",
        "local",
        False,
        "path",
    )
    assert request.config == BatchConfig(task="detect")
    assert request.options == RunOptions()
    assert request.ray is None
    assert "Inference is the slowest stage" in capsys.readouterr().out
    assert json.loads(Path("out/report.json").read_bytes())["runs"][0]["rows"] == 3
    assert Path("out/report.html").is_file()


def test_every_option_arrives(call: Call, fake: FakeRun) -> None:
    assert call(*job(*EVERY_OPTION.split(), task="track")) == 0
    (request,) = fake.requests
    config, pipeline = request.config, request.config.pipeline
    assert (config.shard_size, config.video_chunk, config.batch, config.max_pixels) == (7, 0, 4, 1000)
    detection = pipeline.detection
    assert (detection.model, detection.conf, detection.classes, detection.tile) == ("m", 0.5, ("a", "b"), 64)
    assert (pipeline.tracking.max_age, pipeline.runtime.device) == (9, "cpu")
    assert request.options == RunOptions(decoders=3, devices=("cpu", "cuda:1"), item_timeout_s=5, max_errors=0)
    assert (request.resume, request.column, request.engine) == (True, "file", "ray")
    assert request.ray == run.RayOptions(address="auto", workers=2, cpus=2, gpus=0.5)


@pytest.mark.parametrize(
    ("task", "table"), [("segment", "segmentation"), ("embed", "embedding"), ("classify", "classification")]
)
def test_model_is_that_of_the_task(task: str, table: str, call: Call, fake: FakeRun) -> None:
    assert call(*job("--model", "mine", task=task)) == 0
    assert getattr(fake.requests[0].config.pipeline, table).model == "mine"


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("in", "--out", "out"), "--task"),
        (("in", "--task", "detect"), "--out"),
        (job(task="count"), "count"),
        (job("--conf", "0.5", task="embed"), "--conf is an option of the tasks detect and track"),
        (job("--tracker", "sort"), "--tracker is an option of the tasks track"),
        (job("--tracker", "sorted", task="track"), "did you mean 'sort'"),
        (job("--coco-gt", "gt.json"), "--format coco"),
        (job("--ray-workers", "2"), "--ray-workers is an option of --engine ray"),
        (job("--devices", "gpu"), "cuda:N"),
        (job("--devices", ""), "cuda:N"),
        (job("--item-timeout", "0"), "item_timeout_s must be > 0"),
        (job("--item-timeout", "nan"), "item_timeout_s must be > 0"),
        (job("--shard-size", "0"), "--shard-size"),
        (job("--set", "detection.nonsense=1"), "nonsense"),
        (("statu", "dir"), "--task"),
        (("run", *job()), "in"),
    ],
)
def test_wrong_usage_is_told_before_anything_runs(
    words: tuple[str, ...], said: str, call: Call, fake: FakeRun, capsys: pytest.CaptureFixture[str]
) -> None:
    assert call(*words) == 2
    assert said in " ".join(capsys.readouterr().err.split())
    assert not fake.requests


def test_help_is_that_of_a_job_and_names_the_subcommands(call: Call, capsys: pytest.CaptureFixture[str]) -> None:
    assert call("--help") == 0
    told = capsys.readouterr().out
    assert call() == 0
    assert capsys.readouterr().out == told
    for words in ("stride32 batch [OPTIONS]", "--resume", "--ray-gpus", "batch status DIR", "batch verify DIR"):
        assert words in told


def test_print_config_runs_nothing(call: Call, fake: FakeRun, capsys: pytest.CaptureFixture[str]) -> None:
    assert call(*job("--print-config", "--conf", "0.25")) == 0
    assert "conf = 0.25" in capsys.readouterr().out
    assert not fake.requests


@pytest.mark.parametrize(
    ("error", "lines"),
    [
        (ConfigError("2 things differ:\n  conf: 0.4\n  batch: 8\nundo that"), 4),
        (InvalidInputError("a driver\nsaid\n this"), 1),
    ],
)
def test_differences_have_a_line_each_and_other_errors_one(
    error: Exception, lines: int, call: Call, fake: FakeRun, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(cause: Exception | None) -> Callable[..., None]:
        def work(on_progress: Any, should_stop: Any) -> None:
            raise error from cause

        return work

    fake.work = fail(None)
    assert call(*job("--resume")) == (2 if lines == 4 else 1)
    told = capsys.readouterr().err.splitlines()
    assert len(told) == lines
    assert lines == 1 or told[1:3] == ["  conf: 0.4", "  batch: 8"]
    fake.work = fail(ValueError("foreign"))
    call(*job("--resume"))
    assert len(capsys.readouterr().err.splitlines()) == 1


@pytest.mark.parametrize(
    ("changes", "code", "said"),
    [
        ({"total_failures": 2}, 3, "2 items failed"),
        ({"total_failures": 3, "total_rows": 0}, 1, "3 items failed"),
        ({"finished": False, "interrupted": True}, 130, "finished shards are kept; --resume goes on"),
        ({"finished": False, "stopped_by_errors": True, "total_failures": 9}, 1, "more than --max-errors allows"),
        ({"finished": False, "total_shards": 4}, 1, "3 of 4 shards are not written"),
        # Ctrl-C came when there was nothing left to stop.
        ({"interrupted": True}, 0, ""),
    ],
)
def test_exit_codes_say_how_it_ended(
    changes: dict[str, Any], code: int, said: str, call: Call, fake: FakeRun, capsys: pytest.CaptureFixture[str]
) -> None:
    fake.report = replace(FINISHED, **changes)
    assert call(*job()) == code
    assert said in capsys.readouterr().err
    assert Path("out/report.html").exists() == (code != 130)


def test_ctrl_c_stops_well_and_a_second_one_at_once(
    call: Call, fake: FakeRun, capsys: pytest.CaptureFixture[str]
) -> None:
    def work(on_progress: Any, should_stop: Any) -> None:
        assert not should_stop()
        os.kill(os.getpid(), signal.SIGINT)
        assert should_stop()
        os.kill(os.getpid(), signal.SIGINT)

    fake.work = work
    assert call(*job()) == 130
    assert "finished shards are kept; --resume goes on" in capsys.readouterr().err
    assert not Path("out/report.json").exists()


def test_ctrl_c_in_an_export_ends_it(call: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(exports, "write_jsonl", lambda output: os.kill(os.getpid(), signal.SIGINT))
    # A shell has its jobs in the background ignore Ctrl-C, and so would these tests.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        assert call(*job("--format", "jsonl")) == 130
    finally:
        signal.signal(signal.SIGINT, before)
    assert not Path("out/report.json").exists()


@pytest.mark.parametrize(("form", "written"), [("jsonl", ["jsonl"]), ("coco", ["coco"]), ("parquet", [])])
def test_other_formats_are_written_of_finished_jobs_alone(
    form: str, written: list[str], call: Call, fake: FakeRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    done: list[str] = []
    monkeypatch.setattr(exports, "write_jsonl", lambda output: done.append("jsonl"))
    monkeypatch.setattr(exports, "write_coco", lambda output, coco_gt: done.append("coco"))
    fake.report = replace(FINISHED, finished=False)
    assert call(*job("--format", form)) == 1
    assert not done
    fake.report = FINISHED
    assert call(*job("--format", form)) == 0
    assert done == written


@pytest.mark.parametrize(
    ("damaged", "whole", "code"), [((), True, 0), ((), False, 3), (("rows/shard-00000.parquet: ...",), False, 1)]
)
def test_status_and_verify_tell_by_their_exit_code(
    damaged: tuple[str, ...],
    whole: bool,
    code: int,
    call: Call,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    found = SimpleNamespace(
        damaged=damaged, damage=damaged, is_whole=whole, text=lambda: "words", to_dict=lambda: {"a": 1}
    )
    monkeypatch.setattr(status, "read_status", lambda output: found)
    monkeypatch.setattr(verify, "verify_job", lambda output, *, deep: found)
    for name in ("status", "verify"):
        assert call(name, "dir") == code
        assert capsys.readouterr().out == "words\n"
        assert call(name, "dir", "--json") == code
        assert json.loads(capsys.readouterr().out) == {"a": 1}


@pytest.mark.parametrize("command", ["status", "verify"])
def test_a_folder_without_a_job_is_a_failure(command: str, call: Call, capsys: pytest.CaptureFixture[str]) -> None:
    assert call(command, ".") == 1
    assert "must hold a batch job" in capsys.readouterr().err


def test_a_source_may_be_called_like_a_subcommand(call: Call, fake: FakeRun) -> None:
    assert call("./status", "--task", "detect", "--out", "out") == 0
    assert call("run", "--task", "detect", "--out", "out2") == 0
    assert [request.source for request in fake.requests] == ["./status", "run"]


def test_progress_leaves_earlier_runs_out_of_the_rate(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    now_s = 100.0
    monkeypatch.setattr(batch_progress.time, "perf_counter", lambda: now_s)
    with BatchProgress("detect") as progress:
        progress.show(RunProgress(done_items=0, total_items=1000, skipped_items=400))
        now_s += 10
        progress.show(RunProgress(done_items=100, total_items=1000, rows=90, failures=10, skipped_items=400))
        now_s += 1
        progress.show(RunProgress(done_items=110, total_items=1000, rows=99, failures=11, skipped_items=400))
    lines = capsys.readouterr().err.splitlines()
    assert lines == [
        "detect: 400 items were done before and are skipped",
        "detect: 500/1000 items, 9.0 images/s, 10 failed, 50 s left",
    ]
