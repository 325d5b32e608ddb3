"""`fanin explain`: the page of a check, or what an audit looks for."""

from __future__ import annotations

import sys
from typing import Annotated

import typer
from rich.console import Console

from fanin.auditing import CHECKS
from fanin.auditing import explain as page_of
from fanin.auditing.selection import chosen_checks
from fanin.cli.screen import print_table
from fanin.report import Table

__all__ = ["checks_table", "explain"]


def explain(
    code: Annotated[
        str | None,
        typer.Argument(help="FAN104 or constant-weight; FAN1 or nothing lists several."),
    ] = None,
) -> None:
    """Show the page of a check of `fanin audit`, or list all checks."""
    if code is None or _is_beginning(code):
        print_table(checks_table(code))
        return
    page = page_of(code)
    console = Console(file=sys.stdout)
    if not console.is_terminal:
        typer.echo(page, nl=False)
        return
    from rich.markdown import Markdown

    console.print(Markdown(page))


def _is_beginning(code: str) -> bool:
    """Whether several checks' codes begin so."""
    start = code.upper()
    return len(start) >= 3 and sum(check.code.startswith(start) for check in CHECKS) > 1


def checks_table(code: str | None = None) -> Table:
    """A row for each check whose code begins so."""
    checks = CHECKS if code is None else chosen_checks(CHECKS, select=[code])
    rows = tuple((each.code, each.name, each.severity, each.summary) for each in checks)
    return Table(("code", "name", "severity", "what it finds"), rows)
