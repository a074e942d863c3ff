"""``report.html`` of a job: one page that opens offline: what the rows show, what failed, where the time went."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from vision.batch.histogram import ClassHistogram
from vision.batch.report_text import FailureSummary, ending_words, one_line, pace_words, shown_notes, stage_shares
from vision.batch.stats import RunReport
from vision.report import page
from vision.report.content import Picture, Table

SHOWN_CLASSES = 30
SHOWN_RUNS = 20


def page_html(
    report: RunReport,
    failures: FailureSummary,
    runs: Sequence[Mapping[str, Any]],
    job: Mapping[str, Any],
    histogram: ClassHistogram,
    samples: Sequence[Picture],
) -> str:
    """Return the whole page.

    Args:
        report: of the last run. failures: of the whole job.
        runs: as in ``report.json``, the last one last.
        job: content of ``job.json``.
        histogram: of all committed shards.
        samples: pictures with what was found in them.
    """
    name = report.out.rstrip("/").rpartition("/")[2] or report.out
    ending = ending_words(report)
    body = [
        page.html_header(name, "Stride32 batch report", f"{report.task}: {report.source}", _tiles(report, histogram)),
        page.html_text(f"The job is not finished: {ending}." if ending else "", "warning"),
        page.html_section(_classes_title(report.task), *_classes(histogram)),
        page.html_section("Pictures", page.html_gallery(samples)),
        page.html_section("Failures", *_failures(report, failures)),
        page.html_section("Notes on the inputs", *(page.html_text(line) for line in shown_notes(report.notes))),
        page.html_section("Where the time went", *_time(report)),
        page.html_section("Runs", _runs(runs)),
        page.html_section("Models and configuration", *_configuration(report, job)),
    ]
    return page.html_page(f"{name}: batch report", body)


def _tiles(report: RunReport, histogram: ClassHistogram) -> list[tuple[str, str]]:
    tiles = [("images", f"{histogram.rows}")]
    if histogram.classes:
        tiles.append(("classes met", f"{len(histogram.classes)}"))
        if report.task in ("detect", "track"):
            tiles.insert(1, ("objects", f"{histogram.objects}"))
    tiles += [
        ("failed items", f"{report.total_failures}"),
        ("images a second", f"{report.images_per_s:.1f}"),
        ("device idle", f"{report.device_idle_share:.0%}"),
        ("shards", f"{report.committed_shards}/{report.total_shards}"),
    ]
    return tiles


def _classes_title(task: str) -> str:
    return "Rows" if task == "embed" else "Classes"


def _classes(histogram: ClassHistogram) -> list[str]:
    """Return the histogram: bars of objects, or of the share of all pixels where there are masks."""
    if histogram.values is not None:
        count, low, mean, high = histogram.values
        return [
            page.html_facts([("values", f"{count}"), ("range", f"{low:.4g} to {high:.4g}"), ("mean", f"{mean:.4g}")])
        ]
    if histogram.task == "embed":
        return [page.html_facts([("embeddings", f"{histogram.rows}")])]
    if not histogram.classes:
        return [page.html_text("No row shows any class.")]
    longest = max(item.pixels or item.objects for item in histogram.classes)
    rows = []
    for item in histogram.classes:
        numbers = [f"{item.objects}", f"{item.pictures}"]
        if histogram.task == "segment":
            numbers = [f"{item.pixels / max(histogram.pixels, 1):.1%}", f"{item.pictures}"]
        elif histogram.task == "classify":
            numbers = [f"{item.pictures}"]
        elif histogram.task == "track":
            numbers.insert(1, f"{item.tracks}")
        rows.append((item.name, (item.pixels or item.objects) / longest, numbers))
    columns = {
        "segment": ("share of pixels", "pictures"),
        "classify": ("pictures",),
        "track": ("boxes", "tracks", "frames"),
    }.get(histogram.task, ("objects", "pictures"))
    empty = f"{histogram.empty} of {histogram.rows} pictures and frames show none of them." if histogram.empty else ""
    return [page.html_text(empty, "note"), page.html_bars(("class", "", *columns), rows, shown=SHOWN_CLASSES)]


def _failures(report: RunReport, failures: FailureSummary) -> list[str]:
    if not failures.total:
        return [page.html_text("No item failed." if not report.total_failures else "See quarantine.jsonl.")]
    stages = ", ".join(f"{count} in {stage}" for stage, count in sorted(failures.by_stage.items()))
    rows = tuple((one_line(item.path), item.stage, one_line(item.error)) for item in failures.first)
    note = f"{stages}. "
    note += f"The first {len(rows)} of {failures.total}; all" if len(rows) < failures.total else "They"
    return [page.html_table(Table("", ("input", "stage", "error"), rows, f"{note} stand in quarantine.jsonl."))]


def _time(report: RunReport) -> list[str]:
    rows = [
        (share.name, share.busy, (f"{share.busy:.0%}", f"{share.seconds:.1f}", f"{share.workers}"))
        for share in stage_shares(report)
    ]
    facts = [
        ("seconds in all", f"{report.seconds:.1f}, {report.startup_s:.1f} of them before the first item"),
        ("device", f"{report.device}, idle {report.device_idle_share:.0%} of the time"),
        ("engine", report.engine),
        ("CPUs", f"{report.cpus}" if report.cpus else ""),
        ("versions", ", ".join(f"{name} {version}" for name, version in report.versions.items())),
    ]
    bars = page.html_bars(("stage", "share of its workers' time", "busy", "seconds", "workers"), rows)
    return [page.html_text(pace_words(report)), bars, page.html_facts(facts)]


def _runs(runs: Sequence[Mapping[str, Any]]) -> str:
    """Return a table of the runs; one run alone is what the rest of the page tells of."""
    if len(runs) < 2:
        return ""
    fields = ("ended", "items", "rows", "failures", "seconds", "images_per_s")
    rows = tuple(
        (*(str(run.get(name, "-")) for name in fields), "yes" if run.get("finished") else "no")
        for run in runs[-SHOWN_RUNS:]
    )
    note = f"The last {SHOWN_RUNS} of {len(runs)}; all stand in report.json." if len(runs) > SHOWN_RUNS else ""
    return page.html_table(Table("", (*(name.replace("_per_s", "/s") for name in fields), "job finished"), rows, note))


def _configuration(report: RunReport, job: Mapping[str, Any]) -> list[str]:
    models = job.get("models")
    rows = [
        (f"model of {stage}", f"{model.get('name', '')}, sha256 {str(model.get('sha256', ''))[:16]}")
        for stage, model in (models.items() if isinstance(models, Mapping) else ())
        if isinstance(model, Mapping)
    ]
    identity = job.get("identity")
    settings = _flat(identity) if isinstance(identity, Mapping) else ()
    table = page.html_table(Table("", ("setting", "value"), tuple(settings)), fold=False) if settings else ""
    facts = [("source", report.source), ("output", report.out), *rows, ("stride32", str(job.get("stride32", "")))]
    return [page.html_facts(facts), page.html_folded("All settings that decide the rows", table) if table else ""]


def _flat(table: Mapping[str, Any], place: str = "") -> list[tuple[str, str]]:
    """Return nested settings as (dotted name, text)."""
    rows: list[tuple[str, str]] = []
    for name, value in table.items():
        if isinstance(value, Mapping):
            rows += _flat(value, f"{place}{name}.")
        else:
            rows.append((f"{place}{name}", str(value).lower() if isinstance(value, bool) else str(value)))
    return rows
