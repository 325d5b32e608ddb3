"""The commands under one name, and what becomes of an error: one message, and an exit status."""

from __future__ import annotations

import io
import sys
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from fanin.cli.audit import audit
from fanin.cli.bench import bench
from fanin.cli.calibrate import calibrate
from fanin.cli.diff import diff
from fanin.cli.explain import explain
from fanin.cli.gain import gain
from fanin.cli.initialize import init, plan
from fanin.cli.inspect import inspect
from fanin.cli.listing import list_choices
from fanin.cli.meanfield import meanfield
from fanin.cli.probe import ProbeCommand, probe
from fanin.cli.verify import verify
from fanin.errors import ArgumentError, FaninError

__all__ = ["app", "main"]

USAGE, FAILURE = 2, 1


class _OneMessage(TyperGroup):
    """Turns the errors that fanin raises on purpose into a line on stderr and an exit status."""

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except FaninError as error:
            typer.echo(f"Error: {error}", err=True)
            raise typer.Exit(USAGE if isinstance(error, ArgumentError) else FAILURE) from error


app = typer.Typer(
    cls=_OneMessage,
    help="Initialize PyTorch models, and see what they start from.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)
app.command()(init)
app.command()(plan)
app.command()(verify)
app.command()(inspect)
app.command()(diff)
app.command()(gain)
app.command()(meanfield)
app.command(cls=ProbeCommand)(probe)
app.command()(calibrate)
app.command()(audit)
app.command()(explain)
app.command("list")(list_choices)
app.command()(bench)


def main() -> None:
    """Run the command line."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="replace")  # tables have × and →, which ASCII has not
    app()


def _print_version(asked: bool) -> None:
    if asked:
        from fanin import __version__

        typer.echo(f"fanin {__version__}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool,
        typer.Option(
            "--version", callback=_print_version, is_eager=True, help="Print the version."
        ),
    ] = False,
) -> None:
    pass
