"""``report.txt``, ``report.json`` and ``report.html`` of a job, written at the end of each run of it."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from vision.batch.job_record import JOB_FILE
from vision.batch.quarantine import QUARANTINE_FILE
from vision.batch.report_text import FailureSummary, pace_words, read_failures, report_text, shown_notes, stage_shares
from vision.batch.stats import RunReport
from vision.errors import VisionError

if TYPE_CHECKING:
    from vision.batch.output import Output
    from vision.batch.shard_summary import ShardHeader
    from vision.report.content import Picture

TEXT_FILE, JSON_FILE, PAGE_FILE = "report.txt", "report.json", "report.html"
SCHEMA_VERSION = 1
# A job that something starts again every minute must not grow its report without end.
KEPT_RUNS = 1000
KEPT_NOTES = 1000
# Names of files may hold bytes that are no text; so written they are valid JSON, too.
_ESCAPED = "backslashreplace"
logger = logging.getLogger(__name__)


def write_report(output: Output, report: RunReport, *, page: bool = True) -> str:
    """Write the reports of a job after a run, and return the text of ``report.txt``.

    Args:
        output: of the job.
        report: of the run that has just ended; it is added to the runs in ``report.json``.
        page: write ``report.html`` too, which reads the labels of all shards and some of the inputs.
    """
    failures = _failures(output)
    text = report_text(report, failures)
    runs = [*_earlier_runs(output), run_entry(report)][-KEPT_RUNS:]
    document = {"version": SCHEMA_VERSION, **job_entry(report, failures), "runs": runs}
    output.replace(TEXT_FILE, text.encode("utf-8", _ESCAPED))
    output.replace(JSON_FILE, json.dumps(document, indent=2, ensure_ascii=False).encode("utf-8", _ESCAPED))
    if page:
        output.replace(PAGE_FILE, _page(output, report, failures, runs).encode("utf-8", _ESCAPED))
    return text


def _page(output: Output, report: RunReport, failures: FailureSummary, runs: Sequence[Mapping[str, Any]]) -> str:
    """Return the page, from the shards that are committed."""
    from vision.batch.histogram import ClassHistogram, class_histogram
    from vision.batch.report_page import page_html
    from vision.batch.shard_summary import ROWS_FOLDER, shard_index

    found = [(index, name) for name in output.names(ROWS_FOLDER) if (index := shard_index(name)) is not None]
    names = [name for _, name in sorted(found)]
    header = _header(output, names)
    histogram = ClassHistogram(report.task)
    samples: list[Picture] = []
    if header is not None:
        histogram = class_histogram(output, names, report.task, header.class_names)
        samples = _samples(output, names, header)
    return page_html(report, failures, runs, read_job(output), histogram, samples)


def _header(output: Output, names: Sequence[str]) -> ShardHeader | None:
    """Return what all shards of the job say alike, of the first one that is whole."""
    from vision.batch.shard_summary import read_summaries

    found = (summary for summary in read_summaries(output, names) if not isinstance(summary, VisionError))
    first = next(found, None)
    return None if first is None else first.header


def _samples(output: Output, names: Sequence[str], header: ShardHeader) -> list[Picture]:
    """Return pictures of the rows; none where the list of the inputs is not there."""
    from vision.batch.job import MANIFEST_FILE
    from vision.batch.manifest import Manifest
    from vision.batch.sample_pictures import sample_pictures

    try:
        with output.open(MANIFEST_FILE) as file:
            manifest = Manifest.open(file)
            return sample_pictures(output, names, header, lambda index: manifest.shard(index).items)
    except VisionError as exc:
        logger.warning("the report has no pictures: %s", exc)
        return []


def job_entry(report: RunReport, failures: FailureSummary) -> dict[str, Any]:
    """Return what holds for the whole job so far."""
    return {
        "task": report.task,
        "source": report.source,
        "finished": report.finished,
        "shards": {"committed": report.committed_shards, "total": report.total_shards},
        "rows": report.total_rows,
        "failures": {
            "items": report.total_failures,
            "by_stage": failures.by_stage,
            "first": [asdict(item) for item in failures.first],
        },
        "notes": shown_notes(report.notes, KEPT_NOTES),
    }


def run_entry(report: RunReport) -> dict[str, Any]:
    """Return what holds for one run; times are seconds, shares are in [0, 1]."""
    return {
        "ended": datetime.now(UTC).isoformat(timespec="seconds"),
        "engine": report.engine,
        "device": report.device,
        "cpus": report.cpus,
        "versions": dict(report.versions),
        "items": report.items,
        "skipped_items": report.skipped_items,
        "rows": report.rows,
        "failures": report.failures,
        "seconds": round(report.seconds, 3),
        "startup_s": round(report.startup_s, 3),
        "images_per_s": round(report.images_per_s, 2),
        "stages": {
            share.name: {
                "busy_s": round(share.seconds, 3),
                "workers": share.workers,
                "busy_share": round(share.busy, 4),
            }
            for share in stage_shares(report)
        },
        "device_idle_share": round(report.device_idle_share, 4),
        "pace": pace_words(report),
        "finished": report.finished,
        "interrupted": report.interrupted,
        "stopped_by_errors": report.stopped_by_errors,
    }


def read_job(output: Output) -> Mapping[str, Any]:
    """Return ``job.json``, or nothing where it cannot be read: a report is worth having without it."""
    return _read_object(output, JOB_FILE)


def _earlier_runs(output: Output) -> list[dict[str, Any]]:
    runs = _read_object(output, JSON_FILE).get("runs")
    return [run for run in runs if isinstance(run, dict)] if isinstance(runs, list) else []


def _read_object(output: Output, name: str) -> dict[str, Any]:
    if not output.exists(name):
        return {}
    try:
        document = json.loads(output.read(name))
    except ValueError as exc:
        logger.warning("%s of the job cannot be read and counts as missing: %s", name, exc)
        return {}
    return document if isinstance(document, dict) else {}


def _failures(output: Output) -> FailureSummary:
    if not output.exists(QUARANTINE_FILE):
        return FailureSummary()
    with output.open(QUARANTINE_FILE) as lines:
        return read_failures(lines)
