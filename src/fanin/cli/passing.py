"""A bar for a pass through a model that takes longer than a moment."""

from __future__ import annotations

import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from torch import nn

__all__ = ["pass_progress"]


@contextmanager
def pass_progress(model: nn.Module, *, after: float = 1.0) -> Iterator[None]:
    """Show a bar on stderr until the block ends; nothing where stderr is no terminal.

    Args:
        model: whose innermost modules are counted as they are called.
        after: seconds before the bar appears.
    """
    from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

    console = Console(file=sys.stderr)
    if not console.is_terminal:
        yield
        return
    innermost = [module for module in model.modules() if not any(module.children())]
    columns = (SpinnerColumn(), TextColumn("probing"), BarColumn(), TimeElapsedColumn())
    bar = Progress(*columns, console=console, transient=True)
    task = bar.add_task("", total=len(innermost) + 1)  # the backward pass is one more step

    def count(*_: object) -> None:
        bar.advance(task)

    hooks = [module.register_forward_hook(count) for module in innermost]
    start = threading.Timer(after, bar.start)
    start.start()
    try:
        yield
    finally:
        start.cancel()
        start.join()
        bar.stop()
        for hook in hooks:
            hook.remove()
