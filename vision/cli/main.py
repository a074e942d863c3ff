"""The entry point of ``stride32``: the list of commands, and errors turned into one line and an exit code.

Exit codes: 0 ok, 1 failure, 2 usage (options or configuration), 3 some inputs failed, 130 interrupted with valid
partial output. Commands return their code. Nothing here or at the head of a command's file imports torch, cv2 or av, so
that ``--help`` answers at once.
"""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Sequence
from typing import Annotated, NoReturn

import typer

from vision import __version__
from vision.cli import (
    batch,
    classify,
    data,
    demo,
    detect,
    embed,
    evaluate,
    lr_find,
    models,
    report,
    segment,
    serve,
    track,
    tracks,
    train,
    tune,
)
from vision.cli.exit_codes import FAILURE, INTERRUPTED, OK, USAGE
from vision.errors import ConfigError, VisionError

DEBUG_VARIABLE = "STRIDE32_DEBUG"

app = typer.Typer(
    name="stride32",
    help="Detect, track and segment objects in images and video.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.command()(demo.demo)
app.command()(track.track)
app.add_typer(tracks.app, name="tracks")
app.command()(detect.detect)
app.command()(classify.classify)
app.command()(segment.segment)
app.command()(embed.embed)
app.add_typer(batch.app, name="batch")
app.command()(serve.serve)
app.add_typer(train.app, name="train")
app.command()(report.report)
app.command("lr-find")(lr_find.lr_find)
app.command()(tune.tune)
app.add_typer(evaluate.app, name="eval")
app.add_typer(data.app, name="data")
app.add_typer(models.app, name="models")


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"stride32 {__version__}")
        raise typer.Exit


@app.callback()
def configure(
    debug: Annotated[
        bool, typer.Option("--debug", envvar=DEBUG_VARIABLE, help="Show tracebacks and debug messages.")
    ] = False,
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    """Detect, track and segment objects in images and video."""
    del version
    if debug:
        os.environ[DEBUG_VARIABLE] = "1"
    logging.addLevelName(logging.WARNING, "warning")
    logging.addLevelName(logging.INFO, "info")
    logging.basicConfig(
        stream=sys.stderr,
        level=logging.DEBUG if debug else logging.WARNING,
        format="%(levelname)s %(name)s: %(message)s" if debug else "%(levelname)s: %(message)s",
    )


def main(argv: Sequence[str] | None = None) -> NoReturn:
    """Run the command line ``argv`` (default: this process's) and exit with its code."""
    try:
        code = app(args=argv, prog_name="stride32", standalone_mode=False)
    except (VisionError, OSError) as exc:
        code = _report(exc)
    except (KeyboardInterrupt, typer.Abort):
        code = INTERRUPTED
    except Exception as exc:
        # typer's own errors (an unknown option, a missing argument) know how to show themselves; others are our bugs.
        if not hasattr(exc, "show"):
            raise
        exc.show()
        code = getattr(exc, "exit_code", USAGE)
    # Ctrl-C ends up here from the frame loop, which finishes its frame first, and from anywhere before it.
    if code == INTERRUPTED:
        typer.echo("interrupted; what was written before is kept and valid", err=True)
    sys.exit(code if isinstance(code, int) else OK)


def _report(exc: VisionError | OSError) -> int:
    """Print the error on stderr, after its traceback when debugging, and return the exit code.

    It is one line, but for configurations of which several settings are told of.
    """
    if os.environ.get(DEBUG_VARIABLE, "0") not in ("", "0"):
        import traceback

        traceback.print_exception(exc)
    # What other packages say may hold any line breaks; only those of our own messages mean something.
    is_list = isinstance(exc, ConfigError) and exc.__cause__ is None
    lines = str(exc).split("\n") if is_list else [" ".join(str(exc).split())]
    text = "\n".join(line.rstrip() for line in lines)
    typer.echo(f"error: {text or type(exc).__name__}", err=True)
    return USAGE if isinstance(exc, ConfigError) else FAILURE
