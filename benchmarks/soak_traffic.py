"""The soak's requests: good ones whose right answers are known, and all the ways of a client to be a nuisance."""

from __future__ import annotations

import asyncio
import io
import random
import struct
import time
import zlib
from collections import Counter, defaultdict
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from soak_http import PLAIN, Manner, Reply, form, send

JPEG = {"Content-Type": "image/jpeg"}
PICTURES = 24
SESSION_FRAMES = 6
JOB_FRAMES = 20
JOB_S = 120.0


@dataclass(frozen=True)
class Picture:
    """A picture with what the detector says of it, and its size."""

    body: bytes
    detections: list[dict[str, Any]]
    width: int
    height: int


class Failure(Exception):  # noqa: N818 (not an error of this program)
    """The server did not do what it should; the text says what."""


def make_pictures(photograph: bytes) -> list[Picture]:
    """Return pictures of many sizes cut from a photograph, each with an answer of its own, from the library itself."""
    import cv2
    from service_peers import load_detector

    from service.convert import detections_json
    from vision.io.images import decode_image
    from vision.types import Frame

    whole = decode_image(photograph)
    detector = load_detector()
    height, width = whole.shape[:2]
    random_cut = np.random.default_rng(1)
    pictures: list[Picture] = []
    answers: set[str] = set()
    while len(pictures) < PICTURES:
        share = random_cut.uniform(0.5, 1.0)
        top, left = (int(random_cut.uniform(0, (1 - share) * side)) for side in (height, width))
        cut = whole[top : top + int(share * height), left : left + int(share * width)]
        scale = random_cut.uniform(0.4, 1.2)
        image = cv2.resize(cut[:, :: random_cut.choice((-1, 1))], None, fx=scale, fy=scale)
        body = cv2.imencode(".jpg", cv2.cvtColor(image, cv2.COLOR_RGB2BGR))[1].tobytes()
        frame = Frame(decode_image(body))
        found = detections_json(detector.detect([frame])[0], detector.class_names)
        # An answer that another picture has, too, or an empty one, could be swapped without anybody noticing.
        if found and str(found) not in answers:
            answers.add(str(found))
            pictures.append(Picture(body, found, frame.size_hw[1], frame.size_hw[0]))
    return pictures


def make_video(pictures: list[Picture]) -> bytes:
    """Return an MP4 of JOB_FRAMES frames."""
    import av
    import cv2

    from vision.io.images import decode_image

    output = io.BytesIO()
    still = cv2.resize(decode_image(pictures[0].body), (320, 240))
    with av.open(output, "w", format="mp4") as container:
        stream = container.add_stream("libx264", rate=10)
        stream.width, stream.height, stream.pix_fmt = 320, 240, "yuv420p"
        for index in range(JOB_FRAMES):
            frame = av.VideoFrame.from_ndarray(np.roll(still, 2 * index, axis=1), format="rgb24")
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return output.getvalue()


