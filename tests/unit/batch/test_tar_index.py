"""Tar shards: members as ranges, nothing unpacked, damage told of."""

from __future__ import annotations

import io
import tarfile
from pathlib import Path

import pytest

from vision.batch.config import BatchConfig
from vision.batch.fetching import fetch_bytes
from vision.batch.listing import list_inputs
from vision.batch.tar_index import TarDamage, read_members
from vision.errors import InvalidInputError

DETECT = BatchConfig(task="detect")


def write_tar(path: Path, members: dict[str, bytes], kind: int = tarfile.PAX_FORMAT) -> Path:
    with tarfile.open(path, "w", format=kind) as archive:
        for name, content in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return path


@pytest.mark.parametrize("kind", [tarfile.PAX_FORMAT, tarfile.GNU_FORMAT, tarfile.USTAR_FORMAT])
def test_members_are_ranges_of_the_file(tmp_path: Path, kind: int) -> None:
    long = "deep/" * 15 + "übung.jpg" if kind != tarfile.USTAR_FORMAT else "u.jpg"
    members = {"b.jpg": b"bb", "b.json": b"{}", "b.cls": b"1", long: b"long", "a.PNG": b"a", ".hid.jpg": b"h"}
    write_tar(tmp_path / "s-0.tar", members, kind)
    (tmp_path / "c.jpg").write_bytes(b"c")
    items = list_inputs(str(tmp_path), DETECT).items()
    found = {item.name: fetch_bytes(item, 100) for item in items}
    assert found == {"c.jpg": b"c", "s-0.tar/a.PNG": b"a", "s-0.tar/b.jpg": b"bb", f"s-0.tar/{long}": b"long"}
    assert list_inputs(str(tmp_path / "s-0.tar"), DETECT).items()[0].name == "s-0.tar/a.PNG"


def test_names_lead_nowhere_and_links_are_no_members(tmp_path: Path) -> None:
    path = tmp_path / "x.tar"
    with tarfile.open(path, "w") as archive:
        for name in ("/etc/a.jpg", "../../b.jpg", "./c.jpg", "c.jpg"):
            info = tarfile.TarInfo(name)
            info.size = 1
            archive.addfile(info, io.BytesIO(name[-5:-4].encode()))
        for kind in (tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.FIFOTYPE, tarfile.DIRTYPE):
            info = tarfile.TarInfo("link.jpg")
            info.type, info.linkname = kind, "/etc/passwd"
            archive.addfile(info)
    items = list_inputs(str(path), DETECT).items()
    offsets = [item.offset for item in items]
    assert [item.name for item in items] == [
        "x.tar/_/_/b.jpg", f"x.tar/c.jpg@{offsets[1]}", f"x.tar/c.jpg@{offsets[2]}", "x.tar/etc/a.jpg",
    ]  # fmt: skip
    assert b"".join(fetch_bytes(item, 9) for item in items) == b"bcca"
    assert [path.name for path in tmp_path.iterdir()] == ["x.tar"]


def test_damage_is_an_item_of_its_own_and_what_lies_before_it_is_kept(tmp_path: Path) -> None:
    whole = write_tar(tmp_path / "x.tar", {f"{index}.jpg": bytes([index]) * 600 for index in range(1, 9)}).read_bytes()
    bad = bytearray(whole)
    bad[3 * 1536 : 3 * 1536 + 100] = b"\xa5" * 100
    for content in (bytes(bad), whole[: 3 * 1536 + 200]):
        (tmp_path / "x.tar").write_bytes(content)
        inputs = list_inputs(str(tmp_path), DETECT)
        assert [item.name for item in inputs.items()] == ["x.tar", "x.tar/1.jpg", "x.tar/2.jpg", "x.tar/3.jpg"]
        assert "damaged or no tar behind 3 pictures" in inputs.notes[0]
        assert fetch_bytes(inputs.items()[0], 9) == b""


def test_a_tar_that_is_none_is_refused_alone_and_told_of_among_others(tmp_path: Path) -> None:
    (tmp_path / "bad.tar").write_bytes(b"not a tar at all" * 100)
    (tmp_path / "old.tar.gz").write_bytes(b"x")
    with pytest.raises(InvalidInputError, match=r"bad\.tar is damaged or no tar"):
        list_inputs(str(tmp_path / "bad.tar"), DETECT)
    (tmp_path / "a.jpg").write_bytes(b"x")
    inputs = list_inputs(f"{tmp_path}/", DETECT)
    assert [item.name for item in inputs.items()] == ["a.jpg", "bad.tar"]
    assert [note.partition(" ")[0] for note in inputs.notes] == ["1", "bad.tar"]
    inputs = list_inputs(f"{tmp_path}/{{a.jpg,gone.tar}}", DETECT)
    assert [item.name for item in inputs.items()] == ["a.jpg", "gone.tar"]


def test_a_header_that_wants_our_memory_is_damage() -> None:
    info = tarfile.TarInfo("pax")
    info.type, info.size = tarfile.XHDTYPE, 8 * 2**30
    with pytest.raises(TarDamage, match="a header of"):
        list(read_members(io.BytesIO(info.tobuf(tarfile.GNU_FORMAT) + bytes(1024))))


def test_headers_that_follow_headers_without_end_are_damage() -> None:
    info = tarfile.TarInfo("pax")
    info.type, info.size = tarfile.XHDTYPE, 0
    with pytest.raises(TarDamage):
        list(read_members(io.BytesIO(info.tobuf() * 20_000)))
