"""A divider: paths of videos in, the places at which they can be cut out. Loads no torch and decodes nothing.

A file that kills or hangs its demuxer costs this process; the planning of the job goes on without it.
"""

from __future__ import annotations

import sys
import time
from multiprocessing.connection import Connection

from vision.batch.messages import Divide, Divided, Reading
from vision.batch.video_parts import divide_video
from vision.batch.worker_process import connect

_TELL_PERIOD_S = 1.0


class _Pulse:
    """Tells the listing process that packets come, not too often."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._told_s = -_TELL_PERIOD_S

    def beat(self) -> None:
        """Called with each packet."""
        now = time.monotonic()
        if now - self._told_s >= _TELL_PERIOD_S:
            self._told_s = now
            self._connection.send(Reading())


def main() -> None:
    """Serve the process that started this one, until it has gone."""
    connection = connect(int(sys.argv[1]))
    try:
        while True:
            order: Divide = connection.recv()
            connection.send(Reading())
            connection.send(Divided(divide_video(order.path, order.chunk, _Pulse(connection).beat)))
    except (EOFError, OSError):
        return


if __name__ == "__main__":
    main()
