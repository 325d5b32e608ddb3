"""`fanin bench`: fanin.init against torch.nn.init on this machine, in interleaved pairs."""

from __future__ import annotations

import json
import statistics
import time
from collections.abc import Callable
from typing import Annotated, NamedTuple

import torch
import typer

from fanin import init
from fanin.cli.screen import print_table, progress
from fanin.errors import ArgumentError
from fanin.report import Column, Table
from fanin.stream import native_is_active

__all__ = ["bench"]

Fill = Callable[[torch.Tensor], object]

_CASES: tuple[tuple[str, torch.dtype], ...] = (
    ("uniform_", torch.float32),
    ("normal_", torch.float32),
    ("trunc_normal_", torch.float32),
    ("kaiming_normal_", torch.float32),
    ("uniform_", torch.bfloat16),
    ("normal_", torch.bfloat16),
)


class Timing(NamedTuple):
    """Medians over pairs; ``ratio`` is torch's time over fanin's."""

    function: str
    dtype: str
    fanin_ms: float
    torch_ms: float
    ratio: float


def bench(
    size: Annotated[int, typer.Option(help="Rows and columns of the matrix.")] = 2048,
    pairs: Annotated[int, typer.Option(help="Timed pairs, of which the median counts.")] = 5,
    as_json: Annotated[bool, typer.Option("--json", help="Print only JSON.")] = False,
) -> None:
    """Time fanin.init against torch.nn.init."""
    if size < 1 or pairs < 1:
        raise ArgumentError(f"bench: --size and --pairs are at least 1. Got {size} and {pairs}.")
    results = []
    with progress("timing", total=len(_CASES)) as advance:
        for name, dtype in _CASES:
            results.append(_compare(name, dtype, size=size, pairs=pairs))
            advance(1)
    if as_json:
        setting = {"size": size, "pairs": pairs, "threads": torch.get_num_threads()}
        rows = [timing._asdict() for timing in results]
        typer.echo(json.dumps({**setting, "torch": torch.__version__, "results": rows}))
        return
    print_table(_table(results))
    engine = "native" if native_is_active() else "reference (slow)"
    typer.echo(
        f"\n{size}×{size}, {torch.get_num_threads()} threads, torch {torch.__version__}, "
        f"{engine} engine; medians of {pairs} pairs."
    )


def _compare(name: str, dtype: torch.dtype, *, size: int, pairs: int) -> Timing:
    """Milliseconds of both, taken in turns so that a busy machine slows both; one warm-up each."""
    tensor = torch.empty(size, size, dtype=dtype)
    ours, theirs = getattr(init, name), getattr(torch.nn.init, name)
    _seconds(ours, tensor), _seconds(theirs, tensor)
    times = [(_seconds(ours, tensor), _seconds(theirs, tensor)) for _ in range(pairs)]
    return Timing(
        function=name,
        dtype=str(dtype).removeprefix("torch."),
        fanin_ms=1e3 * statistics.median(our for our, _ in times),
        torch_ms=1e3 * statistics.median(their for _, their in times),
        ratio=statistics.median(their / our for our, their in times),
    )


def _seconds(fill: Fill, tensor: torch.Tensor) -> float:
    started = time.perf_counter()
    fill(tensor)
    return time.perf_counter() - started


def _table(results: list[Timing]) -> Table:
    numbers = (Column(name, "right") for name in ("fanin ms", "torch ms", "ratio"))
    rows = tuple(
        (t.function, t.dtype, f"{t.fanin_ms:.2f}", f"{t.torch_ms:.2f}", f"{t.ratio:.1f}×")
        for t in results
    )
    return Table(("function", "dtype", *numbers), rows)
