"""``stride32 data`` by its command line: exit codes, outputs, and what is refused."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
from PIL import Image

from vision.cli.main import main

UNIT_TRAINING = Path(__file__).parents[1] / "unit" / "training"


@pytest.fixture(autouse=True)
def makers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(UNIT_TRAINING)


def run(*words: object) -> int:
    with pytest.raises(SystemExit) as caught:
        main([str(word) for word in words])
    return int(caught.value.code or 0)


@pytest.fixture
def data(tmp_path: Path) -> Path:
    from detection_data import coco_object, write_coco

    rows = [coco_object(1 + number % 8, (number, 5, 20, 20)) for number in range(16)]
    return write_coco(tmp_path / "a.json", rows, pictures=8, categories={1: "car"})


def test_check_of_good_data(data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("data", "check", data) == 0
    printed = capsys.readouterr()
    assert printed.out.startswith(f"data: COCO {data}, 1 classes\n")
    assert printed.out.endswith("0 errors, 0 warnings, 0 notes\n")
    assert printed.err == ""


def test_check_writes_report_and_sheet(data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "a" / "3.png").unlink()
    sheet, report = tmp_path / "sheet.png", tmp_path / "report.json"
    assert run("data", "check", data, "--sheet", sheet, "--json", report, "--threads", 2) == 3
    assert f"  {tmp_path / 'a' / '3.png'}: the picture is missing; a.json names it" in capsys.readouterr().out
    assert json.loads(report.read_text())["counts"] == {"error": 1, "warning": 0, "note": 0}
    with Image.open(sheet) as picture:
        assert picture.format == "PNG"
    assert run("data", "check", data, "--json", report) == 1
    assert "report.json must be new, it exists already; pass --overwrite" in capsys.readouterr().err
    assert run("data", "check", data, "--json", report, "--overwrite") == 3


def test_check_of_two_parts(data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("data", "check", data, "--val", data) == 3
    assert "error shared-picture: 8" in capsys.readouterr().out
    assert run("data", "split", data, tmp_path / "parts", "--val-fraction", 0.4) == 0
    capsys.readouterr()
    assert run("data", "check", tmp_path / "parts") == 0
    printed = capsys.readouterr().out
    assert "\nval: COCO" in printed
    assert printed.startswith("train: COCO")


def test_check_of_nothing_known(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("data", "check", tmp_path) == 1
    error = capsys.readouterr().err
    assert error.startswith(f"error: {tmp_path} must be detection data, found nothing known; looked for")
    assert error.count("\n") == 1


def test_convert(data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("data", "convert", data, tmp_path / "yolo", "--to", "yolo", "--val-fraction", 0.25, "--copy") == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("train: ")
    assert lines[1].startswith("val: ")
    assert lines[-1] == str(tmp_path / "yolo" / "data.yaml")
    assert run("data", "convert", lines[-1], tmp_path / "voc", "--to", "voc") == 0
    assert run("data", "convert", data, tmp_path / "voc", "--to", "voc") == 1
    assert "must be new, it exists already" in capsys.readouterr().err
    assert run("data", "convert", data, tmp_path / "x", "--to", "tfrecord") == 2
    (tmp_path / "a" / "3.png").unlink()
    assert run("data", "convert", data, tmp_path / "rest", "--to", "coco") == 3
    assert "skipped: 1 pictures that cannot be read" in capsys.readouterr().out


def test_bad_rows_are_named_by_convert(data: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    document = json.loads(data.read_text())
    document["annotations"][0]["bbox"] = [1, 2]
    data.write_text(json.dumps(document))
    assert run("data", "convert", data, tmp_path / "b", "--to", "coco") == 0
    assert "row 1 of annotations cannot be read" in caplog.text


def test_no_torch_is_loaded(data: Path) -> None:
    """Checking data is for machines that do no training too."""
    import subprocess

    code = (
        "import sys; from vision.cli.main import main\n"
        f"try: main(['data', 'check', {str(data)!r}])\n"
        "except SystemExit: pass\n"
        "print([name for name in ('torch', 'lightning', 'timm') if name in sys.modules])"
    )
    root = Path(__file__).parents[2]
    done = subprocess.run([sys.executable, "-c", code], cwd=root, capture_output=True, text=True, timeout=120)
    assert done.stdout.splitlines()[-1] == "[]", done.stderr
