"""Published weights against a server on this machine: whole, cut off, continued, wrong, absent, mirrored, shared."""

from __future__ import annotations

import hashlib
import json
import re
import socket
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest
import torch
import torchvision

from vision import download, remote
from vision.backbones.registry import build_classifier
from vision.download import fetch
from vision.errors import ConfigError, LimitExceededError, ModelError, WeightsError
from vision.remote import RemoteWeights, cached, known_weights, pull, require

CONTENT = np.random.default_rng(0).integers(0, 256, 300_000, np.uint8).tobytes()
SIZE = len(CONTENT)


@dataclass
class Files:
    """What the server has and how it behaves; each request it got is in ``requests`` as (path, Range, If-Range)."""

    content: bytes = CONTENT
    etag: str | None = '"one"'
    ranges: bool = True
    lengths: bool = True
    statuses: list[int] = field(default_factory=list)  # answers before the first good one
    cuts: list[int] = field(default_factory=list)  # bytes after which the connection ends, for each good answer
    range_offset: int = 0
    redirects: bool = False
    content_type: str = "application/octet-stream"
    requests: list[tuple[str, str | None, str | None]] = field(default_factory=list)
    url: str = ""


class Handler(BaseHTTPRequestHandler):
    files: Files

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing."""

    def do_GET(self) -> None:
        files, wanted, condition = self.files, self.headers.get("Range"), self.headers.get("If-Range")
        files.requests.append((self.path, wanted, condition))
        if files.redirects and not self.path.startswith("/store/"):
            self.send_response(HTTPStatus.FOUND)
            self.send_header("Location", f"/store{self.path}")
            self.end_headers()
            return
        if files.statuses:
            self.send_error(files.statuses.pop(0))
            return
        found = re.fullmatch(r"bytes=(\d+)-", wanted or "")
        start = int(found[1]) if found and files.ranges and condition == files.etag else 0
        if start >= len(files.content) > 0 and start:
            self.send_error(HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE)
            return
        self.send_response(HTTPStatus.PARTIAL_CONTENT if start else HTTPStatus.OK)
        if start:
            first = start + files.range_offset
            self.send_header("Content-Range", f"bytes {first}-{len(files.content) - 1}/{len(files.content)}")
        if files.etag:
            self.send_header("ETag", files.etag)
        if files.lengths:
            self.send_header("Content-Length", str(len(files.content) - start))
        self.send_header("Content-Type", files.content_type)
        self.end_headers()
        end = start + files.cuts.pop(0) if files.cuts else len(files.content)
        self.wfile.write(files.content[start:end])


@pytest.fixture
def files() -> Iterator[Files]:
    """Serve ``Files`` on a free port until the test ends."""
    files = Files()
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("TestHandler", (Handler,), {"files": files}))
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    files.url = f"http://127.0.0.1:{server.server_address[1]}"
    yield files
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.fixture(autouse=True)
def pauses(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Take no pauses, and keep the lengths of those that would have been taken."""
    taken: list[float] = []
    monkeypatch.setattr(download, "sleep", taken.append)
    for variable in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(variable, raising=False)
    return taken


