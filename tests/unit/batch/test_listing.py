"""SOURCE to items: every kind of it on this machine."""

from __future__ import annotations

import os
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from vision.batch.config import BatchConfig
from vision.batch.listing import Inputs, list_inputs
from vision.errors import InvalidInputError

DETECT, TRACK = BatchConfig(task="detect"), BatchConfig(task="track")


def touch(folder: Path, *names: str) -> Path:
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"x" * len(name))
    return folder


def names(inputs: Inputs) -> list[str]:
    return [item.name for item in inputs.items()]


def test_a_folder_is_sorted_by_name_and_leaves_out_what_is_hidden_or_linked(tmp_path: Path) -> None:
    root = touch(tmp_path / "in", "b.jpg", "a/z.PNG", "a.jpg", "a-b.jpg", "clip.mp4", "é ü.jpg", "notes.txt", "x.json")
    touch(root, ".hidden.jpg", ".git/a.jpg", "a/.b.jpg")
    (root / "ring").symlink_to(root)
    (root / "lost.jpg").symlink_to(root / "nowhere")
    (root / "folder.jpg").mkdir()
    os.mkfifo(root / "pipe.jpg")
    inputs = list_inputs(str(root), DETECT)
    assert names(inputs) == ["a-b.jpg", "a.jpg", "a/z.PNG", "b.jpg", "clip.mp4", "lost.jpg", "é ü.jpg"]
    assert names(inputs) == sorted(names(inputs))
    items = inputs.items()
    assert [item.index for item in items] == list(range(7))
    assert [item.kind for item in items if item.name == "clip.mp4"] == ["video"]
    assert Path(items[2].address) == root / "a/z.PNG"
    assert inputs.items(2, 4) == items[2:4]
    assert inputs.table.column("size").to_pylist() == [7, 5, 7, 5, 8, -1, len("é ü.jpg")]
    assert inputs.table.column("stamp").to_pylist()[0] == str((root / "a-b.jpg").stat().st_mtime_ns)


def test_names_that_are_no_text_lead_to_their_files(tmp_path: Path) -> None:
    root = os.fsencode(touch(tmp_path, "a.jpg"))
    with open(root + b"/b\xff.jpg", "wb") as file:  # noqa: PTH123
        file.write(b"two")
    (tmp_path / "b\\udcff.jpg").write_bytes(b"three")
    inputs = list_inputs(str(tmp_path), DETECT)
    contents = {Path(item.address).read_bytes() for item in inputs.items()}
    assert contents == {b"x" * 5, b"two", b"three"}
    assert len(set(names(inputs))) == 3


