"""A saved session goes on bit for bit; a file that is not one is refused, whatever it promises."""

from __future__ import annotations

import asyncio
import copy
import io
import struct
import time
import tracemalloc
import zipfile
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import orjson
import pytest
from square_streams import SquareBuilder, png, square_store

from service.errors import SessionTooLargeError
from service.sessions.archive import MAX_MEMBERS
from service.sessions.errors import InvalidSnapshotError, SequenceConflictError
from service.sessions.saving import save_session
from service.sessions.session import Session
from service.sessions.snapshot import decode_snapshot, digest_arrays, encode_snapshot
from service.sessions.store import SessionStore
from service.stream_options import StreamOptions

OPTIONS = StreamOptions(settings={"tracking.camera_motion": "flow", "tracking.n_init": 2, "tracking.gallery_size": 5})


async def answers(session: Session, steps: range) -> list[dict[str, Any]]:
    """Return the answers to the frames of steps, without what differs between sessions."""
    rows = []
    for step in steps:
        answer = await session.submit(png(step), sequence=step, timestamp_s=step / 25)
        row = orjson.loads(answer.body)
        rows.append({name: value for name, value in row.items() if name not in ("timings_ms", "session")})
    return rows


async def saved(builder: SquareBuilder, pool: ThreadPoolExecutor) -> tuple[SessionStore, Session, bytes]:
    store = square_store(builder, pool)
    session = await store.create(OPTIONS, "key", ttl_s=20.0)
    await answers(session, range(5))
    return store, session, await save_session(session)


@pytest.mark.parametrize("tracker", ["deepsort", "bytetrack", "ocsort", "strongsort", "botsort", "stride32"])
def test_a_restored_session_goes_on_as_the_original(
    builder: SquareBuilder, pool: ThreadPoolExecutor, tracker: str
) -> None:
    async def run() -> None:
        store = square_store(builder, pool)
        options = StreamOptions(tracker=tracker, settings={"tracking.camera_motion": "flow"})
        session = await store.create(options, "key", ttl_s=20.0)
        await answers(session, range(6))
        restored = await store.restore(await save_session(session), "other")
        assert restored.session_id != session.session_id
        assert (restored.key_id, restored.next_sequence, restored.ttl_s) == ("other", 6, 20.0)
        assert restored.last_timestamp_s == session.last_timestamp_s
        assert await answers(restored, range(6, 12)) == await answers(session, range(6, 12))
        # To the last bit of what they remember, too.
        states = [(await each.state())[0] for each in (session, restored)]
        for part in ("tracker", "camera"):
            first, second = (getattr(state, part) for state in states)
            assert first.keys() == second.keys()
            for name in first:
                np.testing.assert_array_equal(first[name], second[name])

    asyncio.run(run())


def test_a_snapshot_is_taken_between_two_frames(builder: SquareBuilder, pool: ThreadPoolExecutor) -> None:
    async def run() -> None:
        _, session, _ = await saved(builder, pool)
        builder.detector.gate.clear()
        frame = asyncio.create_task(answers(session, range(5, 6)))
        while builder.detector.seen[-1] != 5:
            await asyncio.sleep(0.005)
        snapshot = asyncio.create_task(save_session(session))
        await asyncio.sleep(0.03)
        assert not snapshot.done()
        builder.detector.gate.set()
        await frame
        assert decode_snapshot(await snapshot).header.next_sequence == 6

    asyncio.run(run())


def test_a_session_without_frames_can_be_restored(builder: SquareBuilder, pool: ThreadPoolExecutor) -> None:
    async def run() -> None:
        store = square_store(builder, pool)
        session = await store.create(OPTIONS, "key")
        restored = await store.restore(await save_session(session), "key")
        assert await answers(restored, range(3)) == await answers(session, range(3))

    asyncio.run(run())


def test_defaults_are_saved_by_name(builder: SquareBuilder, pool: ThreadPoolExecutor) -> None:
    async def run() -> None:
        _, _, data = await saved(builder, pool)
        header = decode_snapshot(data).header
        assert header.options.model == "squares"
        assert header.models["detector"] == "squares"
        assert header.models["embedder"].startswith("reid-lite ")

    asyncio.run(run())


