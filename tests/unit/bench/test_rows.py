"""Latency, rows, files and what goes into cards."""

from __future__ import annotations

import csv
import io
from pathlib import Path
from typing import Any

import pytest

from vision.bench.latency import FEWEST_CALLS, WARM_UP_CALLS, Latency, measure_latency
from vision.bench.machine import cpu_name, describe_machine
from vision.bench.rows import BenchRow, card_rows, table_cells, to_csv, to_document
from vision.card import ModelCard, read_card, write_card

MACHINE: dict[str, Any] = {
    "cpu": "Some CPU", "cores": 2, "gpus": ["Some GPU"], "load": 0.5, "versions": {"stride32": "1", "torch": "2"},
}  # fmt: skip


def row(name: str = "net", size: str = "320", engine: str = "onnx:cpu", ms: float = 10.0, **changes: Any) -> BenchRow:
    values = {
        "kind": "detector", "threads": 2, "parameters": 3_100_000, "file_bytes": 6_200_000,
        "latency": Latency(ms, ms - 1, ms + 1, ms - 2, 2 * ms, 30),
        "metrics": {"ap": 0.2, "ap50": 0.5}, "source": "card",
    } | changes  # fmt: skip
    return BenchRow(name=name, size=size, engine=engine, **values)


def test_latency_warms_up_and_repeats() -> None:
    calls: list[int] = []
    latency = measure_latency(lambda: calls.append(1), repeats=7)
    assert latency.repeats == 7
    assert len(calls) == WARM_UP_CALLS + 7
    assert 0 <= latency.fastest_ms <= latency.low_ms <= latency.median_ms <= latency.high_ms


def test_a_slow_call_is_not_repeated_for_minutes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("vision.bench.latency.LONGEST_S", 0.0)
    assert measure_latency(lambda: None, repeats=1000).repeats == FEWEST_CALLS


def test_machine_is_described() -> None:
    machine = describe_machine()
    assert machine["cores"] >= 1
    assert {"stride32", "torch", "numpy"} <= machine["versions"].keys()


def test_cpu_name(tmp_path: Path) -> None:
    info = tmp_path / "cpuinfo"
    info.write_text("processor\t: 0\nmodel name\t: Some CPU @ 2 GHz\nmodel name\t: Some CPU @ 2 GHz\n")
    assert cpu_name(info) == "Some CPU @ 2 GHz"
    assert cpu_name(tmp_path / "absent")


@pytest.mark.parametrize(
    ("kind", "metrics", "headline", "accuracy"),
    [
        ("detector", {"ap50": 0.5, "ap": 0.2}, "ap", 0.2),
        ("embedder", {"rank1": 0.9}, "rank1", 0.9),
        ("classifier", {"mAP": 0.7}, "mAP", 0.7),
        ("detector", {}, "", None),
        ("backbone", {}, "", None),
    ],
)
def test_headline(kind: str, metrics: dict[str, float], headline: str, accuracy: float | None) -> None:
    assert (row(kind=kind, metrics=metrics).headline, row(kind=kind, metrics=metrics).accuracy) == (headline, accuracy)


def test_csv_holds_all_columns_and_leaves_unknown_ones_empty() -> None:
    text = to_csv([row(), row("crops", "128x64", kind="embedder", metrics={"rank1": 0.9}, file_bytes=None)])
    first, second = csv.DictReader(io.StringIO(text))
    assert (first["latency_ms"], first["ap50"], first["rank1"], first["file_bytes"]) == ("10.0", "0.5", "", "6200000")
    assert (second["ap"], second["rank1"], second["file_bytes"]) == ("", "0.9", "")
    assert [first["latency_fastest_ms"], first["latency_low_ms"], first["latency_high_ms"]] == ["8.0", "9.0", "11.0"]


def test_document_says_what_times_depend_on() -> None:
    document = to_document([row()], MACHINE, "a picture")
    assert document["machine"] == MACHINE
    assert document["picture"] == "a picture"
    assert document["rows"][0]["repeats"] == 30


def test_table_cells_are_readable() -> None:
    cells = table_cells(row())
    assert (cells["ms"], cells["quartiles"], cells["fastest"]) == ("10.0", "9.0-11.0", "8.0")
    assert (cells["parameters"], cells["file"], cells["accuracy"]) == ("3.10 M", "6.2 MB", "AP 0.200, AP50 0.500")
    assert table_cells(row(file_bytes=None, metrics={}))["file"] == ""


def make_card(folder: Path) -> ModelCard:
    return ModelCard(
        name="net", kind="detector", summary="x", folder=folder, architecture={}, preprocess={}, sha256="0" * 64,
        licence="MIT",
    )  # fmt: skip


def test_cards_keep_one_row_for_the_same_thing(tmp_path: Path) -> None:
    card = make_card(tmp_path)
    assert "latency" not in card.to_dict()
    old = card_rows(card, [row(ms=50.0), row(size="416", ms=60.0)], MACHINE, "a picture")
    write_card(tmp_path, ModelCard(**{**_fields(card), "latency": old}))
    again = read_card(tmp_path)
    assert [dict(item) for item in again.latency] == [dict(item) for item in old]
    new = card_rows(again, [row(ms=10.0, metrics={"ap": 0.3}, source="val.json")], MACHINE, "a picture")
    assert [(item["size"], item["latency_ms"]) for item in new] == [("416", 60.0), ("320", 10.0)]
    # What came from the card is not copied into it; what was measured goes in with its data.
    assert "ap" not in new[0]
    assert (new[1]["ap"], new[1]["dataset"]) == (0.3, "val.json")
    elsewhere = card_rows(again, [row(ms=10.0)], MACHINE | {"cpu": "Another CPU"}, "a picture")
    assert len(elsewhere) == 3


def test_rows_of_a_gpu_name_the_gpu(tmp_path: Path) -> None:
    (item,) = card_rows(make_card(tmp_path), [row(engine="torch:cuda")], MACHINE, "a picture")
    assert item["processor"] == "Some GPU"


def _fields(card: ModelCard) -> dict[str, Any]:
    return {name: getattr(card, name) for name in ModelCard.__dataclass_fields__}
