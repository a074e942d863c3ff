"""SOURCE in an object store, and fetching from it: fsspec's memory, and S3 as a server in this process."""

from __future__ import annotations

import io
import tarfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path

import fsspec
import pytest

from vision.batch.config import BatchConfig
from vision.batch.fetching import fetch_bytes, fetch_video
from vision.batch.filesystems import forget_systems
from vision.batch.items import Item
from vision.batch.listing import list_inputs
from vision.errors import InvalidInputError, LimitExceededError, MediaError, MissingDependencyError

DETECT = BatchConfig(task="detect")
FILES = {
    "a b.jpg": b"a",
    "sub/b#ü.png": b"bb",
    "empty.jpg": b"",
    "[1].jpg": b"one",
    "clip.mp4": b"video",
    ".hid/c.jpg": b"c",
    "x.txt": "a b.jpg\nsub/b#ü.png\n".encode(),
}


@pytest.fixture(scope="module", params=["memory", "s3"])
def store(request: pytest.FixtureRequest) -> Iterator[str]:
    """Return the URL of a prefix with pictures, a shard, and what is to be left out."""
    with pytest.MonkeyPatch.context() as monkeypatch, ExitStack() as stack:
        if request.param == "s3":
            from moto.server import ThreadedMotoServer

            server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
            server.start()
            stack.callback(server.stop)
            host, port = server.get_host_and_port()
            monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://{host}:{port}")
            monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
            for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
                monkeypatch.setenv(name, "test")
        forget_systems()
        system = fsspec.filesystem(request.param, skip_instance_cache=True)
        root = "pictures/in" if request.param == "s3" else "/pictures/in"
        system.mkdir(root.rpartition("/")[0])
        system.pipe({f"{root}/{name}": content for name, content in {**FILES, "s-0.tar": shard()}.items()})
        system.pipe({f"{root}2/other.jpg": b"x"})
        yield f"{request.param}://pictures/in"
        system.rm(root.rpartition("/")[0], recursive=True)
        forget_systems()


def shard() -> bytes:
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w") as archive:
        info = tarfile.TarInfo("m.jpg")
        info.size = 6
        archive.addfile(info, io.BytesIO(b"member"))
    return file.getvalue()


def found(source: str) -> dict[str, bytes]:
    return {item.name: fetch_bytes(item, 100) for item in list_inputs(source, DETECT).items()}


def test_a_prefix_is_listed_and_fetched(store: str) -> None:
    everything = {"[1].jpg": b"one", "a b.jpg": b"a", "clip.mp4": b"video", "empty.jpg": b""}
    everything |= {"s-0.tar/m.jpg": b"member", "sub/b#ü.png": b"bb"}
    inputs = list_inputs(store, DETECT)
    assert [item.name for item in inputs.items()] == sorted(everything)
    assert found(f"{store}/") == everything
    assert all(item.is_remote for item in inputs.items())
    assert inputs.table.column("size").to_pylist() == [len(everything[name]) for name in sorted(everything)]
    assert all(inputs.table.column("stamp").to_pylist())
    assert inputs.table.equals(list_inputs(store, DETECT).table)


def test_patterns_names_and_lists(store: str) -> None:
    assert found(f"{store}/*.jpg") == {"[1].jpg": b"one", "a b.jpg": b"a", "empty.jpg": b""}
    assert found(f"{store}/[1].jpg") == {"[1].jpg": b"one"}
    assert found(f"{store}/s-{{0..0}}.tar") == {"s-0.tar/m.jpg": b"member"}
    inputs = list_inputs(f"{store}/x.txt", DETECT)
    assert inputs.table.column("size").to_pylist() == [-1, -1]
    assert found(f"{store}/x.txt") == {"a b.jpg": b"a", "sub/b#ü.png": b"bb"}
    with pytest.raises(InvalidInputError, match="found none"):
        list_inputs(f"{store}/nothing/", DETECT)


