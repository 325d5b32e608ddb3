"""Where output goes: results to stdout, progress and notes to stderr."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console

from fanin.report import Table

__all__ = ["print_table", "progress", "table_json"]

Advance = Callable[[int], None]


def print_table(table: Table) -> None:
    """A table on stdout: fitted to a terminal, one line a row in a pipe."""
    table.print(Console(file=sys.stdout, highlight=False))


@contextmanager
def progress(what: str, *, total: int) -> Iterator[Advance]:
    """A bar on stderr that goes away when it is done; nothing where stderr is no terminal."""
    from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeElapsedColumn

    console = Console(file=sys.stderr)
    columns = (TextColumn(what), BarColumn(), TaskProgressColumn(), TimeElapsedColumn())
    with Progress(
        *columns, console=console, transient=True, disable=not console.is_terminal
    ) as bar:
        task = bar.add_task(what, total=total)
        yield lambda count: bar.advance(task, count)


def table_json(table: Table) -> list[dict[str, str]]:
    """The rows of a table by the names of its columns."""
    names = [column if isinstance(column, str) else column.name for column in table.columns]
    return [dict(zip(names, row, strict=True)) for row in table.rows]