def test_an_unreadable_folder_is_told_of(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    touch(tmp_path, "a.jpg", "locked/b.jpg")
    scan = os.scandir

    def refuse(path: str) -> object:
        if str(path).endswith("locked/"):
            raise PermissionError(13, "Permission denied")
        return scan(path)

    monkeypatch.setattr(os, "scandir", refuse)
    inputs = list_inputs(str(tmp_path), DETECT)
    assert names(inputs) == ["a.jpg"]
    assert inputs.notes == ("the folder locked/ cannot be listed (Permission denied); what is in it is left out",)


def test_a_glob_names_from_its_fixed_part(tmp_path: Path) -> None:
    touch(tmp_path, "in/2024/a.jpg", "in/2024/b.txt", "in/2025/c.jpg", "in/2025/.d.jpg", "out/e.jpg")
    assert names(list_inputs(f"{tmp_path}/in/20*/*", DETECT)) == ["2024/a.jpg", "2025/c.jpg"]
    assert names(list_inputs(f"{tmp_path}/in/2025*/*.jpg", DETECT)) == ["2025/c.jpg"]
    with pytest.raises(InvalidInputError, match="found none"):
        list_inputs(f"{tmp_path}/in/*.jpg", DETECT)


def test_a_file_whose_name_looks_like_a_pattern_is_that_file(tmp_path: Path) -> None:
    touch(tmp_path, "[1]{a,b}.jpg", "1a.jpg")
    assert names(list_inputs(f"{tmp_path}/[1]{{a,b}}.jpg", DETECT)) == ["[1]{a,b}.jpg"]


def test_braces_are_expanded_and_what_is_missing_stays_an_item(tmp_path: Path) -> None:
    touch(tmp_path, "a-08.jpg", "a-09.jpg", "a-11.jpg")
    inputs = list_inputs(f"{tmp_path}/a-{{08..10}}.jpg", DETECT)
    assert names(inputs) == ["a-08.jpg", "a-09.jpg", "a-10.jpg"]
    assert inputs.table.column("size").to_pylist() == [8, 8, -1]
    with pytest.raises(InvalidInputError, match="at most 1000000 names"):
        list_inputs(f"{tmp_path}/a-{{0..99999999999}}.jpg", DETECT)


def test_a_list_is_relative_to_itself_and_takes_each_address_once(tmp_path: Path) -> None:
    touch(tmp_path, "in/a.jpg", "in/b.jpg")
    lines = ["# pictures", "b.jpg", "", "./a.jpg", "gone.jpg", str(tmp_path / "in/../in/b.jpg"), "nul\0.jpg"]
    (tmp_path / "in/list.txt").write_text("\n".join(lines), encoding="utf-8-sig")
    inputs = list_inputs(str(tmp_path / "in/list.txt"), DETECT)
    assert names(inputs) == ["a.jpg", "b.jpg", "gone.jpg", "nul\0.jpg"]
    assert inputs.duplicates == 1
    assert inputs.notes == ("1 entries name a file for the second time and are left out",)
    assert inputs.items()[1].address == str(tmp_path / "in/b.jpg")


def test_a_list_beyond_its_folder_names_from_what_all_share(tmp_path: Path) -> None:
    touch(tmp_path, "x/a/1.jpg", "x/b/1.jpg")
    (tmp_path / "lists").mkdir()
    (tmp_path / "lists/l.txt").write_text(f"../x/a/1.jpg\n{tmp_path}/x/b/1.jpg\n")
    assert names(list_inputs(str(tmp_path / "lists/l.txt"), DETECT)) == ["a/1.jpg", "b/1.jpg"]
    (tmp_path / "lists/l.txt").write_text("s3://one/1.jpg\ngs://two/1.jpg\n../x/a/1.jpg\n")
    inputs = list_inputs(str(tmp_path / "lists/l.txt"), DETECT)
    assert names(inputs) == sorted([f"{tmp_path}/x/a/1.jpg", "gs://two/1.jpg", "s3://one/1.jpg"])
    assert [item.is_remote for item in inputs.items()] == [False, True, True]


@pytest.mark.parametrize("entry", ["https://host/a.jpg", "ftp://host/a.jpg", "simplecache::https://host/a.jpg"])
def test_web_addresses_are_refused_everywhere(tmp_path: Path, entry: str) -> None:
    (tmp_path / "l.txt").write_text(entry)
    for source in (entry, str(tmp_path / "l.txt")):
        with pytest.raises(InvalidInputError, match="web addresses are not fetched"):
            list_inputs(source, DETECT)


def test_tables_have_a_column_of_paths(tmp_path: Path) -> None:
    touch(tmp_path, "a.jpg", "007")
    (tmp_path / "t.csv").write_text('id,image\n1,"a.jpg"\n2,\n3,007\n')
    assert names(list_inputs(str(tmp_path / "t.csv"), DETECT, column="image")) == ["007", "a.jpg"]
    table = pa.table({"path": pa.array(["a.jpg", None, "gone.jpg"]).dictionary_encode()})
    pq.write_table(table, tmp_path / "t.parquet")
    assert names(list_inputs(str(tmp_path / "t.parquet"), DETECT)) == ["a.jpg", "gone.jpg"]


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("t.csv", b"id,paths\n1,a.jpg\n", "did you mean 'paths'.*found id, paths; name it with --column"),
        ("t.csv", b"", "must be a CSV file"),
        ("t.csv", b"path\n\xff\xfe.jpg\n", "must be a CSV file"),
        ("t.parquet", b"PAR1 not really", "must be a PARQUET file"),
        ("t.txt", b"\xff\xfea.jpg", "must be a UTF-8 text file"),
        ("t.txt", b"# nothing\n", "found none"),
        ("t.tar.gz", b"x", "unpack it to .tar"),
    ],
)
def test_bad_lists_are_refused_in_one_line(tmp_path: Path, name: str, content: bytes, words: str) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(InvalidInputError, match=words) as caught:
        list_inputs(str(tmp_path / name), DETECT)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("source", ["", "no/such/thing", "rtsp://user:secret@host/cam"])
def test_what_is_not_there_is_refused(source: str) -> None:
    with pytest.raises(InvalidInputError) as caught:
        list_inputs(source, DETECT)
    assert "secret" not in str(caught.value)


def test_tracking_is_of_videos(tmp_path: Path) -> None:
    touch(tmp_path, "in/a.jpg", "in/b.jpg", "in/c.mp4")
    inputs = list_inputs(str(tmp_path / "in"), TRACK)
    assert names(inputs) == ["c.mp4"]
    assert inputs.notes == ("2 pictures were left out: tracking is of videos",)
    (tmp_path / "in/c.mp4").unlink()
    with pytest.raises(InvalidInputError, match="a sequence of pictures is for stride32 track"):
        list_inputs(str(tmp_path / "in"), TRACK)


def test_a_single_file_is_what_its_bytes_say_where_its_name_does_not(tmp_path: Path) -> None:
    (tmp_path / "picture").write_bytes(b"\xff\xd8\xff" + bytes(20))
    (tmp_path / "other.bin").write_bytes(bytes(20))
    assert list_inputs(str(tmp_path / "picture"), DETECT).items()[0].kind == "image"
    assert list_inputs(f"file://{tmp_path}/other.bin", DETECT).items()[0].kind == "video"


def test_what_was_left_out_is_told_of_without_end_nowhere(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    touch(tmp_path, "a.jpg", *(f"{number:02}.tar" for number in range(14)))
    (tmp_path / "l.txt").write_text("a.jpg\na.jpg\n")
    inputs = list_inputs(f"{tmp_path}/*", DETECT)
    assert len(inputs.notes) == 14
    assert len(caplog.messages) == 11
    assert caplog.messages[-1] == "and 4 more"
    caplog.clear()
    assert list_inputs(str(tmp_path / "l.txt"), DETECT).duplicates == 1
    assert caplog.messages == ["1 entries name a file for the second time and are left out"]