def test_a_list_in_a_store_names_nothing_of_this_machine(store: str, tmp_path: Path) -> None:
    system = fsspec.filesystem(store.partition(":")[0], skip_instance_cache=True)
    for entry in ("/etc/a.jpg", "file:///etc/a.jpg"):
        system.pipe({f"{store}2/bad.txt": entry.encode()})
        with pytest.raises(InvalidInputError, match="must name what lies in stores"):
            list_inputs(f"{store}2/bad.txt", DETECT)


def test_a_video_is_spooled(store: str, tmp_path: Path) -> None:
    (clip,) = list_inputs(f"{store}/clip.mp4", DETECT).items()
    path = fetch_video(clip, tmp_path)
    assert (path.read_bytes(), path.parent, path.suffix) == (b"video", tmp_path, ".mp4")
    path.unlink()
    gone = Item(0, "gone.mp4", f"{store}/gone.mp4", "video")
    with pytest.raises(MediaError, match=r"gone\.mp4 cannot be fetched: there is no such object"):
        fetch_video(gone, tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_limits_and_missing_objects(store: str) -> None:
    video = Item(0, "clip.mp4", f"{store}/clip.mp4", "image")
    assert fetch_bytes(video, 5) == b"video"
    with pytest.raises(LimitExceededError, match="at most 4 bytes"):
        fetch_bytes(video, 4)
    with pytest.raises(LimitExceededError, match="got 99"):
        fetch_bytes(Item(0, "m", "s3://never/asked", "image", 0, 99), 98)
    with pytest.raises(MediaError, match="must have 9 bytes, found 3"):
        fetch_bytes(Item(0, "m", f"{store}/clip.mp4", "image", 2, 9), 98)
    with pytest.raises(MediaError, match="no such object"):
        fetch_bytes(Item(0, "gone.jpg", f"{store}/gone.jpg", "image"), 9)


def test_threads_share_a_store(store: str) -> None:
    items = list_inputs(store, DETECT).items()
    with ThreadPoolExecutor(8) as pool:
        contents = list(pool.map(lambda index: fetch_bytes(items[index % len(items)], 100), range(12)))
    assert contents == [fetch_bytes(items[index % len(items)], 100) for index in range(12)]


def test_refusals_and_absent_servers_are_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "very-secret")
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
    forget_systems()
    import s3fs

    monkeypatch.setattr(s3fs.S3FileSystem, "retries", 1)
    with pytest.raises(MediaError, match="check the network") as caught:
        fetch_bytes(Item(0, "a.jpg", "s3://bucket/a.jpg", "image"), 9)
    assert "secret" not in str(caught.value)
    assert "\n" not in str(caught.value)
    forget_systems()


def test_credentials_do_not_belong_in_an_address() -> None:
    with pytest.raises(InvalidInputError, match=r"got s3://\*\*\*@bucket/a.jpg") as caught:
        list_inputs("s3://user:very-secret@bucket/a.jpg", DETECT)
    assert "secret" not in str(caught.value)


def test_a_store_whose_package_is_absent_says_which(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(scheme: str) -> type:
        raise ImportError("Install s3fs to access S3")

    monkeypatch.setattr(fsspec, "get_filesystem_class", refuse)
    with pytest.raises(MissingDependencyError, match=r"pip install 'stride32\[s3\]'"):
        list_inputs("s3://bucket/in", DETECT)


def test_local_files_are_read_by_range(tmp_path: Path) -> None:
    (tmp_path / "f").write_bytes(b"0123456789")
    assert fetch_bytes(Item(0, "f", str(tmp_path / "f"), "image", 3, 4), 4) == b"3456"
    with pytest.raises(MediaError, match="must be a file"):
        fetch_bytes(Item(0, "d", str(tmp_path), "image"), 4)
    with pytest.raises(MediaError, match="No such file"):
        fetch_bytes(Item(0, "g", str(tmp_path / "g"), "image"), 4)
