"""The Ray engine on a Ray of its own, with a core without networks: the same files as the local engine makes."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from batch_fakes import SITECUSTOMIZE, write_pictures

from vision.batch.config import BatchConfig, RunOptions
from vision.batch.ray_cluster import cluster
from vision.batch.run import BatchRequest, RayOptions, run_batch
from vision.batch.stats import RunReport
from vision.errors import StateError

pytest.importorskip("ray")
# Ray leaves sockets and files of its own processes to the garbage collector.
pytestmark = [
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning:ray"),
    pytest.mark.filterwarnings("ignore::FutureWarning:ray"),
]

# A decoder's parent is the actor. In a local run that would be the tests.
KILLER = """
if "vision.batch.decode_worker" in sys.orig_argv:
    before = images.read_image
    def read_or_kill(path, **options):
        mark = MARKS / Path(path).name
        if "actor-dies" in str(path) and not mark.exists():
            mark.touch()
            os.kill(os.getppid(), signal.SIGKILL)
            time.sleep(600)
        return before(path, **options)
    images.read_image = read_or_kill
"""


@pytest.fixture(scope="module")
def marks(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Start Ray once, with the fake core on the path of its actors; the folder of their marks."""
    folder = tmp_path_factory.mktemp("site")
    (folder / "marks").mkdir()
    (folder / "sitecustomize.py").write_text(SITECUSTOMIZE + KILLER)
    sys.path.insert(0, str(folder))
    try:
        with cluster(None):
            yield folder / "marks"
    finally:
        sys.path.remove(str(folder))


def run(source: Path, out: Path, engine: str, *, workers: int = 2, size: int = 5) -> RunReport:
    """Run a job to its end."""
    request = BatchRequest(
        source=str(source),
        out=str(out),
        config=BatchConfig(task="detect", shard_size=size, batch=2),
        options=RunOptions(decoders=1, item_timeout_s=20.0),
        engine="ray" if engine == "ray" else "local",
        resume=True,
        ray=RayOptions(workers=workers, cpus=1),
    )
    return run_batch(request)


def files(out: Path) -> dict[str, bytes]:
    names = [*out.glob("rows/*"), out / "quarantine.jsonl", out / "manifest.parquet", out / "job.json"]
    return {path.name: path.read_bytes() for path in names}


def test_a_job_of_both_engines_with_a_poison_file_and_an_actor_that_dies(marks: Path, tmp_path: Path) -> None:
    names = [f"{number:03}.png" for number in range(60)]
    names[17], names[44] = "017-crash-infer.png", "044-crash-decode.png"
    names[33] = "033-actor-dies.png"
    (marks / names[33]).touch()
    source = tmp_path / "in"
    write_pictures(source, names)
    (source / "005.png").write_bytes(b"")
    plain = run(source, tmp_path / "local", "local")
    assert (plain.rows, plain.failures) == (57, 3)
    expected = files(tmp_path / "local")

    begun = tmp_path / "ray"
    run(source, begun, "local")
    for index in (0, 3, 4, 5, 6, 7, 8, 9, 10, 11):
        (begun / f"rows/shard-{index:05}.parquet").unlink()
    for mark in marks.iterdir():
        mark.unlink()
    report = run(source, begun, "ray")
    assert (marks / names[33]).exists(), "no actor has died"
    assert files(begun) == expected
    assert (report.finished, report.items, report.rows, report.failures) == (True, 50, 48, 2)
    assert (report.skipped_items, report.total_rows, report.total_failures) == (10, 57, 3)
    assert report.stages.decode_s > 0


def test_an_error_that_is_no_pictures_fault_ends_the_run_in_its_own_words(marks: Path, tmp_path: Path) -> None:
    source, out = tmp_path / "in", tmp_path / "out"
    write_pictures(source, [f"{number:03}-raise-infer.png" for number in range(25)])
    with pytest.raises(StateError, match=r"all failed at the stage infer.*: the network does not like this"):
        run(source, out, "ray", workers=1, size=25)
    assert not list(out.glob("rows/*"))
