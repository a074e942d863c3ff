"""``stride32 models pull``: the cache, the lines on both streams, exit codes."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from vision import remote
from vision.cli.main import main
from vision.remote import RemoteWeights


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: object) -> None:
        """Say nothing."""


@pytest.fixture
def mirror(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Serve a folder as the mirror, with an empty cache."""
    folder = tmp_path / "mirror"
    folder.mkdir()
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(folder)))
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    for variable in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setenv("STRIDE32_WEIGHTS_URL", f"http://127.0.0.1:{server.server_address[1]}")
    monkeypatch.setenv("STRIDE32_CACHE", str(tmp_path / "cache"))
    yield folder
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.fixture
def tiny(mirror: Path, monkeypatch: pytest.MonkeyPatch) -> RemoteWeights:
    """Put a file on the mirror under the name "tiny"."""
    content = b"weights" * 1000
    digest = hashlib.sha256(content).hexdigest()[:8]
    url = f"https://publisher.example/tiny-{digest}.pth"
    known = RemoteWeights("tiny", "classifier", url, digest, len(content), "", "a licence", "some terms")
    (mirror / known.file_name).write_bytes(content)
    monkeypatch.setattr(remote, "known_weights", lambda name: known)
    monkeypatch.setattr(remote, "NAMES", ("tiny",))
    return known


def run(capsys: pytest.CaptureFixture[str], *words: object) -> tuple[int, str, str]:
    with pytest.raises(SystemExit) as done:
        main(["models", *map(str, words)])
    streams = capsys.readouterr()
    return int(done.value.code or 0), streams.out, streams.err


def test_pull_prints_the_path_and_says_the_licence(
    tiny: RemoteWeights, mirror: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code, out, err = run(capsys, "pull", "tiny")
    assert code == 0
    assert Path(out.strip()) == remote.weights_folder() / tiny.file_name
    assert Path(out.strip()).read_bytes() == (mirror / tiny.file_name).read_bytes()
    assert err.splitlines()[0].endswith(f"/{tiny.file_name}")
    assert err.splitlines()[1] == "tiny: a licence; some terms"
    # In the cache it needs no mirror.
    (mirror / tiny.file_name).unlink()
    assert run(capsys, "pull", "tiny") == (0, out, "")
    code, _, err = run(capsys, "pull", "tiny", "--force")
    assert code == 1
    assert "answered 404" in err


def test_list_remote_tells_what_is_cached(tiny: RemoteWeights, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(capsys, "list", "--remote")[1].split()[:5] == ["tiny", "classifier", "0", "MB", "-"]
    run(capsys, "pull", "tiny")
    assert run(capsys, "list", "--remote")[1].split()[4] == "cached"


def test_from_takes_a_file(tiny: RemoteWeights, mirror: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source = mirror / tiny.file_name
    code, out, err = run(capsys, "pull", "tiny", "--from", source)
    assert (code, err) == (0, "")
    assert Path(out.strip()).read_bytes() == source.read_bytes()


def test_failures_are_one_line(tiny: RemoteWeights, mirror: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (mirror / tiny.file_name).write_bytes(b"other")
    code, out, err = run(capsys, "pull", "tiny")
    assert (code, out) == (1, "")
    assert err.splitlines()[-1].startswith(
        f"error: {tiny.file_name}: expected a sha256 that begins with {tiny.sha256}, got "
    )
    code, out, err = run(capsys, "pull", "tiny", "--from", mirror / "absent")
    assert (code, out, len(err.splitlines())) == (1, "", 1)


def test_an_unknown_name(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, err = run(capsys, "pull", "resnet181")
    assert (code, out) == (1, "")
    assert "did you mean 'resnet18'" in err


def test_a_mirror_that_is_no_address_is_a_usage_error(
    mirror: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("STRIDE32_WEIGHTS_URL", "ftp://mirror.example")
    assert run(capsys, "pull", "resnet18")[0] == 2


def test_segmenters_are_pulled_by_their_names(mirror: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Their real addresses and digests: a file of that name on the mirror is asked for, and refused by its content."""
    for name in ("fcn_resnet50", "deeplabv3_mobilenet_v3_large", "lraspp_mobilenet_v3_large"):
        known = remote.known_weights(name)
        (mirror / known.file_name).write_bytes(b"something else")
        code, out, err = run(capsys, "pull", name)
        assert (code, out) == (1, "")
        assert f"{name}: BSD-3-Clause (torchvision); trained on COCO" in err
        assert f"expected a sha256 that begins with {known.sha256}" in err
        assert not (remote.weights_folder() / known.file_name).exists()
