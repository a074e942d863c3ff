"""Follow the objects of a video on a running service: frames go through the WebSocket of a tracking session.

    stride32 serve &
    python examples/stream_client.py walkers.mp4

Sends as many frames ahead as the service gives credit for, so that the way there, decoding and inference overlap, and
prints one line a frame. A connection that breaks is opened again: frames that were sent and not answered are sent
again, and the service knows which of them it has seen. The package ``websockets`` comes with ``stride32[service]``.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import sys
import urllib.error
import urllib.request
from collections import deque
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from typing import Any

import cv2
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidHandshake, InvalidStatus

from vision.io.sources import open_source

# The server's own words for why it closed; after these there is nothing to come back to.
FINAL = {1008, 1009, 4401, 4404, 4409}
ATTEMPTS = 5
JPEG_QUALITY = 92


@dataclass(frozen=True)
class Picture:
    """One frame as it is sent."""

    sequence: int
    timestamp_s: float | None
    data: bytes


class Service:
    """A running service.

    Args:
        url: for example http://127.0.0.1:8000.
        key: API key, or an empty string where none is needed.
    """

    def __init__(self, url: str, key: str) -> None:
        self.url = url.rstrip("/")
        self.headers = {"X-API-Key": key} if key else {}

    def call(self, method: str, path: str, body: Any = None) -> Any:
        """Return the JSON answer; raises SystemExit with the service's own message."""
        data = None if body is None else json.dumps(body).encode()
        headers = {**self.headers, "Content-Type": "application/json"}
        request = urllib.request.Request(self.url + path, data, headers, method=method)
        try:
            with urllib.request.urlopen(request, timeout=30) as response:
                content = response.read()
        except urllib.error.HTTPError as exc:
            raise SystemExit(f"{exc.code}: {json.load(exc)['error']['message']}") from None
        except urllib.error.URLError as exc:
            raise SystemExit(f"{self.url} does not answer ({exc.reason}); start it with: stride32 serve") from None
        return json.loads(content) if content else None

    def delete(self, session: str) -> None:
        """End a session, which may be gone already; a failure is told and hides nothing that went wrong before it."""
        try:
            self.call("DELETE", f"/v1/sessions/{session}")
        except SystemExit as exc:
            if not str(exc).startswith("404"):
                print(f"the session was not deleted, it will expire: {exc}", file=sys.stderr)

    def stream(self, session: str) -> connect:
        """Return a connection to a session's WebSocket."""
        address = "ws" + self.url.removeprefix("http") + f"/v1/sessions/{session}/stream"
        return connect(address, additional_headers=self.headers, max_size=None)


def read_pictures(video: str, limit: int | None) -> Iterator[Picture]:
    """Yield the frames of a video, encoded."""
    with open_source(video) as source:
        for frame in source:
            if limit is not None and frame.index >= limit:
                return
            ok, data = cv2.imencode(".jpg", frame.image[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY])
            assert ok
            yield Picture(frame.index, frame.timestamp_s, data.tobytes())


class Sender:
    """Sends pictures with credit, and keeps those that were not answered."""

    def __init__(self, pictures: Iterator[Picture]) -> None:
        self._pictures = pictures
        self.unanswered: deque[Picture] = deque()

    async def answers(self, socket: ClientConnection) -> AsyncIterator[dict[str, Any]]:
        """Yield the answers of one connection until all pictures are answered; raises ConnectionClosed."""
        ready = json.loads(await socket.recv())
        credit = ready["credit"]
        # Answered while we were away: the last of them can be asked for again, those before it are lost to us.
        while self.unanswered and self.unanswered[0].sequence < ready["next_sequence"] - 1:
            self.unanswered.popleft()
        sent = 0  # of the unanswered, through this connection
        while True:
            while credit and (picture := await self._picture(sent)) is not None:
                await self._send(socket, picture)
                sent, credit = sent + 1, credit - 1
            if not self.unanswered:
                return
            answer = json.loads(await socket.recv())
            self.unanswered.popleft()
            sent, credit = sent - 1, credit + answer["credit"]
            yield answer

    async def _picture(self, place: int) -> Picture | None:
        """Return the picture at a place among the unanswered, reading one more where there is none; None at the end."""
        if place == len(self.unanswered):
            picture = await asyncio.to_thread(next, self._pictures, None)
            if picture is None:
                return None
            self.unanswered.append(picture)
        return self.unanswered[place]

    @staticmethod
    async def _send(socket: ClientConnection, picture: Picture) -> None:
        header: dict[str, Any] = {"type": "frame", "sequence": picture.sequence}
        if picture.timestamp_s is not None:
            header["timestamp_s"] = picture.timestamp_s
        await socket.send(json.dumps(header))
        await socket.send(picture.data)


async def follow(service: Service, session: str, pictures: Iterator[Picture]) -> int:
    """Print the tracks of each picture; return how many were answered with tracks."""
    sender = Sender(pictures)
    count = 0
    attempt = 0
    while attempt < ATTEMPTS:
        try:
            async with service.stream(session) as socket:
                async for answer in sender.answers(socket):
                    attempt = 0
                    count += answer["type"] == "result"
                    print(describe(answer), flush=True)
            return count
        except ConnectionClosed as exc:
            if exc.rcvd is not None and exc.rcvd.code in FINAL:
                raise SystemExit(f"the service closed the connection ({exc.rcvd.code}): {exc.rcvd.reason}") from None
        except InvalidStatus as exc:
            status = exc.response.status_code
            if status < 500 and status != 429:
                raise SystemExit(f"{service.url} refused the connection ({status}); look at its log") from None
            print(f"no connection: {exc}", file=sys.stderr)
        except (InvalidHandshake, OSError) as exc:
            print(f"no connection: {exc}", file=sys.stderr)
        await asyncio.sleep(2**attempt / 4)
        attempt += 1
    raise SystemExit(f"gave up after {ATTEMPTS} connections without an answer")


def describe(answer: dict[str, Any]) -> str:
    """Return one line for an answer."""
    if answer["type"] == "error":
        return f"frame {answer['sequence']}: {answer['error']['code']}: {answer['error']['message']}"
    tracks = [
        f"#{track['id']} {track['class_name']} at {', '.join(f'{value:.0f}' for value in track['box'])}"
        for track in answer["tracks"]
    ]
    return f"frame {answer['sequence']}: {'; '.join(tracks) or 'nobody'}"


def main(arguments: list[str] | None = None) -> int:
    """Follow the video of the command line; return how many frames had an answer."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("video", help="a video, or a folder of pictures")
    parser.add_argument("--url", default="http://127.0.0.1:8000", help="address of the service")
    parser.add_argument("--key", default=os.environ.get("SERVICE_KEY", ""), help="API key; else of SERVICE_KEY")
    parser.add_argument("--tracker", default="deepsort", help="tracker preset")
    parser.add_argument("--max-frames", type=int, help="stop after so many frames")
    options = parser.parse_args(arguments)
    service = Service(options.url, options.key)
    session = service.call("POST", "/v1/sessions", {"tracker": options.tracker})["id"]
    try:
        return asyncio.run(follow(service, session, read_pictures(options.video, options.max_frames)))
    finally:
        service.delete(session)


if __name__ == "__main__":
    main()
