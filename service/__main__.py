"""``python -m service``: the same as ``stride32 serve`` without options; settings come from the environment."""

from __future__ import annotations

import gc
import logging
import os
import signal
import sys

from fastapi import FastAPI

from service.app import create_app
from service.heap import limit_heaps
from service.logs import configure_logging
from service.model_paths import add_model_folders
from service.origin import exposure_warning
from service.server import run_server
from service.settings import Settings, load_settings
from service.state import Service
from service.tracing import start_tracing
from vision.errors import VisionError

log = logging.getLogger("service")

USAGE = 2


def serve(settings: Settings) -> int:
    """Serve until a signal, and return the exit code: 0 after a signal, 1 where the service could not work."""
    limit_heaps()
    configure_logging(settings)
    settings = add_model_folders(settings)
    if warning := exposure_warning(settings):
        log.warning(warning)
    failed = False
    service: Service | None = None

    def make_app() -> FastAPI:
        nonlocal service
        app = create_app(settings)
        service = app.state.service

        def give_up() -> None:
            nonlocal failed
            failed = True
            # The main thread ends the server as for any other signal.
            os.kill(os.getpid(), signal.SIGTERM)

        app.state.service.on_fatal = give_up
        app.state.service.on_ready = keep_what_is_loaded
        start_tracing(app, settings)
        return app

    code = run_server(
        settings,
        make_app,
        begin_draining=lambda app: app.state.service.begin_draining(),
        on_refusal=lambda app, reason: app.state.service.metrics.rejected(reason),
    )
    if service is not None and service.is_loading(wait_s=1.0):
        # A forward pass in a thread cannot be interrupted, and the interpreter would wait for it, or crash in it.
        logging.shutdown()
        os._exit(1 if failed else code)
    # Torch's libraries complain on stderr of objects that the end of the interpreter does not find.
    gc.unfreeze()
    return 1 if failed else code


def keep_what_is_loaded() -> None:
    """Take what is there after the start out of garbage collection.

    Half a million objects of torch and the rest live until the end. Each full collection would look at all of them, a
    tenth of a second in which nothing else runs, and large JSON brings several in a row.
    """
    gc.collect()
    gc.freeze()


def main() -> int:
    """Read the settings and serve."""
    try:
        return serve(load_settings())
    except VisionError as exc:
        sys.stderr.write(f"error: {exc}\n")
        return USAGE


if __name__ == "__main__":
    sys.exit(main())
