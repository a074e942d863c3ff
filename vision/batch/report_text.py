"""The report of a run in words: how much, how fast, which stage set the pace, and what failed."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from vision.batch.stats import RunReport

# Of these a report says the error; all of them are in the quarantine.
SHOWN_FAILURES = 5
KEPT_FAILURES = 50
# A store may be full of folders that cannot be listed.
SHOWN_NOTES = 10
# Below this share of its time no stage was short of workers.
_BUSY = 0.5


@dataclass(frozen=True, slots=True)
class FailedItem:
    """A line of ``quarantine.jsonl``: the item's name, where it failed and why."""

    path: str
    stage: str
    error: str


@dataclass(frozen=True, slots=True)
class FailureSummary:
    """What failed over the whole job: how many items in each stage, and the first of them."""

    by_stage: dict[str, int] = field(default_factory=dict)
    first: tuple[FailedItem, ...] = ()

    @property
    def total(self) -> int:
        """Failed items of all stages."""
        return sum(self.by_stage.values())


@dataclass(frozen=True, slots=True)
class StageShare:
    """How busy a stage was: its name, the workers' summed seconds, how many they are, and the share of their time."""

    name: str
    seconds: float
    workers: int
    busy: float


def read_failures(lines: Iterable[bytes]) -> FailureSummary:
    """Return what the lines of ``quarantine.jsonl`` say; a line that cannot be read is counted as such."""
    stages: Counter[str] = Counter()
    first: list[FailedItem] = []
    for line in lines:
        if not line.strip():
            continue
        try:
            row = json.loads(line)
            item = FailedItem(str(row["path"]), str(row["stage"]), str(row["error"]))
        except (ValueError, KeyError, TypeError):
            item = FailedItem("?", "unknown", "this line of quarantine.jsonl cannot be read")
        stages[item.stage] += 1
        if len(first) < KEPT_FAILURES:
            first.append(item)
    return FailureSummary(dict(stages), tuple(first))


def stage_shares(report: RunReport) -> list[StageShare]:
    """Return how busy each stage was; a stage that did nothing is left out."""
    stages, working_s = report.stages, max(report.seconds - report.startup_s, 1e-9)
    rows = [
        ("fetch", stages.fetch_s, stages.fetchers),
        ("decode", stages.decode_s, stages.decoders),
        ("infer", stages.infer_s, stages.inferers),
        ("write", stages.write_s, stages.writers),
    ]
    return [
        StageShare(name, seconds, max(workers, 1), min(seconds / (max(workers, 1) * working_s), 1.0))
        for name, seconds, workers in rows
        if seconds > 0
    ]


def pace_words(report: RunReport) -> str:
    """Return which stage set the pace, and what would help."""
    shares = stage_shares(report)
    if not report.items or not shares:
        return "This run had nothing left to do."
    # Workers of one device wait for each other and for videos that cannot be divided; the device knows better.
    device = 1 - report.device_idle_share
    paces = {share.name: max(share.busy, device) if share.name == "infer" else share.busy for share in shares}
    slowest = max(shares, key=lambda share: paces[share.name])
    busy = f"busy {paces[slowest.name]:.0%} of the time"
    if paces[slowest.name] < _BUSY:
        return (
            f"No stage was busy more than {_BUSY:.0%} of the time: the run was short beside its start and end, or the "
            "machine had other work."
        )
    if slowest.name == "infer":
        return f"Inference is the slowest stage ({busy}); more decoders will not help, {_faster_inference(report)} may."
    if slowest.name == "decode":
        if report.cpus and slowest.workers >= report.cpus:
            return (
                f"Decoding is the slowest stage ({busy}), and there is a decoder for each of the {report.cpus} CPUs; "
                "more CPUs or smaller pictures would help."
            )
        return f"Decoding is the slowest stage ({busy} in {slowest.workers} decoders); more --decoders may help."
    if slowest.name == "fetch":
        return f"Fetching is the slowest stage ({busy}): the inputs come no faster from where they lie."
    return f"Writing is the slowest stage ({busy}): a nearer or faster place for --out would help."


def _faster_inference(report: RunReport) -> str:
    return "a smaller model or a GPU" if report.device.startswith("cpu") else "a larger --batch or another device"


def report_text(report: RunReport, failures: FailureSummary) -> str:
    """Return the report of a run and of its job so far, a few lines."""
    lines = [
        f"{report.task}: {_count(report.items, 'item')} in {report.seconds:.1f} s, {_count(report.rows, 'row')}, "
        f"{report.images_per_s:.1f} images/s after {report.startup_s:.1f} s of starting",
        f"job: {report.committed_shards} of {_count(report.total_shards, 'shard')} committed, "
        f"{_count(report.total_rows, 'row')}, {_count(report.total_failures, 'failed item')}",
    ]
    if report.skipped_items:
        lines.append(f"skipped: {_count(report.skipped_items, 'item')} that earlier runs had finished")
    lines += [
        f"{share.name}: {share.seconds:.1f} s of work, {share.busy:.0%} of the time of "
        f"{_count(share.workers, 'worker')}"
        for share in stage_shares(report)
    ]
    lines.append(f"device: {report.device}, idle {report.device_idle_share:.0%} of the time")
    lines.append(pace_words(report))
    if failures.total:
        stages = ", ".join(f"{stage} {count}" for stage, count in sorted(failures.by_stage.items()))
        lines.append(f"failed by stage: {stages} (quarantine.jsonl)")
        lines += [
            f"  {one_line(item.path)} ({item.stage}): {one_line(item.error)}"
            for item in failures.first[:SHOWN_FAILURES]
        ]
        if failures.total > SHOWN_FAILURES:
            lines.append(f"  and {failures.total - SHOWN_FAILURES} more")
    lines += [f"note: {line}" for line in shown_notes(report.notes)]
    lines += [f"ended early: {words}" for words in [ending_words(report)] if words]
    return "\n".join(lines) + "\n"


def ending_words(report: RunReport) -> str:
    """Return why the run ended before its job was finished, or an empty text."""
    if report.finished:
        return ""
    if report.interrupted:
        return "it was interrupted; --resume goes on"
    if report.stopped_by_errors:
        return "more items failed than --max-errors allows"
    return "shards are missing; --resume goes on"


def shown_notes(notes: Sequence[str], most: int = SHOWN_NOTES) -> list[str]:
    """Return the first notes, each on one line, and how many there are beside them."""
    lines = [one_line(note) for note in notes[:most]]
    return [*lines, f"and {len(notes) - most} more"] if len(notes) > most else lines


def one_line(text: str) -> str:
    """Return a name on one line: what would break a line, or move a terminal's cursor, is shown by its number."""
    return "".join(sign if sign.isprintable() else repr(sign)[1:-1] for sign in text)


def _count(number: int, word: str) -> str:
    return f"{number} {word}{'' if number == 1 else 's'}"
