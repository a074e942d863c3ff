"""The members of a snapshot's zip archive, as views of its bytes: nothing is copied, unpacked or believed.

``zipfile`` reads the whole directory before it can be asked how many members there are, so the archive's last record is
looked at first: a directory of many thousand entries would take seconds and many times its bytes.
"""

from __future__ import annotations

import io
import re
import struct
import zipfile

MAX_MEMBERS = 64
MAX_DIRECTORY_BYTES = 64 << 10
MAX_HEADER_BYTES = 1 << 20

# tracker.NAME and camera.NAME, as np.savez names them.
_MEMBER = re.compile(r"(header|digest|(tracker|camera)\.[a-z_]{1,40})\.npy")
# End of the central directory without a comment: signature, two disk numbers, entries here and in all, size, offset.
_END = struct.Struct("<4s4H2LH")
_END_SIGNATURE, _LOCATOR_SIGNATURE = b"PK\x05\x06", b"PK\x06\x07"
_LOCATOR_BYTES = 20
# A member's own head: signature, fields that the directory has as well, lengths of name and extra field.
_LOCAL = struct.Struct("<4s22x2H")
_LOCAL_SIGNATURE = b"PK\x03\x04"


def read_members(data: bytes | bytearray) -> dict[str, memoryview]:
    """Return the content of each member by its name without ``.npy``, as views of ``data``.

    Raises:
        ValueError: the archive is none that we write. BadZipFile and what zipfile raises else: it is broken.
    """
    # zipfile sees the directory alone: it copies what it reads from.
    with zipfile.ZipFile(io.BytesIO(_directory(data))) as archive:
        members = archive.infolist()
    _check_members(members, len(data))
    return {member.filename.removesuffix(".npy"): _content(memoryview(data), member) for member in members}


def _directory(data: bytes | bytearray) -> bytes:
    """Return the directory and its record as an archive of their own; raises ValueError where it is large or hidden."""
    place = len(data) - _END.size
    if place < 0:
        raise ValueError("it is no zip archive")
    signature, disk, first_disk, here, entries, size, offset, comment = _END.unpack_from(data, place)
    if signature != _END_SIGNATURE or disk or first_disk or comment or here != entries:
        raise ValueError("it does not end as a zip archive of one piece does")
    if entries > MAX_MEMBERS or size > MAX_DIRECTORY_BYTES:
        raise ValueError(f"it has {entries} members in a directory of {size} bytes")
    # With a locator zipfile would take a second record's word for all this.
    locator = bytes(data[max(0, place - _LOCATOR_BYTES) : place][:4])
    if offset + size != place or locator == _LOCATOR_SIGNATURE:
        raise ValueError("its directory is not where it says")
    return bytes(data[offset:place]) + _END.pack(signature, 0, 0, entries, entries, size, 0, 0)


def _check_members(members: list[zipfile.ZipInfo], size: int) -> None:
    """Refuse a directory that promises anything but what we write."""
    names = [member.filename for member in members]
    if len(members) > MAX_MEMBERS or len(set(names)) < len(names):
        raise ValueError(f"it has {len(names)} members, or two of one name")
    if not {"header.npy", "digest.npy"} <= set(names) or not all(_MEMBER.fullmatch(name) for name in names):
        raise ValueError("its members are not those of a snapshot")
    if any(
        member.compress_type != zipfile.ZIP_STORED or member.flag_bits & 1 or member.compress_size != member.file_size
        for member in members
    ):
        raise ValueError("its members are compressed or encrypted")
    # Members may claim the same bytes several times over.
    if sum(member.file_size for member in members) > size:
        raise ValueError("its members claim more bytes than it has")
    header = next(member for member in members if member.filename == "header.npy")
    if header.file_size > MAX_HEADER_BYTES:
        raise ValueError(f"its header has {header.file_size} bytes")


def _content(data: memoryview, member: zipfile.ZipInfo) -> memoryview:
    """Return a stored member's bytes; the digest of the whole stands for the archive's own checksums."""
    head = data[member.header_offset : member.header_offset + _LOCAL.size]
    if len(head) < _LOCAL.size:
        raise ValueError("a member lies outside of it")
    signature, name_length, extra_length = _LOCAL.unpack(head)
    start = member.header_offset + _LOCAL.size + name_length + extra_length
    content = data[start : start + member.file_size]
    if signature != _LOCAL_SIGNATURE or len(content) < member.file_size:
        raise ValueError("a member is not where the directory says")
    return content
