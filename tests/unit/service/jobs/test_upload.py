"""Uploads: what arrives is on the disk, what must not arrive leaves nothing, limits hold whatever the head says."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from service.errors import (
    BadRequestError,
    BodyTimeoutError,
    BodyTooLargeError,
    ServiceError,
    UnavailableError,
    UnsupportedMediaTypeError,
)
from service.jobs.errors import InvalidVideoError, StorageFullError
from service.jobs.folders import JobFolder, JobFolders
from service.jobs.quota import DiskQuota
from service.jobs.upload import Upload, UploadLimits, check_declared, is_multipart
from service.multipart import SinglePart

JOB = "0" * 32
FORM = "multipart/form-data; boundary=bb"
DATA = bytes(range(256)) * 40


def form(data: bytes = DATA, name: str = "video", *, end: bytes = b"\r\n--bb--\r\n") -> bytes:
    head = f'--bb\r\nContent-Disposition: form-data; name="{name}"; filename="../../etc/x.mp4"\r\n\r\n'
    return head.encode() + data + end


async def in_pieces(data: bytes, size: int = 100) -> AsyncIterator[bytes]:
    for start in range(0, len(data), size):
        yield data[start : start + size]


def receive(
    tmp_path: Path,
    stream: AsyncIterator[bytes],
    content_type: str | None = "video/mp4",
    *,
    max_bytes: int = 20_000,
    idle_s: float = 5.0,
    total_s: float = 60.0,
    quota_bytes: int = 1 << 20,
    is_open: Callable[[], bool] = lambda: True,
) -> tuple[JobFolder, int]:
    folder = JobFolders(tmp_path / "jobs").of(JOB)
    quota = DiskQuota(tmp_path, quota_bytes)
    with ThreadPoolExecutor(1) as executor:
        upload = Upload(
            folder,
            JOB,
            limits=UploadLimits(max_bytes=max_bytes, idle_s=idle_s, total_s=total_s),
            quota=quota,
            executor=executor,
            is_open=is_open,
        )
        try:
            size = asyncio.run(upload.receive(stream, content_type))
        except BaseException:
            upload.abandon(lambda: None)
            raise
    assert quota.used == size
    return folder, size


@pytest.mark.parametrize("piece", [1, 7, 100, 100_000])
@pytest.mark.parametrize("as_form", [False, True])
def test_the_file_is_the_body(tmp_path: Path, piece: int, as_form: bool) -> None:
    body = form() if as_form else DATA
    folder, size = receive(tmp_path, in_pieces(body, piece), FORM if as_form else None)
    assert folder.source.read_bytes() == DATA
    assert size == len(DATA)
    assert [path.name for path in folder.path.iterdir()] == ["source"]


@pytest.mark.parametrize(
    ("body", "content_type", "error"),
    [
        (b"", "video/mp4", InvalidVideoError),
        (form(b""), FORM, InvalidVideoError),
        (form(name="image"), FORM, BadRequestError),
        (form(end=b""), FORM, BadRequestError),
        (form(end=b"\r\n") + form(), FORM, BadRequestError),
        (b"no form at all", FORM, BadRequestError),
        (form(), "multipart/form-data", BadRequestError),
        (form(), f"multipart/form-data; boundary={'b' * 300}", BadRequestError),
        (b"--bb\r\n\r\n" + DATA, FORM, BadRequestError),
        (b"--bb\r\n" + b"X: " + b"y" * 100_000, FORM, BadRequestError),
        (bytes(20_001), "video/mp4", BodyTooLargeError),
        (form(bytes(20_001)), FORM, BodyTooLargeError),
        (b"--bb\r\n" + bytes(200_000), FORM, BadRequestError),
        (DATA, "text/html", UnsupportedMediaTypeError),
        (DATA, "application/x-www-form-urlencoded", UnsupportedMediaTypeError),
    ],
)
def test_bad_bodies_are_refused(tmp_path: Path, body: bytes, content_type: str, error: type[ServiceError]) -> None:
    with pytest.raises(error):
        receive(tmp_path, in_pieces(body), content_type)
    assert not (tmp_path / "jobs" / JOB / "source").exists()


def test_the_quota_holds_while_bytes_arrive(tmp_path: Path) -> None:
    with pytest.raises(StorageFullError, match="may use 5000 bytes"):
        receive(tmp_path, in_pieces(DATA), quota_bytes=5000)


def test_a_body_that_stops_coming_is_given_up(tmp_path: Path) -> None:
    async def stalled() -> AsyncIterator[bytes]:
        yield DATA
        await asyncio.sleep(60)

    with pytest.raises(BodyTimeoutError, match="keep coming"):
        receive(tmp_path, stalled(), idle_s=0.05)


def test_a_body_that_trickles_is_given_up(tmp_path: Path) -> None:
    async def trickle() -> AsyncIterator[bytes]:
        while True:
            yield b"x"
            await asyncio.sleep(0.01)

    with pytest.raises(BodyTimeoutError, match="bytes a second"):
        receive(tmp_path, trickle(), idle_s=0.1)


def test_an_upload_may_take_so_long_and_no_longer(tmp_path: Path) -> None:
    async def steady() -> AsyncIterator[bytes]:
        while True:
            yield bytes(100)
            await asyncio.sleep(0.01)

    with pytest.raises(BodyTimeoutError, match=r"whole in 0.1 s"):
        receive(tmp_path, steady(), total_s=0.1)


def test_the_end_of_the_server_ends_an_upload(tmp_path: Path) -> None:
    answers = iter([True, True, False])
    with pytest.raises(UnavailableError) as caught:
        receive(tmp_path, in_pieces(DATA), is_open=lambda: next(answers))
    assert caught.value.error_code == "draining"


def test_a_length_that_cannot_be_taken_is_refused_before_the_body(tmp_path: Path) -> None:
    limits, quota = UploadLimits(max_bytes=1000, idle_s=1, total_s=10), DiskQuota(tmp_path, 2000)
    for length in (None, "", "500", "-5", "x", "٣", "9" * 30):
        check_declared(length, limits, quota)
    with pytest.raises(BodyTooLargeError):
        check_declared("100000", limits, quota)
    quota.record(JOB, 1800)
    with pytest.raises(StorageFullError):
        check_declared("500", limits, quota)


def test_media_types() -> None:
    assert is_multipart("Multipart/Form-Data; boundary=x")
    assert not any(map(is_multipart, (None, "", "video/webm", "VIDEO/MP4; codecs=x", "application/octet-stream")))


def test_a_part_may_be_of_any_name_that_was_asked_for() -> None:
    part = SinglePart(FORM, "image")
    assert b"".join(part.feed(form(name="image"))) == DATA
    part.finish()
