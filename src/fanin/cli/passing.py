"""Passes through a model: a bar for long ones, and errors in the words of what was typed."""

from __future__ import annotations

import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from torch import nn

from fanin.cli.inputs import Inputs
from fanin.errors import ArgumentError, ProbeError

__all__ = ["mode_note", "pass_progress", "told_pass"]


@contextmanager
def told_pass(model: nn.Module, inputs: Inputs, *, advice: str = "") -> Iterator[None]:
    """Pass inside, with a bar; an error says what went in and by which options.

    Args:
        model: that something goes into.
        inputs: what.
        advice: what else may be typed, after a comma.

    Raises:
        ArgumentError: in place of a `ProbeError`.
    """
    try:
        with pass_progress(model):
            yield
    except ProbeError as error:
        raise ArgumentError(
            f"{error}\nThe inputs were {inputs.text}. Here --input-shape, --length and --input say "
            f"what they are{advice}."
        ) from error


def mode_note(inputs: str, *, train: bool) -> str:
    """What went in, and in which mode the model was."""
    return f"inputs: {inputs}; the model is in {'training' if train else 'evaluation'} mode"


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
