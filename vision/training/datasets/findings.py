"""One fault of a data set, in the same form whether a reader, a check or the start of a training met it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

Severity = Literal["error", "warning", "note"]
SEVERITIES: tuple[Severity, ...] = ("error", "warning", "note")


@dataclass(frozen=True, slots=True)
class Finding:
    """One fault, or something worth knowing.

    Attributes:
        severity: "error" leaves something out of a training or makes it learn what is wrong; "warning" is likely a
            mistake; "note" is a fact that the user should know.
        code: short name of the kind of fault, the same for each of its kind: "missing-picture".
        file: the file concerned.
        found: what is there, in words.
        fix: what to do about it.
        picture: the picture concerned, when ``file`` is its annotations and it is a single one.
    """

    severity: Severity
    code: str
    file: Path
    found: str
    fix: str
    picture: Path | None = None

    def __str__(self) -> str:
        return f"{self.file}: {self.found}; {self.fix}"

    def to_dict(self) -> dict[str, Any]:
        """Return the finding as JSON values."""
        return asdict(self) | {
            "file": self.file.as_posix(),
            "picture": None if self.picture is None else self.picture.as_posix(),
        }


def by_severity(findings: Iterable[Finding]) -> list[Finding]:
    """Return the findings, errors first; those of one kind together, in the order of their first one."""
    rows = list(findings)
    order = {code: index for index, code in reversed(list(enumerate(finding.code for finding in rows)))}
    return sorted(rows, key=lambda row: (SEVERITIES.index(row.severity), order[row.code]))


def count_severities(findings: Sequence[Finding]) -> dict[Severity, int]:
    """Return how many findings there are of each severity, 0 included."""
    counts = Counter(finding.severity for finding in findings)
    return {severity: counts[severity] for severity in SEVERITIES}
