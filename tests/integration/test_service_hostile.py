"""Hostile and odd inputs against one real server: each gets its status, none leaks, and the server goes on unharmed.

Expected is the status of the answer (200 where the input is odd and legal), or the code that closes a WebSocket. After
every case a good picture must get the same answer as before all of them; at the end memory must be bounded.
"""

from __future__ import annotations

import contextlib
import gzip
import http.client
import io
import json
import os
import re
import socket
import struct
import subprocess
import sys
import time
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

ROOT = Path(__file__).resolve().parents[2]
MAX_PIXELS = 4_000_000
MAX_BODY = 1 << 20
HEADER_S = BODY_S = 0.7
# What may be resident at a time beyond the idle server: a few decoded pictures at the limit and their resized copies.
MEMORY_BYTES = 160 << 20
LEAKS = re.compile(rb"Traceback|File \"|site-packages|/root|/home|/usr/|/tmp/|" + re.escape(str(ROOT).encode()))


# -- pictures


def scene(width: int = 96, height: int = 64) -> Image.Image:
    """Return a picture with edges, the same in every run."""
    pixels = np.random.default_rng(7).integers(0, 256, (8, 12, 3), np.uint8)
    return Image.fromarray(pixels).resize((width, height), Image.Resampling.BICUBIC)


def encode(image: Image.Image, kind: str = "PNG", **options: Any) -> bytes:
    output = io.BytesIO()
    image.save(output, kind, **options)
    return output.getvalue()


JPEG = encode(scene(), "JPEG")
PNG = encode(scene())
WEBP = encode(scene(), "WEBP", lossless=True)
GIF = encode(scene(), "GIF")


def chunk(kind: bytes, data: bytes) -> bytes:
    """Return a PNG chunk."""
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png(width: int, height: int, body: bytes = b"", extra: bytes = b"") -> bytes:
    """Return a grey PNG that claims a size."""
    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + extra
        + chunk(b"IDAT", zlib.compress(body))
        + chunk(b"IEND", b"")
    )


def tiff(width: int, height: int) -> bytes:
    """Return a little TIFF that claims a size."""
    tags = [(256, width), (257, height), (258, 8), (259, 1), (262, 1), (273, 8), (277, 1), (278, height), (279, 16)]
    fields = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in tags)
    return b"II*\0" + struct.pack("<IH", 8, len(tags)) + fields + b"\0" * 20


def large_webp() -> bytes:
    """Return a lossless WebP whose header says 16384 x 16384."""
    place = WEBP.index(b"VP8L") + 9  # behind the chunk's size and the signature byte: 14 bits each, minus one
    bits = int.from_bytes(WEBP[place : place + 4], "little") >> 28 << 28 | 0x3FFF << 14 | 0x3FFF
    return WEBP[:place] + bits.to_bytes(4, "little") + WEBP[place + 4 :]


def large_jpeg() -> bytes:
    """Return a JPEG whose header says 65500 x 65500."""
    place = JPEG.index(b"\xff\xc0") + 5
    return JPEG[:place] + struct.pack(">HH", 65500, 65500) + JPEG[place + 4 :]


def rotated() -> bytes:
    exif = Image.Exif()
    exif[274] = 6
    return encode(scene(), "JPEG", exif=exif.tobytes())


def frames(kind: str) -> bytes:
    """Return an animation."""
    others = [scene().transpose(Image.Transpose.FLIP_LEFT_RIGHT)] * 3
    return encode(scene(), kind, save_all=True, append_images=others)


# -- requests


def post(path: str, body: bytes, *headers: str) -> bytes:
    lines = [f"POST {path} HTTP/1.1", "Host: test", "Connection: close", f"Content-Length: {len(body)}", *headers]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


def picture(body: bytes, kind: str = "image/jpeg") -> bytes:
    return post("/v1/detect", body, f"Content-Type: {kind}")


def get(path: str, method: str = "GET") -> bytes:
    return f"{method} {path} HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n".encode()


def query(text: str) -> bytes:
    return post(f"/v1/detect?{text}", JPEG)


