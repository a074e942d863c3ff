"""Folders of fetched files: gone with their run, and those of killed runs with the next."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from vision.batch.spool import spool_folder


def test_it_is_there_for_the_time_of_the_block(tmp_path: Path) -> None:
    with spool_folder(tmp_path) as folder:
        (folder / "a.mp4").write_bytes(b"x")
        with spool_folder(tmp_path) as other:
            assert other != folder
        assert (folder / "a.mp4").exists(), "a folder in use was removed"
    assert not list(tmp_path.iterdir())


def test_what_a_killed_run_left_is_removed(tmp_path: Path) -> None:
    script = (
        "import os, sys; sys.path[:] = " + repr(sys.path) + "\n"
        "from pathlib import Path\n"
        "from vision.batch.spool import spool_folder\n"
        "with spool_folder(Path(sys.argv[1])) as folder:\n"
        "    (folder / 'a.mp4').write_bytes(b'x')\n"
        "    os.kill(os.getpid(), 9)\n"
    )
    subprocess.run([sys.executable, "-c", script, str(tmp_path)], check=False)
    assert len(list(tmp_path.glob("*/a.mp4"))) == 1
    with spool_folder(tmp_path) as folder:
        assert list(tmp_path.iterdir()) == [folder]
