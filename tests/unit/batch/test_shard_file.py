from __future__ import annotations

import errno
from pathlib import Path
from typing import Any

import batch_jobs
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from vision.batch.items import Failure, FrameRange, Item, Shard
from vision.batch.output import Output, open_output
from vision.batch.rows import read_rows
from vision.batch.shard_file import ROWS_OF_A_GROUP, ShardWriter
from vision.batch.shard_summary import (
    METADATA_KEY,
    ShardHeader,
    read_summaries,
    read_summary,
    shard_index,
    shard_name,
    shard_names,
)
from vision.errors import InvalidInputError, StateError

HEADER = ShardHeader(
    task="detect", config={"detection": {"classes": ()}, "x": 0.1}, models=batch_jobs.MODELS, class_names=("a",)
)
NAME = shard_name(0)


@pytest.fixture
def output(tmp_path: Path) -> Output:
    return open_output(str(tmp_path))


def pictures(count: int) -> Shard:
    return Shard(0, tuple(Item(i, f"{i}.jpg", f"/{i}", "image") for i in range(count)), "digest")


def rows_of(shard: Shard) -> list[dict[str, Any]]:
    return [row for item in shard.items for row in batch_jobs.make_rows("detect", item)]


@pytest.mark.parametrize("count", [0, 1, ROWS_OF_A_GROUP, 2 * ROWS_OF_A_GROUP + 3])
def test_bytes_do_not_depend_on_how_rows_were_added_or_where(tmp_path: Path, count: int) -> None:
    contents = set()
    for address, step in ((str(tmp_path / "a"), 1), (str(tmp_path / "b"), 100), ("memory://shard-bytes", 1000)):
        output, shard = open_output(address), pictures(count)
        if output.exists(NAME):
            output.remove(NAME)
        writer, rows = ShardWriter(output, shard, HEADER), rows_of(shard)
        for start in range(0, count, step):
            writer.add(rows[start : start + step])
        assert writer.commit().rows == count
        contents.add(output.read(NAME))
        assert [row["item"] for row in read_rows(output, NAME)] == list(range(count))
        with output.open(NAME) as file:
            metadata = pq.read_metadata(file)
        assert {metadata.row_group(group).num_rows for group in range(metadata.num_row_groups - 1)} <= {256}
    assert len(contents) == 1


def test_the_footer_says_all_of_the_shard(output: Output) -> None:
    items = [Item(4, "a.mp4", "/a", "video"), Item(5, "b.jpg", "/b", "image"), Item(6, "c.jpg", "/c", "image")]
    writer = ShardWriter(output, Shard(0, tuple(items), "digest"), HEADER)
    writer.fail(Failure(5, "b.jpg", "fetch", "gone\n\tfor good \udcff", tries=2, rows=99))
    writer.add(batch_jobs.make_rows("detect", items[0]))
    writer.fail(Failure(4, "a.mp4", "decode", "cut short"))
    writer.add(batch_jobs.make_rows("detect", items[2]))
    summary = writer.commit()
    assert summary.failures == (
        Failure(4, "a.mp4", "decode", "cut short", rows=3),
        Failure(5, "b.jpg", "fetch", "gone for good \\udcff", tries=2, rows=0),
    )
    assert (summary.index, summary.digest, summary.first_item, summary.items, summary.rows) == (0, "digest", 4, 3, 4)
    assert read_summary(output, NAME) == summary
    assert read_summary(output, NAME).header.config == {"detection": {"classes": []}, "x": 0.1}


def test_nothing_is_there_before_the_commit_or_after_an_abort(output: Output, tmp_path: Path) -> None:
    writer = ShardWriter(output, pictures(300), HEADER)
    writer.add(rows_of(pictures(300)))
    assert output.names("rows") == []
    writer.abort()
    writer.abort()
    assert list((tmp_path / "rows").iterdir()) == []
    with pytest.raises(StateError, match="closed"):
        writer.add([])


def test_a_shard_that_is_there_stays(output: Output) -> None:
    shard = pictures(3)
    for _ in range(2):
        writer = ShardWriter(output, shard, HEADER)
        writer.add(rows_of(shard))
        first = writer.commit()
    assert first == read_summary(output, NAME)
    other = ShardWriter(output, Shard(0, shard.items, "another digest"), HEADER)
    other.add(rows_of(shard))
    with pytest.raises(InvalidInputError, match="other inputs"):
        other.commit()
    assert read_summary(output, NAME) == first


@pytest.mark.parametrize(
    "order", [[0, 2, 1], [0, 1, 1], [0, 3], [1, 0]], ids=["behind", "twice", "foreign", "first behind"]
)
def test_rows_out_of_order_are_our_error(output: Output, order: list[int]) -> None:
    writer = ShardWriter(output, pictures(3), HEADER)
    rows = [batch_jobs.make_rows("detect", Item(item, "x", "/x", "image"))[0] for item in order]
    with pytest.raises(StateError, match="in order"):
        writer.add(rows)
    writer.abort()


