from __future__ import annotations

import errno
import os
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import fsspec
import pytest

from vision.batch import local_output
from vision.batch.local_output import LocalOutput
from vision.batch.object_output import ObjectOutput
from vision.batch.output import Output, open_output
from vision.errors import InvalidInputError, MissingDependencyError, StateError

NAME = "rows/shard-00000.parquet"


@pytest.fixture(params=["folder", "memory"])
def output(request: pytest.FixtureRequest, tmp_path: Path) -> Output:
    if request.param == "folder":
        return open_output(str(tmp_path / "a b" / "öut"))
    fsspec.filesystem("memory").store.clear()
    return open_output("memory://bucket/a b/öut")


def test_put_new_keeps_what_is_there(output: Output) -> None:
    part = output.scratch(NAME)
    part.write_bytes(b"first")
    assert not output.exists(NAME)
    assert output.put_new(NAME, part)
    assert not part.exists()
    assert not output.put_new(NAME, b"second")
    part = output.scratch(NAME)
    part.write_bytes(b"third")
    assert not output.put_new(NAME, part)
    assert not part.exists()
    assert output.read(NAME) == b"first"


def test_replace_read_open_names_and_remove(output: Output) -> None:
    assert output.names() == output.names("rows") == []
    output.replace("report.txt", b"one")
    output.replace("report.txt", b"two")
    output.put_new("rows/b", b"12345")
    output.put_new("rows/a", b"")
    output.put_new("rows/.hidden", b"")
    output.put_new("rows/c.part", b"")
    assert output.read("report.txt") == b"two"
    assert output.names() == ["report.txt", "rows"]
    assert output.names("rows") == ["rows/a", "rows/b"]
    with output.open("rows/b") as file, output.open("rows/b") as other:
        assert file.seek(-2, os.SEEK_END) == 3
        assert other.read(1) == b"1"
        assert file.read() == b"45"
    output.remove("rows/b")
    output.remove("rows/b")
    assert not output.exists("rows/b")


def test_a_missing_file_is_one_clear_error(output: Output) -> None:
    with pytest.raises(InvalidInputError, match=r"report\.txt"):
        output.read("report.txt")


def test_of_many_that_put_a_file_one_is_told_that_it_did(output: Output) -> None:
    told: list[bool] = []
    start = threading.Barrier(8)

    def put(content: bytes) -> None:
        start.wait()
        told.append(output.put_new(NAME, content))

    threads = [threading.Thread(target=put, args=(bytes([at]) * 100,)) for at in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(output.read(NAME)) == 100
    # The memory file system looks first and writes then; folders and stores do both in one step.
    assert sum(told) == 1 if isinstance(output, LocalOutput) else sum(told) >= 1


@pytest.mark.parametrize("is_content", [True, False])
def test_a_file_system_without_links_gets_renamed_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, is_content: bool
) -> None:
    def refuse(*_: object) -> None:
        raise OSError(errno.EOPNOTSUPP, "no links")

    monkeypatch.setattr(local_output.os, "link", refuse)
    output = open_output(str(tmp_path))
    part = output.scratch(NAME)
    part.write_bytes(b"first")
    assert output.put_new(NAME, b"first" if is_content else part)
    assert not output.put_new(NAME, b"second")
    assert output.read(NAME) == b"first"


@pytest.mark.parametrize(
    ("number", "words"), [(errno.ENOSPC, "no space left"), (errno.EROFS, "read-only"), (errno.EACCES, "no permission")]
)
def test_a_disk_that_refuses_is_told_of_and_nothing_has_the_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int, words: str
) -> None:
    def refuse(_: int) -> None:
        raise OSError(number, os.strerror(number))

    output = open_output(str(tmp_path / "out"))
    output.put_new("job.json", b"{}")
    monkeypatch.setattr(local_output.os, "fsync", refuse)
    with pytest.raises(InvalidInputError, match=words) as caught:
        output.put_new(NAME, b"x")
    assert NAME in str(caught.value)
    assert not output.exists(NAME)
    with pytest.raises(InvalidInputError, match=words):
        output.replace("job.json", b"new")
    assert output.read("job.json") == b"{}"


def test_a_file_in_the_place_of_a_folder_is_one_clear_error(tmp_path: Path) -> None:
    (tmp_path / "out").write_text("")
    output = open_output(str(tmp_path / "out"))
    for act in (lambda: output.names(), lambda: output.put_new(NAME, b""), lambda: output.scratch("job.json")):
        with pytest.raises(InvalidInputError, match="out"):
            act()


def test_the_bytes_reach_the_disk_before_the_name_and_the_name_before_the_answer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    output = open_output(str(tmp_path))
    (tmp_path / "rows").mkdir()
    events: list[str] = []
    real_sync, real_link = os.fsync, os.link

    def sync(handle: int) -> None:
        events.append("folder" if Path(f"/proc/self/fd/{handle}").resolve().is_dir() else "file")
        real_sync(handle)

    def link(part: Path, target: Path) -> None:
        events.append("name")
        real_link(part, target)

    monkeypatch.setattr(local_output.os, "fsync", sync)
    monkeypatch.setattr(local_output.os, "link", link)
    output.put_new(NAME, b"x")
    assert events == ["file", "name", "folder"] if Path("/proc/self/fd").exists() else "name" in events