def rezip(data: bytes, change: Callable[[dict[str, bytes]], None], *, compression: int = zipfile.ZIP_STORED) -> bytes:
    """Return the archive with its members changed."""
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    change(members)
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", compression) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return out.getvalue()


def npy(array: Any, *, pickled: bool = False) -> bytes:
    out = io.BytesIO()
    np.lib.format.write_array(out, np.asarray(array), version=(1, 0), allow_pickle=pickled)
    return out.getvalue()


def lying(shape: str, descr: str = "'<f8'", content: bytes = b"") -> bytes:
    """Return an array file whose header claims a shape."""
    header = f"{{'descr': {descr}, 'fortran_order': False, 'shape': {shape}}}".encode()
    header += b" " * (-(len(header) + 11) % 64) + b"\n"
    return b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header + content


def signed(data: bytes, change: Callable[[dict[str, Any]], None]) -> bytes:
    """Return a snapshot with arrays changed and a digest that fits: what somebody with our source can make."""
    with np.load(io.BytesIO(data)) as file:
        arrays = {name: file[name] for name in file.files if name != "digest"}
    change(arrays)
    out = io.BytesIO()
    np.savez(out, digest=np.array(digest_arrays(arrays)), **arrays)
    return out.getvalue()


def set_header(**fields: Any) -> Callable[[dict[str, Any]], None]:
    def change(arrays: dict[str, Any]) -> None:
        header = orjson.loads(arrays["header"].tobytes()) | fields
        arrays["header"] = np.frombuffer(orjson.dumps(header), np.uint8)

    return change


def set_array(name: str, make: Callable[[Any], Any]) -> Callable[[dict[str, Any]], None]:
    def change(arrays: dict[str, Any]) -> None:
        arrays[name] = make(arrays[name])

    return change


def flip(data: bytes, place: int) -> bytes:
    return data[:place] + bytes([data[place] ^ 1]) + data[place + 1 :]


def entries(count: int, name: str = "x") -> bytes:
    """Return an archive whose directory alone is there, as often as said."""
    entry = struct.pack("<4s4B4HL2L5H2L", b"PK\x01\x02", 20, 0, 20, 0, 0, 0, 0, 0, 0, 0, 0, len(name), 0, 0, 0, 0, 0, 0)
    return (entry + name.encode()) * count


def end(count: int, size: int, offset: int, *, disk: int = 0, comment: int = 0) -> bytes:
    return struct.pack("<4s4H2LH", b"PK\x05\x06", disk, 0, count & 0xFFFF, count & 0xFFFF, size, offset, comment)


def with_zip64(data: bytes) -> bytes:
    """Return the archive with a directory of many entries in front, which only a second record tells of."""
    many = entries(70_000)
    record = struct.pack("<4sQ2H2L4Q", b"PK\x06\x06", 44, 45, 45, 0, 0, 70_000, 70_000, len(many), len(data))
    locator = struct.pack("<4sLQL", b"PK\x06\x07", 0, len(data) + len(many), 1)
    size = 20 + len(record)
    return data + many + record + locator + end(1, size, len(data) + len(many))


