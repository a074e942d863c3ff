"""Small sequences on disk: rows of ground truth and of results, boxes 20 x 40 at y = 10."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

Row = tuple[int, int, float]


def truth_line(frame: int, identity: int, x: float, *, label: int = 1, active: int = 1) -> str:
    """Return a row of MOT17's layout."""
    return f"{frame},{identity},{x},10,20,40,{active},{label},1"


def result_line(frame: int, identity: int, x: float) -> str:
    return f"{frame},{identity},{x},10,20,40,0.9,-1,-1,-1"


def write_lines(path: Path, lines: Sequence[str]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(f"{line}\n" for line in lines))
    return path


def write_scene(folder: Path, name: str, truth: Sequence[Row], tracked: Sequence[Row], length: int) -> None:
    """Write ``folder/gt/NAME/gt/gt.txt`` with its seqinfo.ini, and ``folder/results/NAME.txt``."""
    write_lines(folder / "gt" / name / "gt" / "gt.txt", [truth_line(*row) for row in truth])
    write_lines(folder / "gt" / name / "seqinfo.ini", ["[Sequence]", f"seqLength={length}"])
    write_lines(folder / "results" / f"{name}.txt", [result_line(*row) for row in tracked])


def crossing() -> tuple[list[Row], list[Row]]:
    """Return two objects over ten frames whose results exchange ids in frame 5; object 2 is missed in frames 8 and 9.

    Object 1 is followed by 11, then 12; object 2 by 12, then 11. One false result, 99, in frame 3.
    """
    truth = [(frame, identity, 100.0 * identity) for frame in range(1, 11) for identity in (1, 2)]
    tracked = []
    for frame in range(1, 11):
        first, second = (11, 12) if frame < 5 else (12, 11)
        tracked.append((frame, first, 100.0))
        if frame not in (8, 9):
            tracked.append((frame, second, 200.0))
    return truth, [*tracked, (3, 99, 900.0)]