@pytest.fixture
def tiny(files: Files, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> RemoteWeights:
    """Make "tiny" the name of the server's file, and an empty folder the cache."""
    digest = hashlib.sha256(CONTENT).hexdigest()[:8]
    known = RemoteWeights("tiny", "classifier", f"{files.url}/tiny-{digest}.pth", digest, None, "", "none", "none")
    real = remote.known_weights
    monkeypatch.setattr(remote, "known_weights", lambda name: known if name == "tiny" else real(name))
    monkeypatch.setenv("STRIDE32_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("STRIDE32_WEIGHTS_URL", raising=False)
    return known


def left_over() -> list[str]:
    """Return the names in the cache but those of locks."""
    return sorted(path.name for path in remote.weights_folder().iterdir() if path.suffix != ".lock")


def ranges(files: Files) -> list[str | None]:
    return [wanted for _, wanted, _ in files.requests]


# --- pull ---


def test_a_file_is_pulled_once(files: Files, tiny: RemoteWeights) -> None:
    assert cached("tiny") is None
    seen: list[tuple[int, int | None]] = []
    path = pull("tiny", report=lambda done, total: seen.append((done, total)))
    assert path.read_bytes() == CONTENT
    assert path == cached("tiny") == require("tiny") == remote.weights_folder() / tiny.file_name
    assert seen[0] == (0, SIZE)
    assert seen[-1] == (SIZE, SIZE)
    assert pull("tiny") == path
    assert len(files.requests) == 1
    assert left_over() == [tiny.file_name]


def test_force_pulls_again(files: Files, tiny: RemoteWeights) -> None:
    pull("tiny")
    pull("tiny", force=True)
    assert len(files.requests) == 2


def test_a_cut_download_continues_within_one_call(files: Files, tiny: RemoteWeights, pauses: list[float]) -> None:
    files.cuts = [100_000, 50_000]
    assert pull("tiny").read_bytes() == CONTENT
    assert files.requests == [
        (f"/{tiny.file_name}", None, None),
        (f"/{tiny.file_name}", "bytes=100000-", '"one"'),
        (f"/{tiny.file_name}", "bytes=150000-", '"one"'),
    ]
    # Each try brought bytes, so patience begins anew.
    assert pauses == [1.0, 1.0]


def test_a_cut_download_continues_in_a_later_call(files: Files, tiny: RemoteWeights) -> None:
    files.cuts = [100_000, 0, 0, 0]
    with pytest.raises(ModelError, match=r"4 tries ended in: 100000 of 300000 bytes came; .* what came is kept"):
        pull("tiny")
    assert left_over() == [f"{tiny.file_name}.part", f"{tiny.file_name}.part.json"]
    files.requests.clear()
    assert pull("tiny").read_bytes() == CONTENT
    assert ranges(files) == ["bytes=100000-"]
    assert left_over() == [tiny.file_name]


def test_a_redirected_download_continues(files: Files, tiny: RemoteWeights) -> None:
    """GitHub's release files are answered by an address that is valid for minutes."""
    files.cuts, files.redirects = [100_000], True
    assert pull("tiny").read_bytes() == CONTENT
    assert [wanted for path, wanted, _ in files.requests if path.startswith("/store/")] == [None, "bytes=100000-"]


def test_without_ranges_a_download_begins_anew(files: Files, tiny: RemoteWeights) -> None:
    files.cuts, files.ranges = [100_000], False
    assert pull("tiny").read_bytes() == CONTENT
    assert ranges(files) == [None, "bytes=100000-"]


@pytest.mark.parametrize("etag", [None, 'W/"weak"'])
def test_without_a_mark_of_the_version_nothing_is_continued(
    files: Files, tiny: RemoteWeights, etag: str | None
) -> None:
    files.cuts, files.etag = [100_000], etag
    assert pull("tiny").read_bytes() == CONTENT
    assert ranges(files) == [None, None]


def test_another_version_on_the_server_is_taken_from_its_start(files: Files, tiny: RemoteWeights) -> None:
    files.cuts, files.content = [100_000, 0, 0, 0], bytes(SIZE)
    with pytest.raises(ModelError):
        pull("tiny")
    files.content, files.etag = CONTENT, '"two"'
    assert pull("tiny").read_bytes() == CONTENT


def test_halves_that_do_not_fit_are_downloaded_again(files: Files, tiny: RemoteWeights) -> None:
    """A server that says the same ETag for other bytes."""
    files.cuts, files.content = [100_000, 0, 0, 0], bytes(SIZE)
    with pytest.raises(ModelError):
        pull("tiny")
    files.content = CONTENT
    assert pull("tiny").read_bytes() == CONTENT
    assert ranges(files)[-2:] == ["bytes=100000-", None]


def test_a_part_longer_than_the_file_is_dropped(files: Files, tiny: RemoteWeights) -> None:
    part = remote.weights_folder() / f"{tiny.file_name}.part"
    part.parent.mkdir(parents=True)
    part.write_bytes(bytes(SIZE + 1))
    part.with_name(f"{part.name}.json").write_text(json.dumps({"url": tiny.url, "mark": '"one"'}))
    assert pull("tiny").read_bytes() == CONTENT
    assert ranges(files) == [f"bytes={SIZE + 1}-", None]


def test_a_continuation_at_another_byte_is_not_used(files: Files, tiny: RemoteWeights) -> None:
    files.cuts, files.range_offset = [100_000], 7
    assert pull("tiny").read_bytes() == CONTENT
    assert ranges(files) == [None, "bytes=100000-", None]


@pytest.mark.parametrize("note", ["no JSON", "[]", '{"url": "http://elsewhere/x", "mark": "m"}'])
def test_a_part_whose_origin_is_unknown_is_replaced(files: Files, tiny: RemoteWeights, note: str) -> None:
    part = remote.weights_folder() / f"{tiny.file_name}.part"
    part.parent.mkdir(parents=True)
    part.write_bytes(b"some bytes")
    part.with_name(f"{part.name}.json").write_text(note)
    assert pull("tiny").read_bytes() == CONTENT
    assert ranges(files) == [None]


def test_a_body_that_ends_early_without_a_length_shows_in_the_digest(files: Files, tiny: RemoteWeights) -> None:
    files.lengths, files.cuts = False, [100_000]
    with pytest.raises(WeightsError, match=f"begins with {tiny.sha256}, got [0-9a-f]{{64}}; it came from {files.url}"):
        pull("tiny")
    assert left_over() == []


def test_a_wrong_digest_names_both_sides_and_leaves_nothing(files: Files, tiny: RemoteWeights) -> None:
    files.content = CONTENT[::-1]
    with pytest.raises(WeightsError) as caught:
        pull("tiny")
    assert caught.value.expected == tiny.sha256
    assert caught.value.actual == hashlib.sha256(files.content).hexdigest()
    assert left_over() == []


def test_a_page_in_place_of_a_file_is_told(files: Files, tiny: RemoteWeights) -> None:
    files.content, files.content_type = b"<html>please log in</html>", "text/html"
    with pytest.raises(WeightsError, match="as a page of text: a proxy or a login in between"):
        pull("tiny")


@pytest.mark.parametrize("status", [401, 403, 404, 410])
def test_a_refusal_is_final(files: Files, tiny: RemoteWeights, status: int, pauses: list[float]) -> None:
    files.statuses = [status]
    with pytest.raises(ModelError, match=rf"answered {status} .*STRIDE32_WEIGHTS_URL.*--from FILE"):
        pull("tiny")
    assert pauses == []


def test_a_busy_server_is_asked_again(files: Files, tiny: RemoteWeights, pauses: list[float]) -> None:
    files.statuses = [503, 429, 500]
    assert pull("tiny").read_bytes() == CONTENT
    assert pauses == [1.0, 2.0, 4.0]


def test_a_server_that_stays_busy_ends_it(files: Files, tiny: RemoteWeights) -> None:
    files.statuses = [503] * 4
    with pytest.raises(ModelError, match="4 tries ended in: the server answered 503"):
        pull("tiny")


def test_a_closed_port_is_no_connection(tmp_path: Path) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{unused.getsockname()[1]}/x.pth"
        with pytest.raises(ModelError, match="4 tries ended in: no connection"):
            fetch(url, tmp_path / "x", max_bytes=10)


def test_an_unknown_host_asks_for_a_network(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def unknown(*args: object, **kwargs: object) -> None:
        raise socket.gaierror(-2, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", unknown)
    with pytest.raises(ModelError, match=r"host's name is not found .* is there a network"):
        fetch("http://weights.example/x.pth", tmp_path / "x", max_bytes=10)


def test_a_silent_server_times_out(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}/x.pth"
        with pytest.raises(ModelError, match=r"1 tries ended in: .*timed out"):
            fetch(url, tmp_path / "x", max_bytes=10, timeout_s=0.05, pauses_s=())


@pytest.mark.parametrize("lengths", [True, False])
def test_a_file_that_is_too_long_is_refused(files: Files, tmp_path: Path, lengths: bool) -> None:
    files.lengths = lengths
    with pytest.raises(LimitExceededError, match="at most 1000 bytes"):
        fetch(f"{files.url}/x", tmp_path / "x", max_bytes=1000)
    assert not (tmp_path / "x").exists() or (tmp_path / "x").stat().st_size <= 1000


def test_a_full_disk_is_told_before_the_download(
    files: Files, tiny: RemoteWeights, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(download.shutil, "disk_usage", lambda path: type("Usage", (), {"free": 1_000})())
    with pytest.raises(ModelError, match=r"room for 0\.3 MB, it has 0\.0 MB; make room or set STRIDE32_CACHE"):
        pull("tiny")


def test_a_cache_that_cannot_be_written_is_told(tiny: RemoteWeights, monkeypatch: pytest.MonkeyPatch) -> None:
    file = Path(__file__)
    monkeypatch.setenv("STRIDE32_CACHE", str(file))
    with pytest.raises(ModelError, match=r"cannot be written: .*STRIDE32_CACHE"):
        pull("tiny")


def test_a_cache_that_is_filled_need_not_be_writable(tiny: RemoteWeights, monkeypatch: pytest.MonkeyPatch) -> None:
    path = pull("tiny")
    monkeypatch.setattr(remote, "_only_one", lambda target: pytest.fail("a lock is a file in the cache"))
    assert pull("tiny") == path


def test_a_damaged_file_in_the_cache_is_noticed(
    files: Files, tiny: RemoteWeights, caplog: pytest.LogCaptureFixture
) -> None:
    path = pull("tiny")
    path.write_bytes(CONTENT[:-1])
    with pytest.raises(WeightsError, match=f"begins with {tiny.sha256}, got .* models pull tiny --force"):
        require("tiny")
    assert pull("tiny").read_bytes() == CONTENT
    assert "is damaged; getting it again" in caplog.text


def test_pulls_at_the_same_time_download_once(files: Files, tiny: RemoteWeights) -> None:
    paths: list[Path] = []
    threads = [threading.Thread(target=lambda: paths.append(pull("tiny"))) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(paths) == 4
    assert set(paths) == {cached("tiny")}
    assert len(files.requests) == 1
    assert require("tiny").read_bytes() == CONTENT


# --- a mirror, a file ---


@pytest.mark.parametrize("slash", ["", "/"])
def test_a_mirror_takes_the_publishers_place(
    files: Files, tiny: RemoteWeights, monkeypatch: pytest.MonkeyPatch, slash: str
) -> None:
    monkeypatch.setenv("STRIDE32_WEIGHTS_URL", f"{files.url}/our/weights{slash}")
    with pytest.raises(WeightsError, match=r"resnet18-f37072fd\.pth: expected a sha256 that begins with f37072fd, got"):
        pull("resnet18")
    assert files.requests[0][0] == "/our/weights/resnet18-f37072fd.pth"


def test_a_mirror_must_be_an_address(tiny: RemoteWeights, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STRIDE32_WEIGHTS_URL", "/mnt/weights")
    with pytest.raises(ConfigError, match=r"STRIDE32_WEIGHTS_URL must begin with https:// .*--from FILE"):
        pull("tiny")


def test_a_file_of_this_machine_is_copied(files: Files, tiny: RemoteWeights, tmp_path: Path) -> None:
    source = tmp_path / "any name"
    source.write_bytes(CONTENT)
    assert pull("tiny", source=source).read_bytes() == CONTENT
    assert files.requests == []
    assert left_over() == [tiny.file_name]
    assert source.exists()


def test_a_wrong_file_of_this_machine_is_refused(tiny: RemoteWeights, tmp_path: Path) -> None:
    source = tmp_path / "mine.pth"
    source.write_bytes(b"other weights")
    with pytest.raises(WeightsError, match=r"begins with .*, got .*mine\.pth; weights of your own need no pull"):
        pull("tiny", source=source)
    assert left_over() == []
    with pytest.raises(ModelError, match="--from must name a file"):
        pull("tiny", source=tmp_path / "absent.pth")


# --- names ---


@pytest.mark.parametrize("name", remote.NAMES)
def test_every_name_has_an_address_a_digest_and_terms(name: str) -> None:
    known = known_weights(name)
    assert known.url.startswith("https://")
    assert re.fullmatch(r"[0-9a-f]{8,}", known.sha256)
    assert known.sha256 in known.file_name
    assert known.kind in ("classifier", "detector", "segmenter")
    assert known.licence
    assert known.terms
    assert known.size_bytes is None or 1e6 < known.size_bytes < 1e9


def test_plain_names_are_torchvisions_best() -> None:
    plain = {name: entry for name, entry in remote.TORCHVISION.items() if "-v1" not in name}
    for name, (_, builder, member) in plain.items():
        assert torchvision.models.get_model_weights(builder).DEFAULT.name == member, name


def test_an_unknown_name_gets_a_suggestion() -> None:
    with pytest.raises(ModelError, match=r"got 'resnet19' \(did you mean 'resnet18'\?\).*models list --remote"):
        known_weights("resnet19")


def test_weights_that_were_not_pulled_say_how(tiny: RemoteWeights) -> None:
    with pytest.raises(ModelError, match=r"found no .*tiny.*; run: stride32 models pull tiny"):
        require("tiny")


def test_pulled_weights_serve_pretrained(
    files: Files, tiny: RemoteWeights, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    network = torchvision.models.mobilenet_v3_small(weights=None)
    torch.save(network.state_dict(), tmp_path / "made.pth")
    files.content = (tmp_path / "made.pth").read_bytes()
    digest = hashlib.sha256(files.content).hexdigest()
    known = RemoteWeights("x", "classifier", f"{files.url}/x-{digest}.pth", digest, None, "", "none", "none")
    monkeypatch.setattr(remote, "known_weights", lambda name: known)
    pull("mobilenet_v3_small")
    ours = build_classifier("mobilenet_v3_small", pretrained=True)
    assert torch.equal(ours.head[-1].weight, network.classifier[-1].weight)