FILES: dict[str, Callable[[bytes], bytes]] = {
    "nothing": lambda data: b"",
    "a picture": lambda data: png(0),
    "cut short": lambda data: data[: len(data) // 2],
    "one bit of the content": lambda data: flip(data, data.index(b"tracker.mean.npy") + 200),
    "compressed": lambda data: rezip(data, lambda members: None, compression=zipfile.ZIP_DEFLATED),
    "a bomb": lambda data: rezip(
        data, lambda members: members.update({"tracker.mean.npy": bytes(50 << 20)}), compression=zipfile.ZIP_DEFLATED
    ),
    "a foreign member": lambda data: rezip(data, lambda members: members.update({"../../x": b"x"})),
    "an unknown array": lambda data: signed(data, lambda arrays: arrays.update({"tracker.more": np.zeros(3)})),
    "no header": lambda data: rezip(data, lambda members: members.pop("header.npy") and None),
    "many members": lambda data: rezip(
        data, lambda members: members.update({f"tracker.{'x' * n}.npy": npy(0) for n in range(1, MAX_MEMBERS)})
    ),
    "a directory of thousands": lambda data: data + entries(5000) + end(5000, 5000 * 47, len(data)),
    "thousands that are counted as one": lambda data: data + entries(5000) + end(1, 5000 * 47, len(data)),
    "a second record": with_zip64,
    "an end that lies about its place": lambda data: data[:-22] + end(3, 10, 0),
    "a part of several disks": lambda data: data[:-22] + end(3, 10, 0, disk=1),
    "a comment": lambda data: data[:-2] + b"\x05\x00hello",
    "a member elsewhere": lambda data: data.replace(b"PK\x03\x04", b"PK\x03\x05", 1),
    "a pickle": lambda data: rezip(
        data, lambda members: members.update({"tracker.mean.npy": npy(np.array([{}]), pickled=True)})
    ),
    "a shape of terabytes": lambda data: rezip(
        data, lambda members: members.update({"tracker.mean.npy": lying("(1000000000000,)")})
    ),
    "an endless shape of nothing": lambda data: rezip(
        data, lambda members: members.update({"tracker.mean.npy": lying("(0, 1" + "0" * 30 + ")")})
    ),
    "text without width": lambda data: rezip(
        data, lambda members: members.update({"camera.last_failure.npy": lying("(1000000000,)", "'<U0'")})
    ),
    "a deep header": lambda data: rezip(
        data, lambda members: members.update({"tracker.mean.npy": lying("(" * 2000 + ")" * 2000)})
    ),
    "another kind": lambda data: signed(data, set_header(kind="other")),
    "another format": lambda data: signed(data, set_header(format=2)),
    "a bad option": lambda data: signed(data, set_header(options={"trackr": "sort"})),
    "a number below zero": lambda data: signed(data, set_header(next_sequence=-1)),
    "other classes": lambda data: signed(data, set_header(class_names=["cat"])),
    "another detector": lambda data: signed(data, set_header(models={"detector": "squares 00"})),
    "other settings": lambda data: signed(data, set_header(tracking={"max_age": 1})),
    "NaN": lambda data: signed(data, set_array("tracker.mean", lambda array: array * np.nan)),
    "another shape": lambda data: signed(data, set_array("tracker.covariance", lambda array: array[:, :2])),
    "ids twice": lambda data: signed(data, set_array("tracker.ids", lambda array: array * 0 + 1)),
    "an infinite id": lambda data: signed(data, set_array("tracker.clock", lambda array: array + np.inf)),
    "a wide gallery": lambda data: signed(
        data, set_array("tracker.gallery", lambda array: np.zeros((len(array), 1, 5000), np.float32))
    ),
    "a clock of text": lambda data: signed(data, set_array("tracker.clock", lambda array: array.astype(str))),
    "no camera": lambda data: signed(
        data, lambda arrays: [arrays.pop(name) for name in [*arrays] if name.startswith("camera.")] and None
    ),
    "another camera": lambda data: signed(data, set_array("camera.grey", lambda array: array[:5])),
    "a clock ahead of the sequence": lambda data: signed(data, set_header(next_sequence=2)),
}


@pytest.mark.parametrize("name", FILES)
def test_files_that_are_no_snapshots_are_refused(builder: SquareBuilder, pool: ThreadPoolExecutor, name: str) -> None:
    async def run() -> None:
        store, _, data = await saved(builder, pool)
        with pytest.raises(InvalidSnapshotError) as caught:
            await store.restore(FILES[name](data), "key")
        assert "download it again" in str(caught.value) or "same version" in str(caught.value)
        assert len(store) == 1

    asyncio.run(run())


def test_members_that_share_their_bytes_are_refused(builder: SquareBuilder, pool: ThreadPoolExecutor) -> None:
    async def run() -> None:
        store, _, data = await saved(builder, pool)
        file = io.BytesIO(data)
        with zipfile.ZipFile(file, "a") as archive:
            # The directory names one member again and again: each would be read in full.
            gallery = archive.getinfo("tracker.gallery.npy")
            for number in range(40):
                again = copy.copy(gallery)
                again.filename = f"tracker.{'y' * (number + 1)}.npy"
                archive.filelist.append(again)
            archive.writestr("tracker.z.npy", b"")
        with pytest.raises(InvalidSnapshotError, match="claim"):
            await store.restore(file.getvalue(), "key")

    asyncio.run(run())


def test_encoding_and_decoding_are_inverse(builder: SquareBuilder, pool: ThreadPoolExecutor) -> None:
    async def run() -> None:
        _, _, data = await saved(builder, pool)
        assert encode_snapshot(decode_snapshot(data)) == data

    asyncio.run(run())


def test_a_directory_of_many_entries_costs_nothing() -> None:
    # 8 MiB of entries: zipfile would make an object of each before it could be asked.
    data = entries(180_000)
    data += end(180_000, len(data), 0)
    tracemalloc.start()
    began = time.process_time()
    with pytest.raises(InvalidSnapshotError, match="members"):
        decode_snapshot(data)
    assert time.process_time() - began < 0.5
    assert tracemalloc.get_traced_memory()[1] < 1 << 20
    tracemalloc.stop()


def test_arrays_are_views_of_the_file(builder: SquareBuilder, pool: ThreadPoolExecutor) -> None:
    async def run() -> None:
        _, session, data = await saved(builder, pool)
        state, _, _ = await session.state()
        large = signed(data, set_array("tracker.gallery", lambda array: np.zeros((2, 500_000, 4), np.float32)))
        body = bytearray(large)
        tracemalloc.start()
        snapshot = decode_snapshot(body)
        assert tracemalloc.get_traced_memory()[1] < 1 << 20
        tracemalloc.stop()
        assert np.shares_memory(snapshot.state.tracker["gallery"], np.frombuffer(body, np.uint8))
        assert snapshot.state.tracker.keys() == state.tracker.keys()

    asyncio.run(run())


def crowd(count: int) -> Callable[[dict[str, Any]], None]:
    """Return what makes the saved tracks so many."""

    def change(arrays: dict[str, Any]) -> None:
        for name in [*arrays]:
            if name.startswith("tracker.") and name != "tracker.clock":
                arrays[name] = np.repeat(arrays[name][:1], count, axis=0)
        arrays["tracker.ids"] = np.arange(1, count + 1)
        arrays["tracker.clock"] = np.array([count + 1, *arrays["tracker.clock"][1:]])

    return change


def test_a_snapshot_of_more_tracks_than_a_session_may_have(builder: SquareBuilder, pool: ThreadPoolExecutor) -> None:
    async def run() -> None:
        store, _, data = await saved(builder, pool)
        with pytest.raises(SessionTooLargeError, match="at most 5000"):
            await store.restore(signed(data, crowd(5001)), "key")
        assert len(store) == 1
        assert (await store.restore(signed(data, crowd(5000)), "key")).next_sequence == 5

    asyncio.run(run())


def test_a_restored_session_is_booked_at_once(builder: SquareBuilder, pool: ThreadPoolExecutor) -> None:
    async def run() -> None:
        store = square_store(builder, pool, sessions_max_state_bytes=1 << 20)
        session = await store.create(OPTIONS, "key")
        await answers(session, range(5))
        data = await save_session(session)
        many = signed(data, crowd(2000))
        held = session.work.budget._total
        restored = await store.restore(many, "key")
        assert session.work.budget._total > held + 2000 * 200
        for _ in range(3):
            with pytest.raises(SessionTooLargeError, match="share"):
                await store.restore(many, "key")
        store.delete(restored.session_id, "key")
        await asyncio.gather(*store._closings)
        assert session.work.budget._total == held
        for name in ("another camera", "NaN"):
            with pytest.raises(InvalidSnapshotError):
                await store.restore(FILES[name](data), "key")
        assert session.work.budget._total == held

    asyncio.run(run())


def test_a_restored_session_has_no_last_answer(builder: SquareBuilder, pool: ThreadPoolExecutor) -> None:
    async def run() -> None:
        store, session, data = await saved(builder, pool)
        restored = await store.restore(data, "key")
        for own, offers in ((session, True), (restored, False)):
            with pytest.raises(SequenceConflictError) as caught:
                await own.submit(png(3), sequence=3, timestamp_s=None)
            assert ("4 for the last answer again" in str(caught.value)) == offers
            assert caught.value.next_sequence == 5

    asyncio.run(run())
