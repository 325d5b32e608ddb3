"""Where output goes: results to stdout, progress and notes to stderr."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console

from fanin.report import Table

__all__ = ["bytes_text", "print_table", "progress"]

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


def bytes_text(count: int) -> str:
    """``244.4 MB``: decimal units, as disks are sold and `ls --si` prints."""
    size, unit = float(count), "B"
    for larger in ("kB", "MB", "GB", "TB"):
        if size < 1000:
            break
        size, unit = size / 1000, larger
    return f"{size:.1f} {unit}" if unit != "B" else f"{count} B"
