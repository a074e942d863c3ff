"""The object store that most people have, as a server in this process."""

from __future__ import annotations

from collections.abc import Iterator

import batch_jobs
import pytest

from vision.batch import object_output
from vision.batch.filesystems import forget_systems
from vision.batch.output import Output, open_output
from vision.batch.rows import read_rows
from vision.batch.status import read_status
from vision.batch.verify import verify_job
from vision.errors import InvalidInputError


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()


@pytest.fixture
def output(server: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Output]:
    import s3fs

    for name, value in {
        "AWS_ENDPOINT_URL": server,
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test",
        "AWS_DEFAULT_REGION": "us-east-1",
    }.items():
        monkeypatch.setenv(name, value)
    forget_systems()
    system = s3fs.S3FileSystem(skip_instance_cache=True)
    if not system.exists("bucket"):
        system.mkdir("bucket")
    batch_jobs.install_manifest(monkeypatch)
    yield open_output("s3://bucket/jobs/one")
    system.rm("bucket/jobs", recursive=True)
    forget_systems()


def test_the_first_content_stays(output: Output, monkeypatch: pytest.MonkeyPatch) -> None:
    assert output.put_new("a", b"first")
    assert not output.put_new("a", b"second")
    # Between the look and the sending another run may come: then the store's condition decides.
    monkeypatch.setattr(output, "_is_there", lambda _: False)
    assert not output.put_new("a", b"third")
    part = output.scratch("a")
    part.write_bytes(b"fourth" * 2**18)
    monkeypatch.setattr(object_output, "_ONE_REQUEST", 1000)
    assert not output.put_new("a", part)
    assert not part.exists()
    assert output.read("a") == b"first"


def test_a_job_in_a_bucket(output: Output) -> None:
    job = batch_jobs.write_job(output, failed={7}, shards=[0, 1])
    again = batch_jobs.begin_job(output, resume=True)
    assert (job.committed, again.committed, again.pending()) == (set(), {0, 1}, [2])
    batch_jobs.write_shard(again, 2)
    assert output.names("rows") == [f"rows/shard-0000{index}.parquet" for index in range(3)]
    rows = [row for name in output.names("rows") for row in read_rows(output, name)]
    assert [row["item"] for row in rows] == [item for item in range(12) if item != 7]
    report = verify_job(output)
    assert not report.damage
    assert (report.rows, report.failures, report.pending) == (11, 1, ())
    status = read_status(output)
    assert (status.is_finished, status.is_running) == (True, None)


def test_what_the_store_answers_is_told(output: Output) -> None:
    output.put_new("a", b"")
    with pytest.raises(InvalidInputError, match="s3://nobody-has-this/job/a must be written, the store answered"):
        open_output("s3://nobody-has-this/job").put_new("a", b"")
    with pytest.raises(InvalidInputError, match="must hold a batch job"):
        read_status(output)
