"""Manifests: shards of consecutive items, files read by part, and what differs between two."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from vision.batch.columns import BLOCK, ItemRows
from vision.batch.config import BatchConfig
from vision.batch.listing import Inputs, list_inputs
from vision.batch.manifest import Manifest, differences
from vision.errors import InvalidInputError


def inputs(*kinds: str, base: str = "/in/") -> Inputs:
    """Return items: "image", "video", or the frames of a part of a video."""
    rows = ItemRows(base)
    for index, kind in enumerate(kinds):
        rows.add(f"{index:07d}.x", "image" if kind == "image" else "video", size=index, stamp=f"t{index}")
    table = rows.finish()
    counts = [int(kind) if kind.isdecimal() else None for kind in kinds]
    for name, values in (("frame_start", [None if n is None else 0 for n in counts]), ("frame_stop", counts)):
        place = table.schema.get_field_index(name)
        table = table.set_column(place, table.schema.field(name), pa.array(values, pa.int64()))
    return Inputs(table, base)


def build(found: Inputs, shard_size: int = 3) -> Manifest:
    return Manifest.build(found, BatchConfig(task="detect", shard_size=shard_size))


@pytest.mark.parametrize(
    ("kinds", "sizes"),
    [
        (["image"] * 7, [3, 3, 1]),
        (["image"] * 6, [3, 3]),
        (["image"], [1]),
        (["video", "video"], [1, 1]),
        (["image", "video", "image", "image"], [1, 1, 2]),
        (["2", "2", "image", "2", "5", "1"], [2, 2, 1, 1]),
        (["image", "image", "9", "image"], [3, 1]),
    ],
)
def test_a_shard_closes_when_it_has_its_frames(kinds: list[str], sizes: list[int]) -> None:
    manifest = build(inputs(*kinds))
    shards = [manifest.shard(index) for index in range(manifest.n_shards)]
    assert [len(shard.items) for shard in shards] == sizes
    items = [item for shard in shards for item in shard.items]
    assert [item.index for item in items] == list(range(len(kinds)))
    assert len({shard.digest for shard in shards}) == len(shards)


def test_a_file_gives_the_same_shards_and_has_the_same_bytes_each_time(tmp_path: Path) -> None:
    found = inputs(*(["image"] * BLOCK + ["video", "70"] * 40 + ["image"] * BLOCK))
    for shard_size in (7, BLOCK * 2):
        built = build(found, shard_size)
        built.write(tmp_path / "a.parquet")
        build(found, shard_size).write(tmp_path / "b.parquet")
        assert (tmp_path / "a.parquet").read_bytes() == (tmp_path / "b.parquet").read_bytes()
        with (tmp_path / "a.parquet").open("rb") as file:
            opened = Manifest.open(file)
            assert (opened.n_items, opened.n_shards, opened.digest) == (built.n_items, built.n_shards, built.digest)
            for index in np.random.default_rng(0).integers(0, built.n_shards, 20).tolist():
                assert opened.shard(index) == built.shard(index)
        assert differences(built, Manifest.open(tmp_path / "a.parquet")) == []


def test_only_the_row_groups_of_a_shard_are_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    build(inputs(*["image"] * (3 * BLOCK)), 1000).write(tmp_path / "m.parquet")
    read: list[list[int]] = []
    whole = pq.ParquetFile.read_row_groups
    monkeypatch.setattr(
        pq.ParquetFile, "read_row_groups", lambda self, groups: read.append(groups) or whole(self, groups)
    )
    manifest = Manifest.open(tmp_path / "m.parquet")
    for index in (0, 1, 4, 12):
        assert len(manifest.shard(index).items) == min(1000, 3 * BLOCK - index * 1000)
    assert read == [[0], [0, 1], [2]]


def test_a_moved_folder_holds_the_same_items_elsewhere(tmp_path: Path) -> None:
    config = BatchConfig(task="detect")
    (tmp_path / "old/sub").mkdir(parents=True)
    (tmp_path / "old/sub/a.jpg").write_bytes(b"a")
    old = Manifest.build(list_inputs(str(tmp_path / "old"), config), config)
    shutil.move(tmp_path / "old", tmp_path / "new")
    new = Manifest.build(list_inputs(str(tmp_path / "new"), config), config)
    assert new.digest == old.digest
    assert new.shard(0).digest == old.shard(0).digest
    assert Path(new.shard(0).items[0].address).read_bytes() == b"a"
    os.utime(tmp_path / "new/sub/a.jpg", (1, 1))
    later = Manifest.build(list_inputs(str(tmp_path / "new"), config), config)
    assert later.digest != new.digest
    assert differences(new, later) == ["1 input was changed: sub/a.jpg: another time or version, of the same size"]


def test_differences_are_counted_with_the_first_of_each(tmp_path: Path) -> None:
    for name in ("a.jpg", "b.jpg", "d.jpg", "e.jpg", "f.jpg"):
        (tmp_path / name).write_bytes(bytes(1200))
    config = BatchConfig(task="detect")
    old = Manifest.build(list_inputs(str(tmp_path), config), config)
    (tmp_path / "a.jpg").write_bytes(bytes(1300))
    for name in ("d.jpg", "e.jpg", "f.jpg"):
        (tmp_path / name).unlink()
    for name in ("c.jpg", "g.jpg"):
        (tmp_path / name).write_bytes(b"")
    new = Manifest.build(list_inputs(str(tmp_path), config), config)
    assert differences(old, new, limit=2) == [
        "2 inputs were added: c.jpg; g.jpg",
        "3 inputs were removed: first d.jpg; e.jpg, ...",
        "1 input was changed: a.jpg: 1200 bytes, now 1300 bytes",
    ]
    assert len(differences(new, old)) == 3


def test_a_base_that_is_no_text_survives_the_file(tmp_path: Path) -> None:
    folder = os.fsencode(tmp_path) + b"/in\xff"
    os.mkdir(folder)  # noqa: PTH102
    with open(folder + b"/a.jpg", "wb") as file:  # noqa: PTH123
        file.write(b"content")
    found = list_inputs(os.fsdecode(folder), BatchConfig(task="detect"))
    build(found).write(tmp_path / "m.parquet")
    (item,) = Manifest.open(tmp_path / "m.parquet").shard(0).items
    assert item == found.items()[0]
    assert Path(item.address).read_bytes() == b"content"


@pytest.mark.parametrize("content", [b"", b"PAR1 but no more", None])
def test_what_is_no_manifest_is_refused(tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "m.parquet"
    if content is None:
        pq.write_table(pa.table({"a": [1]}), path)
    else:
        path.write_bytes(content)
    with pytest.raises(InvalidInputError, match="must be a manifest of a batch job"):
        Manifest.open(path)


def test_a_shard_that_is_not_there_is_refused() -> None:
    with pytest.raises(InvalidInputError, match=r"must be in \[0, 1\)"):
        build(inputs("image")).shard(1)
