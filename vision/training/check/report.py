"""The whole check of a data set, and what is said of it: lines for people, JSON for programs."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vision.io.images import IMAGE_SUFFIXES
from vision.io.listing import natural_key
from vision.training.check.annotations import check_annotations
from vision.training.check.duplicates import group_equal, join_pairs, near_pairs
from vision.training.check.pixels import PictureFacts, inspect_pictures
from vision.training.check.statistics import DataStatistics, format_statistics, measure
from vision.training.datasets.annotations import DetectionAnnotations
from vision.training.datasets.findings import Finding, Severity, by_severity, count_severities
from vision.training.datasets.pictures import read_headers

_SHOWN = 3


@dataclass(frozen=True, slots=True, eq=False)
class CheckReport:
    """What was found in a data set.

    Attributes:
        parts: the data that was checked, by its name: "data", or "train" and "val".
        findings: errors first.
        statistics: of each part.
    """

    parts: dict[str, DetectionAnnotations]
    findings: tuple[Finding, ...]
    statistics: dict[str, DataStatistics]

    @property
    def counts(self) -> dict[Severity, int]:
        """Number of findings of each severity."""
        return count_severities(self.findings)

    def to_dict(self) -> dict[str, Any]:
        """Return the report as JSON values."""
        return {
            "counts": self.counts,
            "parts": {
                name: {"path": part.path.as_posix(), "format": part.format, **self.statistics[name].to_dict()}
                for name, part in self.parts.items()
            },
            "findings": [finding.to_dict() for finding in self.findings],
        }


def check_data(
    parts: dict[str, DetectionAnnotations], *, threads: int, advance: Callable[[], None] = lambda: None
) -> CheckReport:
    """Return everything that is found in the parts of a data set; every picture is decoded, nothing is changed.

    Args:
        parts: annotations by the name of the part; with several, pictures that are in two of them are errors.
        threads: decoding threads, >= 1.
        advance: called after each decoded picture.
    """
    findings: list[Finding] = []
    facts: dict[Path, PictureFacts] = {}
    for part in parts.values():
        headers = read_headers(picture.path for picture in part.pictures)
        findings += (row for row in check_annotations(part, headers) if row.code != "corrupt-picture")
        paths = [path for path in headers if path not in facts and path.is_file()]
        facts |= {fact.path: fact for fact in inspect_pictures(paths, threads=threads, advance=advance)}
    findings += (finding for fact in facts.values() for finding in fact.findings)
    owner = {picture.path: name for name, part in reversed(parts.items()) for picture in part.pictures}
    findings += _shared_paths(parts)
    findings += _duplicates(list(facts.values()), owner)
    findings += _strangers(list(parts.values()), set(facts))
    findings += _unknown_classes(parts)
    statistics = {name: measure(part) for name, part in parts.items()}
    # The parts of one data set report the faults of its class list alike.
    return CheckReport(parts, tuple(by_severity(dict.fromkeys(findings))), statistics)


def count_pictures(parts: dict[str, DetectionAnnotations]) -> int:
    """Return the number of picture files that a check of the parts will decode."""
    return sum(path.is_file() for path in {picture.path for part in parts.values() for picture in part.pictures})


def _shared_paths(parts: dict[str, DetectionAnnotations]) -> Iterator[Finding]:
    """Yield pictures that two parts list by the same path."""
    seen: dict[Path, str] = {}
    for name, part in parts.items():
        for path in dict.fromkeys(picture.path.resolve() for picture in part.pictures):
            if path in seen:
                found, fix = f"the picture is in {seen[path]} and in {name}", f"remove it from {name}"
                yield Finding("error", "shared-picture", path, found, fix)
            else:
                seen[path] = name


def _duplicates(facts: Sequence[PictureFacts], owner: dict[Path, str]) -> Iterator[Finding]:
    """Yield groups of equal and of nearly equal pictures; across parts they make validation too good."""
    equal = group_equal([fact.digest for fact in facts])
    for group in equal:
        yield from _group_finding("duplicate-picture", "the same file", [facts[index].path for index in group], owner)
    # One of each equal group stands for all, so that no pair is reported twice.
    later = {index for group in equal for index in group[1:]}
    alive = [fact for index, fact in enumerate(facts) if fact.hash_bits is not None and index not in later]
    hashes = [fact.hash_bits for fact in alive if fact.hash_bits is not None]
    pairs = near_pairs(hashes, [fact.small for fact in alive if fact.small is not None])
    for group in join_pairs(pairs, len(alive)):
        yield from _group_finding("similar-picture", "nearly the same", [alive[index].path for index in group], owner)


def _group_finding(code: str, likeness: str, paths: list[Path], owner: dict[Path, str]) -> Iterator[Finding]:
    names = sorted({owner[path] for path in paths})
    # The one in the later part is named first: it is the one to take out.
    first = max(paths, key=lambda path: (owner[path] != owner[paths[0]], -paths.index(path)))
    others = [str(path) for path in paths if path != first]
    shown = ", ".join(others[:_SHOWN]) + (f" and {len(others) - _SHOWN} more" if len(others) > _SHOWN else "")
    if len(names) > 1:
        severity: Severity = "error" if code == "duplicate-picture" else "warning"
        found = f"{likeness} as {shown}, across {' and '.join(names)}"
        yield Finding(severity, f"{code}-across-parts", first, found, f"keep such pictures in one part ({names[0]})")
    else:
        severity = "warning" if code == "duplicate-picture" else "note"
        fix = "keep one of them" if code == "duplicate-picture" else "nothing to do if they are frames of one video"
        yield Finding(severity, code, first, f"{likeness} as {shown}", fix)


def _strangers(parts: Sequence[DetectionAnnotations], listed: set[Path]) -> Iterator[Finding]:
    """Yield picture files beside the listed ones that no part names, and YOLO label files without a picture."""
    known = {path.resolve() for path in listed}
    sources = {picture.source.resolve() for part in parts for picture in part.pictures}
    folders = dict.fromkeys(path.parent for path in sorted(listed, key=natural_key))
    for folder in folders:
        extra = [
            path
            for path in sorted(folder.iterdir(), key=natural_key)
            if path.suffix.lower() in IMAGE_SUFFIXES and path.resolve() not in known
        ]
        if extra:
            found = f"{len(extra)} pictures of this folder are not in the annotations, first {extra[0].name}"
            fix = "nothing to do if they belong to another part; they are not used"
            yield Finding("note", "unlisted-pictures", folder, found, fix)
    if any(part.format == "yolo" for part in parts):
        for folder in dict.fromkeys(source.parent for source in sorted(sources, key=natural_key)):
            labels = [path for path in sorted(folder.glob("*.txt"), key=natural_key) if path.resolve() not in sources]
            labels = [path for path in labels if path.stem not in ("classes", "train", "val", "test")]
            if labels:
                found = f"{len(labels)} label files have no picture, first {labels[0].name}"
                yield Finding("warning", "labels-without-picture", folder, found, "add the pictures, or remove them")


def _unknown_classes(parts: dict[str, DetectionAnnotations]) -> Iterator[Finding]:
    """Yield a finding when a later part has objects of classes that the first one does not know."""
    names = list(parts)
    for name in names[1:]:
        first, part = parts[names[0]], parts[name]
        used = {part.class_names[row.label] for picture in part.pictures for row in picture.rows}
        unknown = sorted(used - set(first.class_names))
        if unknown:
            found = f"{name} has classes that {names[0]} does not know: {', '.join(unknown)}"
            yield Finding("warning", "unknown-classes", part.source, found, "they are left out; use the same names")


def format_report(report: CheckReport, *, examples: int = _SHOWN) -> Iterator[str]:
    """Yield the report as lines: the numbers of each part, the findings by kind with a few examples, the counts."""
    for name, statistics in report.statistics.items():
        part = report.parts[name]
        head, *rest = format_statistics(statistics)
        yield f"{name}: {part.format.upper()} {part.path}, {len(part.class_names)} classes"
        yield f"  {head}"
        yield from rest
    for code in dict.fromkeys(finding.code for finding in report.findings):
        rows = [finding for finding in report.findings if finding.code == code]
        yield ""
        yield f"{rows[0].severity} {code}: {len(rows)}"
        for finding in rows[:examples]:
            yield f"  {finding.file}: {finding.found}"
        if len(rows) > examples:
            yield f"  ... and {len(rows) - examples} more (--json lists all)"
        for fix in list(dict.fromkeys(finding.fix for finding in rows))[:examples]:
            yield f"  -> {fix}"
    counts = report.counts
    yield ""
    yield f"{counts['error']} errors, {counts['warning']} warnings, {counts['note']} notes"
