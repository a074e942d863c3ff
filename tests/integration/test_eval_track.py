"""``stride32 eval track`` as a user runs it: folders, a file of one's own, tables, files, and what is refused."""

from __future__ import annotations

import csv
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[2]

pytest.importorskip("trackeval", reason="needs the eval extra")


def evaluate(*args: object, cwd: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "vision.cli", "eval", "track", *map(str, args)]
    variables = {key: value for key, value in os.environ.items() if not key.startswith("STRIDE32_")}
    return subprocess.run(
        command, cwd=cwd, env={**variables, "PYTHONPATH": str(REPOSITORY)}, capture_output=True, text=True, timeout=300
    )


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One object over six frames that changes its id in the fourth."""
    folder = tmp_path_factory.mktemp("data")
    (folder / "gt" / "A" / "gt").mkdir(parents=True)
    (folder / "results").mkdir()
    rows = [(frame, 1, 100) for frame in range(1, 7)]
    (folder / "gt/A/gt/gt.txt").write_text("".join(f"{t},{i},{x},10,20,40,1,1,1\n" for t, i, x in rows))
    (folder / "results/A.txt").write_text("".join(f"{t},{5 + t // 4},{x},10,20,40\n" for t, _, x in rows))
    return folder


def test_folders_with_files_and_report(data: Path, tmp_path: Path) -> None:
    outputs = ["--csv", tmp_path / "s.csv", "--report", tmp_path / "report"]
    run = evaluate("--gt", data / "gt", "--results", data / "results", "--detail", *outputs, cwd=tmp_path)
    assert run.returncode == 0, run.stderr
    first, second = run.stdout.split("\n\n")
    assert first.split()[:3] == ["HOTA", "DetA", "AssA"]
    assert second.split()[:2] == ["DetRe", "DetPr"]
    with (tmp_path / "s.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [(row["sequence"], row["IDSW"], row["FP"]) for row in rows] == [("A", "1", "0"), ("combined", "1", "0")]
    assert "new track" in (tmp_path / "report" / "index.html").read_text()
    again = evaluate("--gt", data / "gt", "--results", data / "results", *outputs, cwd=tmp_path)
    assert again.returncode == 1
    assert "--overwrite" in again.stderr


def test_a_file_of_ones_own_as_json(data: Path, tmp_path: Path) -> None:
    run = evaluate("--gt", data / "gt/A/gt/gt.txt", "--results", data / "results/A.txt", "--json", cwd=tmp_path)
    assert run.returncode == 0, run.stderr
    scores = json.loads(run.stdout)["A"]
    assert (scores["IDSW"], scores["DetA"]) == (1, pytest.approx(100))


def test_faults_are_one_line_with_their_code(data: Path, tmp_path: Path) -> None:
    (tmp_path / "corners.txt").write_text("".join(f"{t},1,100,10,120,50\n" for t in range(1, 7)))
    run = evaluate("--gt", data / "gt", "--results", tmp_path / "corners.txt", cwd=tmp_path)
    assert run.returncode == 1
    assert "two corners" in run.stderr
    assert len(run.stderr.splitlines()) == 1
    run = evaluate("--gt", data / "gt", "--results", data / "results", "--frames", data, cwd=tmp_path)
    assert run.returncode == 2
    assert "--report" in run.stderr