def claimed_png(width: int, height: int) -> bytes:
    """Return a small PNG whose header claims a large picture."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", zlib.compress(bytes(1 << 16))) + chunk(b"IEND", b"")


class Traffic:
    """Asks a server on ``port`` for everything; ``failures`` is what went wrong.

    Args:
        port: of the server.
        pictures: with their answers.
        max_body: of the server's settings, in bytes.
        queue_items: of the server's settings.
        seed: of what is asked when.
    """

    def __init__(self, port: int, pictures: list[Picture], *, max_body: int, queue_items: int, seed: int) -> None:
        self.port, self.pictures = port, pictures
        self.max_body, self.queue_items = max_body, queue_items
        self.video = make_video(pictures)
        self.outcomes: Counter[str] = Counter()
        self.seconds: defaultdict[str, list[float]] = defaultdict(list)
        self.failures: list[str] = []
        self.bursting = 0
        self._random = random.Random(seed)
        self._ids = 0
        picture = pictures[0].body
        multipart, content_type = form("other", picture)
        self._bad: list[tuple[str, bytes, Mapping[str, str], int]] = [
            ("/v1/detect", b"no picture at all", JPEG, 422),
            ("/v1/detect", b"", JPEG, 422),
            ("/v1/detect", picture[: len(picture) // 2], JPEG, 422),
            ("/v1/detect", claimed_png(30_000, 30_000), {"Content-Type": "image/png"}, 413),
            ("/v1/detect?conf=2", picture, JPEG, 422),
            ("/v1/detect?model=no-such-model", picture, JPEG, 404),
            ("/v1/detect", picture, {"Content-Type": "text/html"}, 415),
            ("/v1/detect", multipart, {"Content-Type": content_type}, 400),
            ("/v1/nothing", picture, JPEG, 404),
            ("/v2/models/person-lite0/infer", b"{", {}, 400),
        ]

    async def run(self, kind: str, work: Callable[[], Awaitable[str]]) -> None:
        """Do one thing, and keep its outcome and its time."""
        began = time.perf_counter()
        try:
            outcome = await work()
        except Failure as exc:
            outcome = "failed"
            self.failures.append(f"{kind}: {exc}")
        except (OSError, EOFError, TimeoutError, ValueError, KeyError) as exc:
            outcome = "lost"
            self.failures.append(f"{kind}: no answer, {type(exc).__name__}: {exc}")
        self.outcomes[f"{kind}: {outcome}"] += 1
        self.seconds[kind].append(time.perf_counter() - began)

    async def ask(self, path: str, body: bytes, headers: Mapping[str, str], manner: Manner = PLAIN) -> Reply:
        """Send a POST with an id of its own, which must come back; 5xx is a failure."""
        self._ids += 1
        own = f"soak-{self._ids}"
        reply = await send(self.port, "POST", path, body, {**headers, "X-Request-ID": own}, manner)
        if reply.status and reply.headers.get("x-request-id") != own:
            raise Failure(f"the answer to {own} has the id {reply.headers.get('x-request-id')}")
        return reply

    async def good(self, manner: Manner = PLAIN) -> str:
        """Ask about a picture; the answer must be the one of this picture."""
        picture = self._random.choice(self.pictures)
        was_bursting = self.bursting
        reply = await self.ask("/v1/detect", picture.body, JPEG, manner)
        if reply.status == 429 and (was_bursting or self.bursting):
            return self._turned_away(reply)
        return self._check(picture, reply)

    def _check(self, picture: Picture, reply: Reply) -> str:
        if reply.status != 200:
            raise Failure(f"a good picture got {reply.status}: {reply.body[:300]!r}")
        if reply.json()["detections"] != picture.detections:
            raise Failure("a picture got another one's answer")
        return "right"

    def _turned_away(self, reply: Reply) -> str:
        if not reply.headers.get("retry-after", "").isdigit():
            raise Failure("429 came without Retry-After")
        return "429"

    async def slow(self) -> str:
        """Send a picture over half a second."""
        return await self.good(Manner(slow_s=0.5, chunked=self._random.random() < 0.5))

    async def bad(self) -> str:
        """Send something that cannot be answered."""
        path, body, headers, status = self._random.choice(self._bad)
        was_bursting = self.bursting
        reply = await self.ask(path, body, headers)
        if reply.status == 429 and (was_bursting or self.bursting):
            return self._turned_away(reply)
        if reply.status != status:
            raise Failure(f"{path} got {reply.status} in place of {status}: {reply.body[:300]!r}")
        return str(status)

    async def aborted(self) -> str:
        """Go away in the middle of the body, or before the answer."""
        picture = self._random.choice(self.pictures)
        await self.ask("/v1/detect", picture.body, JPEG, Manner(stop_at=self._random.choice((0.3, 0.9, 2.0))))
        return "left"

    async def oversize(self) -> str:
        """Send more than allowed, announced or not."""
        chunked = self._random.random() < 0.5
        reply = await self.ask("/v1/detect", bytes(self.max_body + 1000), JPEG, Manner(chunked=chunked))
        if reply.status == 429 and self.bursting:
            return self._turned_away(reply)
        if reply.status != 413:
            raise Failure(f"a body over the limit got {reply.status}")
        return "413"

    async def deadline(self) -> str:
        """Want an answer sooner than there can be one."""
        reply = await self.ask("/v1/detect?timeout_ms=1", self.pictures[0].body, JPEG)
        if reply.status not in (504, 429):
            raise Failure(f"an answer wanted within 1 ms got {reply.status}: {reply.body[:300]!r}")
        return str(reply.status)

    async def session(self) -> str:
        """Track over some pictures; each answer must be of its frame, and the same frame again gets the same answer."""
        reply = await self.ask("/v1/sessions", b'{"appearance": false}', {"Content-Type": "application/json"})
        if reply.status != 201:
            raise Failure(f"a session got {reply.status}: {reply.body[:300]!r}")
        place = f"/v1/sessions/{reply.json()['id']}"
        for number in range(SESSION_FRAMES):
            picture = self._random.choice(self.pictures)
            answers = [await self._frame(place, number, picture) for _ in range(1 + (number == 2))]
            if answers[0] != answers[-1]:
                raise Failure("a frame sent again got another answer")
        reply = await send(self.port, "DELETE", place)
        if reply.status != 204:
            raise Failure(f"the end of a session got {reply.status}")
        return "right"

    async def _frame(self, place: str, number: int, picture: Picture) -> bytes:
        for _ in range(50):
            reply = await self.ask(f"{place}/frames?sequence={number}", picture.body, JPEG)
            if reply.status != 429:
                break
            self._turned_away(reply)
            await asyncio.sleep(0.2)
        if reply.status != 200:
            raise Failure(f"a frame got {reply.status}: {reply.body[:300]!r}")
        answer = reply.json()
        found = (answer["sequence"], answer["image"]["width"], answer["image"]["height"])
        if found != (number, picture.width, picture.height):
            raise Failure(f"frame {number} of {picture.width} x {picture.height} got the answer of {found}")
        return reply.body

    async def job(self) -> str:
        """Have a video tracked, look at its results, and delete it."""
        reply = await self.ask("/v1/jobs?appearance=false", self.video, {"Content-Type": "video/mp4"})
        if reply.status != 202:
            raise Failure(f"a video got {reply.status}: {reply.body[:300]!r}")
        place = f"/v1/jobs/{reply.json()['id']}"
        end = time.monotonic() + JOB_S
        while (status := (await send(self.port, "GET", place)).json())["state"] in ("queued", "running"):
            if time.monotonic() > end:
                raise Failure(f"a job of {JOB_FRAMES} frames took more than {JOB_S:g} s: {status}")
            await asyncio.sleep(0.5)
        lines = (await send(self.port, "GET", f"{place}/results/results.jsonl")).body.splitlines()
        deleted = await send(self.port, "DELETE", place)
        if status["state"] != "succeeded" or len(lines) != JOB_FRAMES + 1 or deleted.status != 204:
            raise Failure(f"a job ended with {len(lines)} lines, {deleted.status}, {status}")
        return "right"

    async def reload(self) -> str:
        """Load the model again while it works."""
        reply = await self.ask("/v1/models/person-lite0/load", b"", {})
        if reply.status != 200:
            raise Failure(f"loading a model again got {reply.status}: {reply.body[:300]!r}")
        return "200"

    async def burst(self) -> str:
        """Send several times what the queue holds; then the next picture must be answered as ever."""
        self.bursting += 1
        try:
            await asyncio.gather(*(self.run("in a burst", self.good) for _ in range(4 * self.queue_items)))
        finally:
            self.bursting -= 1
        picture = self._random.choice(self.pictures)
        began = time.perf_counter()
        outcome = self._check(picture, await self.ask("/v1/detect", picture.body, JPEG))
        self.seconds["after a burst"].append(time.perf_counter() - began)
        return outcome
