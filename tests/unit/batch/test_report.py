"""What the report of a run says, in words and as JSON, also of runs that ended badly and of names that are no text."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from vision.batch import report as report_module
from vision.batch.local_output import LocalOutput
from vision.batch.report import write_report
from vision.batch.report_text import FailureSummary, one_line, pace_words, read_failures, report_text, stage_shares
from vision.batch.stats import RunReport, StageSeconds

REPORT = RunReport(
    task="detect",
    source="pictures/",
    out="job",
    engine="local",
    device="cpu",
    items=100,
    rows=98,
    failures=2,
    skipped_items=0,
    committed_shards=2,
    total_shards=2,
    total_rows=98,
    total_failures=2,
    seconds=12.0,
    startup_s=2.0,
    stages=StageSeconds(decode_s=4.0, infer_s=9.5, write_s=0.1, decoders=2),
    device_idle_share=0.05,
    cpus=4,
)


def quarantine(*paths: str) -> list[bytes]:
    rows = [{"item": 0, "path": path, "stage": "decode", "error": "not a picture", "tries": 1} for path in paths]
    return [json.dumps(row).encode() + b"\n" for row in rows]


def test_images_a_second_leave_the_start_out() -> None:
    assert REPORT.images_per_s == pytest.approx(9.8)
    assert replace(REPORT, rows=0, seconds=0.0, startup_s=0.0).images_per_s == 0


def test_shares_are_of_all_workers_of_a_stage() -> None:
    shares = {share.name: share.busy for share in stage_shares(REPORT)}
    assert shares == pytest.approx({"decode": 0.2, "infer": 0.95, "write": 0.01})


@pytest.mark.parametrize(
    ("stages", "words"),
    [
        (StageSeconds(decode_s=4, infer_s=9.5, decoders=2), "more decoders will not help, a smaller model or a GPU"),
        (StageSeconds(decode_s=19, infer_s=2, decoders=2), "more --decoders may help"),
        (StageSeconds(decode_s=39, infer_s=2, decoders=4), "a decoder for each of the 4 CPUs"),
        (StageSeconds(fetch_s=150, infer_s=2, fetchers=16), "Fetching is the slowest"),
        (StageSeconds(write_s=9, infer_s=2), "Writing is the slowest"),
        (StageSeconds(infer_s=2), "No stage was busy more than 50%"),
        (StageSeconds(), "nothing left to do"),
    ],
)
def test_the_stage_that_sets_the_pace_is_named(stages: StageSeconds, words: str) -> None:
    assert words in pace_words(replace(REPORT, stages=stages, device_idle_share=0.6))


def test_a_device_that_is_never_idle_sets_the_pace_whatever_its_workers_say() -> None:
    stages = StageSeconds(decode_s=2, infer_s=9, inferers=2, decoders=2)
    assert "Inference is the slowest stage (busy 95%" in pace_words(replace(REPORT, stages=stages))


def test_a_gpu_is_not_told_to_become_one() -> None:
    assert "a larger --batch" in pace_words(replace(REPORT, device="cuda:0"))


def test_text_says_what_failed_and_how_it_ended() -> None:
    failures = read_failures(quarantine(*(f"{number}.jpg" for number in range(7))))
    text = report_text(replace(REPORT, finished=False, interrupted=True, skipped_items=1), failures)
    assert "100 items in 12.0 s, 98 rows, 9.8 images/s" in text
    assert "2 of 2 shards committed" in text
    assert "skipped: 1 item that" in text
    assert "failed by stage: decode 7" in text
    assert "4.jpg (decode): not a picture" in text
    assert "5.jpg" not in text
    assert "and 2 more" in text
    assert text.endswith("ended early: it was interrupted; --resume goes on\n")


def test_notes_on_the_inputs_are_in_every_report(output: LocalOutput) -> None:
    notes = tuple(f"folder {number}\n cannot be listed" for number in range(12))
    text = write_report(output, replace(REPORT, notes=notes))
    assert "note: folder 9\\n cannot be listed\nnote: and 2 more\n" in text
    assert "folder 10" not in text
    assert read_json(output)["notes"][11] == "folder 11\\n cannot be listed"
    page = output.read("report.html").decode()
    assert "<h2>Notes on the inputs</h2>" in page
    assert "and 2 more" in page
    write_report(output, REPORT)
    assert "Notes on the inputs" not in output.read("report.html").decode()


def test_names_cannot_break_a_line_or_move_the_cursor() -> None:
    assert one_line("a\nb\x1b[2J\udcff ä") == "a\\nb\\x1b[2J\\udcff ä"


def test_damaged_lines_of_the_quarantine_are_counted() -> None:
    found = read_failures([b"{", b"[]\n", b"\n", *quarantine("a.jpg")])
    assert found.by_stage == {"unknown": 2, "decode": 1}
    assert read_failures([]) == FailureSummary()


@pytest.fixture
def output(tmp_path: Path) -> LocalOutput:
    return LocalOutput(str(tmp_path))


def read_json(output: LocalOutput) -> dict[str, Any]:
    document: dict[str, Any] = json.loads(output.read("report.json"))
    return document


def test_each_run_is_added_to_the_history(output: LocalOutput) -> None:
    output.replace("quarantine.jsonl", b"".join(quarantine("\udcff\n.jpg", "ä.jpg")))
    write_report(output, replace(REPORT, finished=False, committed_shards=1), page=False)
    text = write_report(output, REPORT, page=False)
    document = read_json(output)
    assert [run["finished"] for run in document["runs"]] == [False, True]
    assert document["shards"] == {"committed": 2, "total": 2}
    assert document["failures"]["by_stage"] == {"decode": 2}
    assert [row["path"] for row in document["failures"]["first"]] == ["\udcff\n.jpg", "ä.jpg"]
    assert document["runs"][1]["stages"]["infer"] == {"busy_s": 9.5, "workers": 1, "busy_share": 0.95}
    assert output.read("report.txt").decode() == text


@pytest.mark.parametrize("damaged", [b"", b"{", b"[]", b'{"runs": 3}', b'{"runs": [7]}', b"\xff"])
def test_a_damaged_history_is_begun_anew(output: LocalOutput, damaged: bytes) -> None:
    output.replace("report.json", damaged)
    write_report(output, REPORT, page=False)
    assert len(read_json(output)["runs"]) == 1


def test_the_history_is_bounded(output: LocalOutput, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(report_module, "KEPT_RUNS", 2)
    for items in (1, 2, 3):
        write_report(output, replace(REPORT, items=items), page=False)
    assert [run["items"] for run in read_json(output)["runs"]] == [2, 3]