def test_frames_outside_their_part_of_a_video_are_our_error(output: Output) -> None:
    item = Item(0, "a.mp4", "/a", "video", frames=FrameRange(1, 3, 0, None, 0))
    rows = batch_jobs.make_rows("detect", Item(0, "a.mp4", "/a", "video"))
    writer = ShardWriter(output, Shard(0, (item,), "d"), HEADER)
    with pytest.raises(StateError, match="frame 0"):
        writer.add(rows)
    writer.add(rows[1:])
    assert writer.commit().rows == 2
    picture = ShardWriter(output, pictures(1), HEADER)
    with pytest.raises(StateError, match="frame 1"):
        picture.add(rows[1:2])
    picture.abort()


def test_an_item_that_was_left_out_is_our_error(output: Output) -> None:
    writer = ShardWriter(output, pictures(3), HEADER)
    writer.add(rows_of(pictures(1)))
    writer.fail(Failure(2, "2.jpg", "decode", "x"))
    with pytest.raises(StateError, match="item 1 among them"):
        writer.commit()
    for item in (2, 3):
        with pytest.raises(StateError, match=f"item {item}"):
            writer.fail(Failure(item, "2.jpg", "decode", "x"))
    writer.abort()
    assert output.names("rows") == []


def test_a_full_disk_ends_the_shard_with_one_clear_error(output: Output, monkeypatch: pytest.MonkeyPatch) -> None:
    writer = ShardWriter(output, pictures(600), HEADER)
    rows = rows_of(pictures(600))

    class FullDisk:
        def write(self, _: object) -> int:
            raise OSError(errno.ENOSPC, "No space left on device")

        def close(self) -> None:
            pass

    writer.add(rows[:10])
    writer._file._file.close()
    monkeypatch.setattr(writer._file, "_file", FullDisk())
    with pytest.raises(InvalidInputError, match="no space left"):
        writer.add(rows[10:])
    writer.abort()
    assert output.names("rows") == []


@pytest.mark.parametrize("damage", ["cut", "empty", "tail", "facts", "foreign", "longer", "newer"])
def test_a_damaged_file_is_told_of_with_what_to_do(output: Output, tmp_path: Path, damage: str) -> None:
    shard = pictures(30)
    writer = ShardWriter(output, shard, HEADER)
    writer.add(rows_of(shard))
    writer.commit()
    path = tmp_path / NAME
    content = path.read_bytes()
    start = content.index(b'"class_names"')
    changed = {
        "cut": content[:-100],
        "empty": b"",
        "tail": content[:-8] + b"\xff\xff\xff\x7fPAR1",
        "facts": content[:start] + b'"Class_names"' + content[start + 13 :],
        "longer": content[:4] + b"\0" + content[4:],
        "newer": content.replace(b'"schema_version":1', b'"schema_version":2'),
    }
    if damage == "foreign":
        pq.write_table(pa.table({"item": np.arange(3)}), path)
    else:
        path.write_bytes(changed[damage])
    with pytest.raises(InvalidInputError, match="run again with --resume") as caught:
        read_summary(output, NAME)
    assert NAME in str(caught.value)
    assert len(str(caught.value).splitlines()) == 1
    found = list(read_summaries(output, [NAME, NAME]))
    assert [type(each) for each in found] == [InvalidInputError] * 2


def test_pages_carry_checksums(output: Output, tmp_path: Path) -> None:
    shard = pictures(300)
    writer = ShardWriter(output, shard, HEADER)
    writer.add(rows_of(shard))
    writer.commit()
    path = tmp_path / NAME
    content = bytearray(path.read_bytes())
    content[200] ^= 0x10
    path.write_bytes(content)
    with pytest.raises(InvalidInputError, match="whole Parquet file"):
        list(read_rows(output, NAME))


def test_names_of_shards(output: Output) -> None:
    for index in (0, 99_999, 100_000, 1_234_567):
        assert shard_index(shard_name(index)) == index
        output.put_new(shard_name(index), b"")
    strange = [
        "rows/shard-7.parquet",
        "rows/shard-00007.parquet.bak",
        "rows/shard--0007.parquet",
        "rows/shard-\u0660\u0660\u0660\u0660\u0667.parquet",
    ]
    for name in [*strange, f"rows/shard-{'9' * 5000}.parquet"]:
        assert shard_index(name) is None
    output.put_new(strange[0], b"")
    assert shard_names(output) == [shard_name(index) for index in (0, 99_999, 100_000, 1_234_567)]


def test_the_metadata_is_json_under_one_key(output: Output, tmp_path: Path) -> None:
    shard = pictures(1)
    writer = ShardWriter(output, shard, HEADER)
    writer.add(rows_of(shard))
    writer.commit()
    keys = set(pq.read_metadata(tmp_path / NAME).metadata)
    assert keys == {b"ARROW:schema", METADATA_KEY.encode()}