@pytest.mark.parametrize("point", ["fsync", "link", "unlink"])
@pytest.mark.parametrize("is_after", [False, True])
def test_a_crash_at_any_point_leaves_a_whole_file_or_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, point: str, is_after: bool
) -> None:
    owner: Any = Path if point == "unlink" else local_output.os
    real = getattr(owner, point)

    def crash(*arguments: Any, **options: Any) -> None:
        if is_after:
            real(*arguments, **options)
        raise SystemExit

    output = open_output(str(tmp_path))
    part = output.scratch(NAME)
    part.write_bytes(b"whole")
    with monkeypatch.context() as patch:
        patch.setattr(owner, point, crash)
        with pytest.raises(SystemExit):
            output.put_new(NAME, part)
    is_there = point == "unlink" or (point == "link" and is_after)
    assert output.exists(NAME) is is_there
    with output.lock():
        output.clean()
        assert output.put_new(NAME, b"again") is not is_there
    assert output.read(NAME) == (b"whole" if is_there else b"again")
    assert [path.name for path in (tmp_path / "rows").iterdir()] == ["shard-00000.parquet"]


def test_one_run_at_a_time(tmp_path: Path) -> None:
    output, second = open_output(str(tmp_path / "out")), open_output(str(tmp_path / "out"))
    assert output.is_running() is False
    assert not (tmp_path / "out").exists()
    with output.lock():
        assert second.is_running() is True
        with pytest.raises(InvalidInputError, match=f"process {os.getpid()} on .*is working in it"), second.lock():
            pass
    assert second.is_running() is False
    with second.lock():
        pass


def test_a_killed_run_leaves_no_lock(tmp_path: Path) -> None:
    code = (
        "import os, signal, sys\nfrom vision.batch.output import open_output\n"
        "output = open_output(sys.argv[1])\nwith output.lock():\n"
        "    output.scratch('rows/x').write_bytes(b'1')\n    os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    subprocess.run([sys.executable, "-c", code, str(tmp_path)], check=False)
    output = open_output(str(tmp_path))
    assert (tmp_path / ".run").exists()
    assert output.is_running() is False
    assert len(list((tmp_path / "rows").iterdir())) == 1
    with output.lock():
        assert output.clean() == 1
    assert list((tmp_path / "rows").iterdir()) == []


def test_unfinished_files_are_removed_under_the_lock_alone(tmp_path: Path) -> None:
    output = open_output(str(tmp_path))
    part = output.scratch("job.json")
    part.write_bytes(b"")
    with pytest.raises(StateError, match="lock"):
        output.clean()
    (tmp_path / "mine.part").write_text("a user's own")
    with output.lock():
        assert output.clean() == 1
    assert (tmp_path / "mine.part").exists()


def test_temporary_folders_of_dead_runs_are_removed_and_those_of_others_are_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    alive, other = ObjectOutput("memory://x"), ObjectOutput("memory://x")
    alive.scratch(NAME).write_bytes(b"1")
    for name in ("stride32-batch-dead", "stride32-batch-strange"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "a.part").write_bytes(b"")
    (tmp_path / "stride32-batch-dead" / ".lock").write_bytes(b"")
    assert other.clean() == 0, "too young"
    for folder in tmp_path.iterdir():
        os.utime(folder, (1, 1))
    assert other.clean() == 1
    assert not (tmp_path / "stride32-batch-dead").exists()
    assert (tmp_path / "stride32-batch-strange").exists()
    assert len(list(tmp_path.glob("*/*.part"))) == 2


@pytest.mark.parametrize("address", ["", "a\0b", "nothing-known://x/y"])
def test_an_address_that_is_none_is_refused(address: str) -> None:
    with pytest.raises(InvalidInputError):
        open_output(address)


def test_a_missing_package_is_named_with_its_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise ImportError("Install s3fs to access S3")

    monkeypatch.setattr("fsspec.get_filesystem_class", refuse)
    with pytest.raises(MissingDependencyError, match=r"s3fs.*stride32\[s3\]"):
        open_output("s3://bucket/job")


def test_a_url_of_a_local_folder_is_that_folder(tmp_path: Path) -> None:
    output = open_output(f"file://{tmp_path}")
    assert output.is_lockable
    output.put_new("job.json", b"{}")
    assert (tmp_path / "job.json").read_bytes() == b"{}"


def test_a_store_that_fails_for_a_moment_is_asked_again(monkeypatch: pytest.MonkeyPatch) -> None:
    output = ObjectOutput("memory://moments/job")
    answers: list[Any] = [OSError("busy"), OSError("busy"), None]
    monkeypatch.setattr("time.sleep", lambda _: None)

    def send(*_: object) -> None:
        if (answer := answers.pop(0)) is not None:
            raise answer

    monkeypatch.setattr(output, "_send", send)
    assert output.put_new("job.json", b"{}")
    answers[:] = [OSError("busy")] * 3
    with pytest.raises(InvalidInputError, match="busy"):
        output.put_new("job.json", b"{}")
