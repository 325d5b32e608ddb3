"""How far a transfer is, at what rate, and when it ends: on stderr."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console

from fanin.report import bytes_text

__all__ = ["transfer_progress"]

_EVERY = 30.0  # seconds between two lines of a log


@contextmanager
def transfer_progress(what: str, *, total: int) -> Iterator[Callable[[int], None]]:
    """A bar that goes away when it is done; in a log a line every half minute.

    Yields:
        What is called with the bytes of each piece.
    """
    from rich.progress import (
        BarColumn,
        DownloadColumn,
        Progress,
        TextColumn,
        TimeRemainingColumn,
        TransferSpeedColumn,
    )

    console = Console(file=sys.stderr)
    if not console.is_terminal:
        yield _Log(what, total).advance
        return
    columns = (
        TextColumn(what),
        BarColumn(),
        DownloadColumn(),
        TransferSpeedColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console, transient=True) as bar:
        task = bar.add_task(what, total=total)
        yield lambda count: bar.advance(task, count)


class _Log:
    """Lines for a file or a scheduler."""

    def __init__(self, what: str, total: int) -> None:
        self._what, self._total = what, total
        self._start = self._last = time.monotonic()
        self._done = 0

    def advance(self, count: int) -> None:
        """Count, and print where the last line is old."""
        self._done += count
        now = time.monotonic()
        if now - self._last < _EVERY:
            return
        self._last = now
        rate = self._done / (now - self._start)
        left = (self._total - self._done) / rate
        print(
            f"{self._what}: {bytes_text(self._done)} of {bytes_text(self._total)}, "
            f"{bytes_text(int(rate))}/s, {left:.0f} s left",
            file=sys.stderr,
            flush=True,
        )