def part(name: str, body: bytes, *, filename: str = "a.jpg", more: str = "") -> bytes:
    head = f'--xx\r\nContent-Disposition: form-data; name="{name}"; filename="{filename}"\r\n{more}\r\n'
    return head.encode("latin-1") + body + b"\r\n"


def form(*parts: bytes, end: bytes = b"--xx--\r\n", boundary: str = "xx") -> bytes:
    return post("/v1/detect", b"".join(parts) + end, f"Content-Type: multipart/form-data; boundary={boundary}")


def infer(header: Any, binary: bytes = b"", *, length: object = None) -> bytes:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    stated = len(text) if length is None else length
    return post("/v2/models/person-lite0/infer", text + binary, f"Inference-Header-Content-Length: {stated}")


def tensor(binary: bytes, **fields: Any) -> bytes:
    """Return an inference request with one image input whose bytes follow."""
    spec = {"name": "IMAGE", "datatype": "BYTES", "shape": [1], "parameters": {"binary_data_size": len(binary)}}
    return infer({"inputs": [{**spec, **fields}]}, binary)


def chunked(body: bytes) -> bytes:
    return b"POST /v1/detect HTTP/1.1\r\nHost: test\r\nConnection: close\r\nTransfer-Encoding: chunked\r\n\r\n" + body


HEAD = b"POST /v1/detect HTTP/1.1\r\nHost: test\r\n"

