"""``stride32 batch``: many inputs to Parquet; ``batch status`` and ``batch verify`` look at what a job has written."""

from __future__ import annotations

import json
from typing import Annotated, Any

import typer
from typer.core import TyperCommand, TyperGroup

from vision.cli.batch_run import run
from vision.cli.exit_codes import FAILURE, OK, SOME_INPUTS_FAILED
from vision.cli.extras import needs_extra

Folder = Annotated[str, typer.Argument(metavar="DIR", help="Folder or URL of a job: its --out.", show_default=False)]
Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]
SUBCOMMANDS_HELP = (
    "stride32 batch status DIR tells how far a job is.\n\n"
    "stride32 batch verify DIR checks every row and checksum of it.\n\n"
    "A SOURCE that is called status or verify is written ./status or ./verify."
)


class BatchGroup(TyperGroup):
    """``batch`` followed by one of its subcommands, or by the words of the command that runs a job."""

    default_command = "run"

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Send everything that does not begin with a subcommand to the command that runs a job."""
        # An empty line and --help go there too: what runs a job is what people ask about.
        args = args or ["--help"]
        if args[0] == self.default_command or args[0] not in self.commands:
            args = [self.default_command, *args]
        return super().parse_args(ctx, args)


class RunCommand(TyperCommand):
    """The command that runs a job; its usage and errors call it ``batch``, the word that people type."""

    def make_context(self, info_name: str | None, args: list[str], parent: Any = None, **extra: Any) -> Any:
        """Return a context whose name is that of the group."""
        if parent is not None:
            info_name, parent = parent.info_name, parent.parent
        return super().make_context(info_name, args, parent=parent, **extra)


app = typer.Typer(help="Process many inputs into Parquet, each exactly once.", cls=BatchGroup)
app.command("run", cls=RunCommand, hidden=True, epilog=SUBCOMMANDS_HELP)(run)


@app.command()
def status(folder: Folder, as_json: Json = False) -> int:
    """Print how far a job is. Exit codes: 0 whole, 1 damage, 3 shards are missing or items failed."""
    from vision.batch.output import open_output
    from vision.batch.status import read_status

    with needs_extra("batch", "a batch job"):
        found = read_status(open_output(folder))
    typer.echo(json.dumps(found.to_dict(), indent=2) if as_json else found.text())
    if found.damaged:
        return FAILURE
    return OK if found.is_whole else SOME_INPUTS_FAILED


@app.command()
def verify(
    folder: Folder,
    quick: Annotated[bool, typer.Option("--quick", help="Read what shards say of themselves, not every byte.")] = False,
    as_json: Json = False,
) -> int:
    """Check rows and checksums of all shards. Exit codes: 0 whole, 1 damage, 3 shards are missing or items failed."""
    from vision.batch.output import open_output
    from vision.batch.verify import verify_job

    with needs_extra("batch", "a batch job"):
        found = verify_job(open_output(folder), deep=not quick)
    typer.echo(json.dumps(found.to_dict(), indent=2) if as_json else found.text())
    if found.damage:
        return FAILURE
    return OK if found.is_whole else SOME_INPUTS_FAILED
