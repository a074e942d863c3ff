"""A saved session goes on bit for bit; a file that is not one is refused, whatever it promises."""

from __future__ import annotations

import asyncio
import copy
import io
import zipfile
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import orjson
import pytest
from square_streams import SquareBuilder, png, square_store

from service.sessions.errors import InvalidSnapshotError
from service.sessions.session import Session
from service.sessions.snapshot import MAX_MEMBERS, decode_snapshot, digest_arrays, encode_snapshot
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
    return store, session, await store.snapshot(session)


@pytest.mark.parametrize("tracker", ["deepsort", "bytetrack", "ocsort", "strongsort", "botsort", "stride32"])
def test_a_restored_session_goes_on_as_the_original(
    builder: SquareBuilder, pool: ThreadPoolExecutor, tracker: str
) -> None:
    async def run() -> None:
        store = square_store(builder, pool)
        options = StreamOptions(tracker=tracker, settings={"tracking.camera_motion": "flow"})
        session = await store.create(options, "key", ttl_s=20.0)
        await answers(session, range(6))
        restored = await store.restore(await store.snapshot(session), "other")
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
        store, session, _ = await saved(builder, pool)
        builder.detector.gate.clear()
        frame = asyncio.create_task(answers(session, range(5, 6)))
        while builder.detector.seen[-1] != 5:
            await asyncio.sleep(0.005)
        snapshot = asyncio.create_task(store.snapshot(session))
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
        restored = await store.restore(await store.snapshot(session), "key")
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
