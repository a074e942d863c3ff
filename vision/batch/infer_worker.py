"""An inference process: one device, the networks of one task, pictures in and rows out.

It stands alone so that what kills it (a driver, a lack of memory, a picture no one has seen the like of) costs neither
the run nor the pictures that are decoded already.
"""

from __future__ import annotations

import os
import pickle
import queue
import sys
import threading
import time
from collections.abc import Sequence
from multiprocessing.connection import Connection

from vision.batch.arena import ArenaView
from vision.batch.core import open_core
from vision.batch.facts import Core, Row, Work
from vision.batch.messages import Forget, Infer, Inferred, Refused, Setup
from vision.batch.worker_process import connect
from vision.errors import ModelError, VisionError
from vision.types import Frame


class Inferrer:
    """Computes the groups that the coordinator sends, on one thread or several.

    Args:
        connection: to the coordinator. arena: where the pictures lie. core: loaded.
        threads: that compute at the same time.
    """

    def __init__(self, connection: Connection, arena: ArenaView, core: Core, threads: int) -> None:
        self._connection = connection
        self._arena = arena
        self._core = core
        self._groups: queue.SimpleQueue[Infer] = queue.SimpleQueue()
        self._sending = threading.Lock()
        for number in range(threads):
            threading.Thread(target=self._work, name=f"stride32-infer_{number}", daemon=True).start()

    def serve(self) -> None:
        """Take messages until the coordinator has gone."""
        while True:
            match self._connection.recv():
                case Infer() as group:
                    self._groups.put(group)
                case Forget(ticket):
                    self._core.forget(ticket)

    def _work(self) -> None:
        while True:
            group = self._groups.get()
            started = time.perf_counter()
            outcomes = self._outcomes([self._place(group, place) for place in range(len(group.pictures))])
            answer = Inferred(group.group, outcomes, time.perf_counter() - started)
            with self._sending:
                self._connection.send(answer)

    def _place(self, group: Infer, place: int) -> Work:
        picture = group.pictures[place]
        frame = Frame(
            self._arena.picture(picture.offset, picture.size_hw),
            index=picture.frame_index,
            timestamp_s=picture.timestamp_s,
            source=picture.path,
        )
        return Work(picture.item, picture.path, picture.ticket, frame)

    def _outcomes(self, works: Sequence[Work]) -> list[Row | str]:
        """Return rows; of a batch that fails the halves are tried, until what fails stands alone.

        A lack of device memory is mended on the way, for half a batch needs half of it.
        """
        try:
            return [*self._core.rows(works)]
        except Exception as exc:  # whatever a network or a driver raises: one picture's error must not end the job
            if len(works) == 1:
                return [_one_line(exc)]
        half = len(works) // 2
        return [*self._outcomes(works[:half]), *self._outcomes(works[half:])]


def _one_line(exc: Exception) -> str:
    text = " ".join(str(exc).split())
    return text if isinstance(exc, VisionError) and text else f"{type(exc).__name__}: {text}"


def main() -> None:
    """Serve the coordinator that started this process."""
    connection, arena = connect(int(sys.argv[1])), ArenaView(int(sys.argv[2]))
    try:
        setup: Setup = connection.recv()
        try:
            core = open_core(setup.config, device=setup.device, threads=setup.threads)
        except (VisionError, OSError) as exc:
            connection.send(Refused(exc if _travels(exc) else ModelError(_one_line(exc))))
            return
        connection.send(core.facts)
        Inferrer(connection, arena, core, core.facts.parallel).serve()
    except (EOFError, OSError):
        # Threads may be within a forward pass; the libraries' own end would complain of them.
        os._exit(0)


def _travels(exc: Exception) -> bool:
    """Return whether an error can be pickled and made again; those with arguments of their own cannot."""
    try:
        return str(pickle.loads(pickle.dumps(exc))) == str(exc)
    except Exception:
        return False


if __name__ == "__main__":
    main()