PICTURES: dict[str, tuple[bytes, int]] = {
    "PNG that claims 3.6 gigapixels": (picture(png(60_000, 60_000)), 413),
    "PNG of one row of 50 million": (picture(png(50_000_000, 1, bytes(50_000_001))), 413),
    "PNG of one column of 50 million": (picture(png(1, 50_000_000)), 413),
    "PNG as long as sides may be": (picture(png(65_535, 1, bytes(65_536))), 200),
    "PNG of negative width": (picture(png(0x80000001, 10)), 413),
    "GIF that claims 4 gigapixels": (picture(GIF[:6] + b"\xff\xff\xff\xff" + GIF[10:]), 413),
    "WebP that claims 268 megapixels": (picture(large_webp()), 413),
    "TIFF that claims 3.6 gigapixels": (picture(tiff(60_000, 60_000)), 413),
    "JPEG that claims 4 gigapixels": (picture(large_jpeg()), 413),
    "BMP that claims 3.6 gigapixels": (
        picture(b"BM" + struct.pack("<IIIIiiHHIIIIII", 99, 0, 54, 40, 60_000, 60_000, 1, 24, 0, 0, 0, 0, 0, 0)), 413,
    ),
    "PNG just over the limit": (picture(encode(Image.new("L", (2001, 2000)))), 413),
    "PNG of 5 KB that is 4 megapixels": (picture(encode(Image.new("L", (2000, 2000)))), 200),
    "PNG with a text of 30 MB in 30 KB": (
        picture(png(9, 9, bytes(90), chunk(b"zTXt", b"k\0\0" + zlib.compress(bytes(30 << 20))))), 422,
    ),
    "PNG with a colour profile of 30 MB": (
        picture(png(9, 9, bytes(90), chunk(b"iCCP", b"k\0\0" + zlib.compress(bytes(30 << 20))))), 422,
    ),
    "PNG with more pixels than it says": (picture(png(9, 9, bytes(20 << 20))), 200),
    "PNG with fewer pixels than it says": (picture(png(900, 900, bytes(90))), 422),
    "PNG with a wrong checksum": (picture(PNG[:20] + b"\x01" + PNG[21:]), 422),
    "PNG of no width": (picture(png(0, 9)), 422),
    "truncated JPEG": (picture(JPEG[: len(JPEG) // 2]), 422),
    "truncated PNG": (picture(PNG[: len(PNG) // 2]), 422),
    "truncated WebP": (picture(WEBP[: len(WEBP) // 2]), 422),
    "truncated GIF": (picture(GIF[: len(GIF) // 2]), 422),
    "JPEG of noise": (picture(b"\xff\xd8\xff\xe0" + bytes(range(256)) * 8), 422),
    "TIFF whose directory is itself": (picture(b"II*\0" + struct.pack("<I", 8) + b"\xff\xff" + b"\x08\0" * 99), 422),
    "JPEG that is a ZIP too": (picture(JPEG + b"PK\x05\x06" + bytes(18)), 200),
    "GIF that is a script too": (picture(GIF + b"/*<script>alert(1)</script>*/"), 200),
    "HTML that calls itself JPEG": (picture(b"<html><script>alert(1)</script></html>"), 422),
    "HTML": (picture(b"<html></html>", "text/html"), 415),
    "SVG": (picture(b'<svg xmlns="http://www.w3.org/2000/svg"><!ENTITY a "b"></svg>', "image/svg+xml"), 422),
    "PDF": (picture(b"%PDF-1.7\n", "application/pdf"), 415),
    "nothing": (picture(b""), 422),
    "one byte": (picture(b"\xff"), 422),
    "JPEG in gzip": (post("/v1/detect", gzip.compress(JPEG), "Content-Encoding: gzip"), 422),
    "1 x 3000": (picture(encode(Image.new("RGB", (1, 3000)))), 200),
    "3000 x 1": (picture(encode(Image.new("RGB", (3000, 1)))), 200),
    "1 x 1": (picture(encode(Image.new("RGB", (1, 1)))), 200),
    "animated GIF": (picture(frames("GIF")), 200),
    "animated WebP": (picture(frames("WEBP")), 200),
    "animated PNG": (picture(frames("PNG")), 200),
    "TIFF of many pages": (picture(frames("TIFF")), 200),
    "CMYK JPEG": (picture(encode(scene().convert("CMYK"), "JPEG")), 200),
    "progressive JPEG": (picture(encode(scene(), "JPEG", progressive=True)), 200),
    "16-bit PNG": (picture(encode(Image.fromarray(np.full((40, 50), 40_000, np.uint16)))), 200),
    "grey and alpha": (picture(encode(scene().convert("LA"))), 200),
    "palette": (picture(encode(scene().quantize(8))), 200),
    "one bit": (picture(encode(scene().convert("1"))), 200),
    "JPEG with broken EXIF": (picture(encode(scene(), "JPEG", exif=b"Exif\0\0II*\0\xff\xff\xff\xff")), 200),
    "JPEG with a broken profile": (picture(encode(scene(), "JPEG", icc_profile=b"x" * 999)), 200),
}  # fmt: skip

FORMS: dict[str, tuple[bytes, int]] = {
    "a good form": (form(part("image", JPEG)), 200),
    "file name with a path": (form(part("image", JPEG, filename="../../etc/passwd")), 200),
    "absolute file name with NUL": (form(part("image", JPEG, filename="/etc/passwd\0.jpg")), 200),
    "field name with a path": (form(part("../../etc/passwd", JPEG)), 400),
    "absolute field name": (form(part("/etc/passwd", JPEG)), 400),
    "field name with NUL": (form(part("image\0", JPEG)), 400),
    "1000 parts": (form(*[part(f"p{i}", b"x") for i in range(1000)]), 400),
    "1000 parts behind a good one": (form(part("image", JPEG), *[part(f"p{i}", b"x") for i in range(1000)]), 400),
    "1000 pictures": (form(*[part("image", b"x")] * 1000), 400),
    "no end": (form(part("image", JPEG), end=b""), 400),
    "no parts": (form(), 400),
    "headers of 200 KB": (form(part("image", JPEG, more=f"X: {'a' * 200_000}\r\n")), 400),
    "20000 headers": (form(part("image", JPEG, more="X: 1\r\n" * 20_000)), 400),
    "form in a form": (
        form(part("image", form(part("image", JPEG)), more="Content-Type: multipart/mixed; boundary=xx\r\n")), 400,
    ),
    "no boundary": (post("/v1/detect", part("image", JPEG), "Content-Type: multipart/form-data"), 400),
    "boundary of 5 KB": (form(part("image", JPEG), boundary="x" * 5000), 400),
    "wrong boundary": (form(part("image", JPEG), boundary="yy"), 400),
    "picture of a form is no picture": (form(part("image", b"hello")), 422),
}  # fmt: skip

PARAMETERS: dict[str, tuple[bytes, int]] = {
    **{
        f"?{text}": (query(text), 422)
        for text in (
            "conf=NaN", "conf=inf", "conf=-inf", "conf=-1", "conf=1e400", "conf=0x1", "conf=", "iou=nan", "max_det=-5",
            "max_det=99999999999999999999999999", "max_det=1.5", "size=-1", "size=1000000000", "timeout_ms=0",
            "timeout_ms=nan", "unknown=1", "conf=0.5&conf=0.6", "class_agnostic=maybe", "classes=" + "a," * 2100,
            "a=1&" * 200, "conf=%FF", "__class__=1",
        )
    },
    **{
        f"?model={name}": (query(f"model={name}"), status)
        for name, status in (
            ("../../etc/passwd", 422), ("%2Fetc%2Fpasswd", 422), ("..%2F..%2Fmodels%2Fperson-lite0", 422),
            ("person-lite0%00", 422), ("nobody", 404), ("a" * 3000, 422), ("%F0%9F%92%A5", 422), ("con", 404),
        )
    },
    "boxes that are no numbers": (post("/v1/embed?boxes=1,2,nan,4", JPEG), 404),
    "accept nonsense": (post("/v1/detect", JPEG, "Accept: text/nonsense"), 406),
    "accept of 4 KB": (post("/v1/detect", JPEG, "Accept: " + "a/b;q=x," * 500), 406),
    "session with NaN": (post("/v1/sessions", b'{"ttl_s": NaN}', "Content-Type: application/json"), 422),
    "session with a path for a model": (
        post("/v1/sessions", b'{"model": "../../etc/passwd"}', "Content-Type: application/json"), 422,
    ),
    "session with a setting that is a path": (
        post("/v1/sessions", b'{"settings": {"detection.weights": "/etc/passwd"}}', "Content-Type: application/json"),
        422,
    ),
    "session of 50000 brackets": (post("/v1/sessions", b"[" * 50_000, "Content-Type: application/json"), 400),
    "session that is a list": (post("/v1/sessions", b"[]", "Content-Type: application/json"), 422),
    "snapshot of noise": (post("/v1/sessions/restore", bytes(range(256)) * 9), 422),
    "snapshot that is a pickle": (post("/v1/sessions/restore", b"\x80\x04\x95cposix\nsystem\n(S'id'\ntR."), 422),
    "no such session": (post("/v1/sessions/..%2F..%2Fetc/frames", JPEG), 404),
    "job of noise": (post("/v1/jobs?name=../../x.mp4", b"\x00" * 3000), 422),
    "job that is a playlist": (post("/v1/jobs", b"#EXTM3U\n#EXTINF:1,\nfile:///etc/passwd\n"), 422),
    "job that names another file": (post("/v1/jobs", b"ffconcat version 1.0\nfile /etc/passwd\n"), 422),
    "no such job": (get("/v1/jobs/..%2F..%2Fetc%2Fpasswd"), 404),
    "no such result": (get("/v1/jobs/x/results/..%2F..%2Fetc%2Fpasswd"), 404),
    "static file above the page": (get("/web/..%2F..%2Fpyproject.toml"), 404),
    "static file above the page, plainly": (get("/web/../../pyproject.toml"), 404),
    "two slashes": (get("//etc/passwd"), 404),
    "load a model by path": (post("/v1/models/..%2F..%2Fetc/load", b""), 404),
}  # fmt: skip

TENSORS: dict[str, tuple[bytes, int]] = {
    "header length that is negative": (infer({"inputs": []}, length=-1), 400),
    "header length that is no number": (infer({"inputs": []}, length="abc"), 400),
    "header length beyond the body": (infer({"inputs": []}, length=10_000), 400),
    "header length of 30 digits": (infer({"inputs": []}, length=10**30), 400),
    "header length of nothing": (infer({"inputs": []}, length=0), 400),
    "header that is no JSON": (infer(b"{"), 400),
    "header of brackets": (infer(b"[" * 50_000), 400),
    "header that is a list": (infer(b"[]"), 400),
    "no inputs": (infer({"inputs": []}), 400),
    "unknown input": (tensor(b"", name="../../etc/passwd"), 400),
    "binary size beyond the body": (tensor(b"abc", parameters={"binary_data_size": 1 << 40}), 400),
    "negative binary size": (tensor(b"abc", parameters={"binary_data_size": -3}), 400),
    "binary rest that nobody claims": (tensor(b"abc", parameters={"binary_data_size": 1}), 400),
    "shape that overflows": (tensor(b"abc", shape=[1 << 62, 1 << 62]), 400),
    "negative shape": (tensor(b"abc", shape=[-1]), 400),
    "shape of 5000 axes": (tensor(b"abc", shape=[1] * 5000), 400),
    "unknown datatype": (tensor(b"abc", datatype="OBJECT"), 400),
    "element longer than the tensor": (tensor(struct.pack("<I", 0xFFFFFFFF) + b"abc"), 400),
    "element without a length": (tensor(b"ab"), 400),
    "pixels that are missing": (tensor(bytes(9), datatype="UINT8", shape=[1, 2000, 2000, 3]), 400),
    "picture that is none": (tensor(struct.pack("<I", 3) + b"abc"), 400),
    "unknown model": (post("/v2/models/..%2Fetc/infer", b"{}"), 404),
}

WIRE: dict[str, tuple[bytes, int]] = {
    "chunks beyond the limit": (chunked((b"10000\r\n" + bytes(65536) + b"\r\n") * 20 + b"0\r\n\r\n"), 413),
    "chunks without end": (chunked((b"10000\r\n" + bytes(65536) + b"\r\n") * 400), 413),
    "length beyond the limit": (picture(bytes(MAX_BODY + 1)), 413),
    "length far beyond the limit": (HEAD + b"Content-Length: 999999999999\r\n\r\nabc", 413),
    "length longer than the body": (HEAD + b"Content-Length: 5000\r\n\r\n" + JPEG[:100], 408),
    "length shorter than the body": (HEAD + b"Content-Length: 100\r\n\r\n" + JPEG, 422),
    "negative length": (HEAD + b"Content-Length: -1\r\n\r\n", 400),
    "two lengths": (HEAD + b"Content-Length: 3\r\nContent-Length: 5\r\n\r\nabcde", 400),
    "length and chunks": (HEAD + b"Content-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400),
    "chunk that is none": (chunked(b"zz\r\nabc"), 400),
    "chunks that stop": (chunked(b"3\r\nabc\r\n"), 408),
    "head that stops": (b"POST /v1/detect HTTP/1.1\r\nHos", 408),
    "header flood": (HEAD + b"X: 1\r\n" * 20_000, 431),
    "header without end": (HEAD + b"X: " + b"a" * 200_000, 431),
    "101 headers": (HEAD + b"X: 1\r\n" * 100 + b"\r\n", 431),
    "long address": (get("/" + "a" * 10_000), 414),
    "long query": (query("classes=" + "a" * 10_000), 414),
    "not HTTP": (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", 400),
    "not quite HTTP": (b"GET / HTTP/3.7\r\n\r\n", 400),
    "no host": (b"GET / HTTP/1.1\r\n\r\n", 400),
    "unknown method": (get("/v1/detect", "BREW"), 400),
    "HEAD": (get("/v1/detect", "HEAD"), 405),
    "OPTIONS": (get("/v1/detect", "OPTIONS"), 405),
    "TRACE": (get("/v1/detect", "TRACE"), 405),
    "GET": (get("/v1/detect"), 405),
    "DELETE": (get("/v1/models", "DELETE"), 405),
    "CONNECT": (get("example.org:443", "CONNECT"), 400),
    "unknown path": (get("/admin"), 404),
    "path with NUL": (get("/v1/detect%00"), 404),
    "two requests at once": (get("/healthz").replace(b"close", b"keep-alive") + picture(JPEG), 200),
    "a WebSocket to a picture route": (
        b"GET /v1/detect HTTP/1.1\r\nHost: test\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
        b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n", 403,
    ),
    "a WebSocket of an old version": (
        b"GET /v1/sessions/x/stream HTTP/1.1\r\nHost: test\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
        b"Sec-WebSocket-Version: 7\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n", 400,
    ),
    "an upgrade to something else": (
        get("/healthz").replace(b"Connection: close", b"Connection: Upgrade\r\nUpgrade: h2c"), 200,
    ),
}  # fmt: skip

CASES = {
    f"{group}: {name}": case
    for group, table in (
        ("picture", PICTURES), ("form", FORMS), ("parameter", PARAMETERS), ("tensor", TENSORS), ("wire", WIRE),
    )
    for name, case in table.items()
}  # fmt: skip


def frame(payload: bytes, opcode: int = 2, *, fin: bool = True, masked: bool = True, reserved: int = 0) -> bytes:
    """Return a WebSocket frame as a client sends it; the mask is zero."""
    head = bytes([(0x80 if fin else 0) | reserved | opcode])
    length = len(payload)
    mask_bit = 0x80 if masked else 0
    size = bytes([mask_bit | length]) if length < 126 else bytes([mask_bit | 127]) + struct.pack("!Q", length)
    return head + size + (bytes(4) if masked else b"") + payload


SOCKETS: dict[str, tuple[bytes, int]] = {
    "unmasked": (frame(JPEG, masked=False), 1002),
    "reserved bits": (frame(JPEG, reserved=0x70), 1002),
    "reserved opcode": (frame(b"", opcode=0xB), 1002),
    "continuation without a start": (frame(JPEG, opcode=0), 1002),
    "oversize": (frame(bytes(MAX_BODY + 1))[:5000], 1009),
    "oversize in pieces": (frame(bytes(1 << 19), fin=False) + frame(bytes(1 << 20), opcode=0, fin=False), 1009),
    "text that is not UTF-8": (frame(b"\xff\xff", opcode=1), 1007),
    "a message that stops": (frame(JPEG)[:100], 1008),
    "more pictures than credit": (frame(JPEG) * 50, 1008),
}


# -- the server


@dataclass
class Server:
    """A running server and what a good picture's answer is."""

    process: subprocess.Popen[str]
    port: int
    reference: Any = None

    def talk(self, data: bytes, timeout: float = 5.0) -> bytes:
        """Send bytes and return everything until the server closes."""
        answer = b""
        with socket.create_connection(("127.0.0.1", self.port), timeout) as client:
            with contextlib.suppress(ConnectionError):
                client.sendall(data)
            with contextlib.suppress(ConnectionError):
                while received := client.recv(65536):
                    answer += received
        return answer

    def detect(self) -> Any:
        """Return the answer to the good picture without its times."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=10)
        connection.request("POST", "/v1/detect?conf=0.01&size=128", body=JPEG)
        response = connection.getresponse()
        answer = json.loads(response.read())
        connection.close()
        assert response.status == 200, answer
        del answer["timings_ms"]
        return answer

    def memory(self, field: str) -> int:
        """Return a field of the process's status in bytes: VmRSS now, VmHWM the highest."""
        text = Path(f"/proc/{self.process.pid}/status").read_text()
        return int(re.findall(rf"{field}:\s+(\d+) kB", text)[0]) * 1024

    def open_files(self) -> int:
        return len(os.listdir(f"/proc/{self.process.pid}/fd"))  # noqa: PTH208 (a Path would open another)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """Run the service with its default detector and small limits."""
    if not Path("/proc/self/status").exists():
        pytest.skip("needs /proc to look at the memory of the server")
    folder = tmp_path_factory.mktemp("service")
    settings = {
        "PORT": 0, "SEGMENTER": "none", "CLASSIFIER": "none", "EMBEDDER": "none", "DATA_DIR": folder / "data",
        "MAX_PIXELS": MAX_PIXELS, "MAX_BODY_BYTES": MAX_BODY, "HEADER_TIMEOUT_S": HEADER_S, "BODY_TIMEOUT_S": BODY_S,
        "LOG_FORMAT": "text", "THREADS": 1, "DEVICE": "cpu",
    }  # fmt: skip
    variables = {f"STRIDE32_{name}": str(value) for name, value in settings.items()}
    log = (folder / "log").open("w+")
    process = subprocess.Popen(
        [sys.executable, "-m", "service"],
        cwd=folder,
        env={**os.environ, **variables, "PYTHONPATH": str(ROOT)},
        stdout=log,
        stderr=log,
        text=True,
    )
    try:
        running = Server(process, wait_for_port(process, folder / "log"))
        wait_until_ready(running)
        running.reference = running.detect()
        assert running.reference["detections"]
        yield running
        process.terminate()
        assert process.wait(20) == 0
        tracebacks = re.findall(r"(?s).{300}Traceback.{2000}", (folder / "log").read_text())
        assert not tracebacks, tracebacks[0]
    finally:
        if process.poll() is None:
            process.kill()
            process.wait()
        log.close()


def wait_for_port(process: subprocess.Popen[str], log: Path) -> int:
    """Return the port that the server says it listens on."""
    for _ in range(2400):
        if found := re.search(r"listens on http://127\.0\.0\.1:(\d+)", log.read_text()):
            return int(found[1])
        assert process.poll() is None, log.read_text()
        time.sleep(0.05)
    raise AssertionError(log.read_text())


def wait_until_ready(server: Server) -> None:
    for _ in range(2400):
        if server.talk(get("/readyz")).startswith(b"HTTP/1.1 200"):
            return
        time.sleep(0.05)
    raise AssertionError("the server does not become ready")


@pytest.fixture(scope="module", autouse=True)
def memory_is_bounded(server: Server) -> Iterator[None]:
    """Look at memory and open files before and after all cases."""
    Path(f"/proc/{server.process.pid}/clear_refs").write_text("5")  # sets the highest memory to the present one
    before, files = server.memory("VmRSS"), server.open_files()
    yield
    peak = server.memory("VmHWM")
    assert peak - before < MEMORY_BYTES, f"{(peak - before) >> 20} MiB more at some time"
    end = time.monotonic() + 5
    while server.open_files() > files + 3 and time.monotonic() < end:
        time.sleep(0.1)
    assert server.open_files() <= files + 3


@pytest.mark.parametrize("name", CASES)
def test_hostile(server: Server, name: str) -> None:
    data, expected = CASES[name]
    answer = server.talk(data)
    statuses = [int(text) for text in re.findall(rb"^HTTP/1\.1 (\d+)", answer, re.MULTILINE)]
    assert statuses, "no answer"
    assert statuses[0] == expected, answer[:1000]
    check_answer(answer, expected, is_v2=b" /v2/" in data[:200])
    assert server.detect() == server.reference


def check_answer(answer: bytes, status: int, *, is_v2: bool) -> None:
    """Check that an answer tells nothing of the server, and that errors have their form."""
    assert not LEAKS.search(answer), answer[:2000]
    head, _, body = answer.partition(b"\r\n\r\n")
    assert b"server:" not in head.lower()
    if status >= 400 and body and b"application/json" in head:
        length = re.findall(rb"content-length: (\d+)", head.lower())
        content = json.loads(body[: int(length[0])] if length else body)["error"]
        if is_v2:
            assert isinstance(content, str)
        else:
            assert set(content) == {"code", "message", "request_id"}
            assert re.findall(rb"x-request-id: (\S+)", head.lower()) == [content["request_id"].encode()]


def open_session(server: Server) -> tuple[str, socket.socket]:
    """Return a new session and its WebSocket, past the server's first message."""
    made = server.talk(post("/v1/sessions", b"{}", "Content-Type: application/json"))
    assert made.startswith(b"HTTP/1.1 201"), made
    name = str(json.loads(made.partition(b"\r\n\r\n")[2])["id"])
    client = socket.create_connection(("127.0.0.1", server.port), 5)
    client.sendall(
        f"GET /v1/sessions/{name}/stream HTTP/1.1\r\nHost: test\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
        "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n".encode()
    )
    greeting = b""
    while b'"ready"' not in greeting:
        piece = client.recv(65536)
        assert piece, greeting
        greeting += piece
    return name, client


@pytest.mark.parametrize("name", SOCKETS)
def test_broken_frames(server: Server, name: str) -> None:
    data, code = SOCKETS[name]
    session, client = open_session(server)
    with client:
        with contextlib.suppress(ConnectionError):
            client.sendall(data)
        stream, opcode, payload = client.makefile("rb"), 0, b""
        while opcode != 8:
            opcode, payload = read_frame(stream)
            assert not LEAKS.search(payload)
    assert int.from_bytes(payload[:2], "big") == code, payload
    assert server.talk(get(f"/v1/sessions/{session}", "DELETE")).startswith(b"HTTP/1.1 204")
    assert server.detect() == server.reference


MESSAGES = {
    "half a JSON": b"{",
    "a list": b"[]",
    "NaN": b'{"type": "frame", "sequence": NaN}',
    "negative": b'{"type": "frame", "sequence": -1}',
    "huge": b'{"type": "frame", "sequence": 1e99}',
    "infinite time": b'{"type": "frame", "timestamp_s": 1e999}',
    "long": b'{"type": "' + b"x" * 50_000 + b'"}',
    "brackets": b"[" * 50_000,
}


@pytest.mark.parametrize("name", MESSAGES)
def test_broken_messages_of_a_session(server: Server, name: str) -> None:
    """What a text message says of a picture is answered in the turn of that picture."""
    session, client = open_session(server)
    with client:
        client.sendall(frame(MESSAGES[name], opcode=1) + frame(JPEG))
        opcode, payload = read_frame(client.makefile("rb"))
    assert opcode == 8 or json.loads(payload)["type"] == "error"
    assert not LEAKS.search(payload)
    server.talk(get(f"/v1/sessions/{session}", "DELETE"))
    assert server.detect() == server.reference


def read_frame(stream: Any) -> tuple[int, bytes]:
    """Return opcode and payload of the server's next frame."""
    first, size = stream.read(2)
    if size == 126:
        size = int.from_bytes(stream.read(2), "big")
    elif size == 127:
        size = int.from_bytes(stream.read(8), "big")
    return first & 0x0F, stream.read(size)


def drip(server: Server, data: bytes, pause: float, limit: float) -> tuple[bytes, float]:
    """Send bytes one by one until the server answers; return the answer and the seconds that it took."""
    began = time.monotonic()
    with socket.create_connection(("127.0.0.1", server.port), 5) as client:
        client.settimeout(pause)
        for byte in data:
            with contextlib.suppress(ConnectionError):
                client.sendall(bytes([byte]))
            with contextlib.suppress(TimeoutError, ConnectionError):
                if answer := client.recv(65536):
                    return answer, time.monotonic() - began
            if time.monotonic() - began > limit:
                break
    return b"", time.monotonic() - began


@pytest.mark.parametrize(
    ("make", "seconds"),
    [
        (lambda: HEAD + b"X: 1\r\n" * 100, HEADER_S),
        (lambda: b"X" * 100, HEADER_S),
    ],
    ids=["head", "request line"],
)
def test_slow_heads(server: Server, make: Callable[[], bytes], seconds: float) -> None:
    answer, took = drip(server, make(), 0.02, 4 * seconds)
    assert answer.startswith(b"HTTP/1.1 408") or answer.startswith(b"HTTP/1.1 400"), answer
    assert took < seconds + 1.0
    assert server.detect() == server.reference


def test_slow_bodies_do_not_hold_the_queue(server: Server) -> None:
    with contextlib.ExitStack() as stack:
        slow = []
        for _ in range(40):
            client = stack.enter_context(socket.create_connection(("127.0.0.1", server.port), 5))
            client.sendall(HEAD + b"Content-Length: 10000\r\n\r\n" + JPEG[:100])
            slow.append(client)
        assert server.detect() == server.reference
        for client in slow:
            assert client.recv(65536).startswith(b"HTTP/1.1 408")


def test_rotated_pictures_come_upright(server: Server) -> None:
    answer = server.talk(picture(rotated()))
    assert json.loads(answer.partition(b"\r\n\r\n")[2])["image"] == {"width": 64, "height": 96}


def test_a_request_id_cannot_carry_anything(server: Server) -> None:
    for value, echoed in (("good-1.2_3", True), ("a" * 65, False), ("<script>", False), ("a b", False)):
        answer = server.talk(get("/healthz").replace(b"\r\n\r\n", f"\r\nX-Request-ID: {value}\r\n\r\n".encode()))
        assert (value.encode() in answer) is echoed


def test_there_are_forty_cases_and_more() -> None:
    assert len(CASES) + len(SOCKETS) > 120
