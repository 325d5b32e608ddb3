"""Two checkpoints, compared tensor by tensor: never more than one of each is in memory."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open

from fanin.auditing.checkpoints import safetensors_in
from fanin.errors import ArgumentError
from fanin.planning.describe import observed_std
from fanin.report import Column, Table, shape_text

__all__ = ["Comparison", "Difference", "Side", "compare_checkpoints"]

_CHUNK = 1 << 20  # elements converted to float64 at a time


@dataclass(frozen=True, slots=True)
class Side:
    """One tensor of one checkpoint; ``std`` is None where it has none, ``dtype`` as in torch."""

    shape: tuple[int, ...]
    dtype: str
    std: float | None


@dataclass(frozen=True, slots=True)
class Difference:
    """A tensor that differs: None for a side that lacks it, and for a number that there is not."""

    name: str
    a: Side | None
    b: Side | None
    max_difference: float | None


@dataclass(frozen=True, slots=True)
class Comparison:
    """The tensors that differ, in the order of their names, and how many were compared."""

    differences: tuple[Difference, ...]
    num_tensors: int

    @property
    def is_equal(self) -> bool:
        """Whether both have the same tensors, bit for bit."""
        return not self.differences

    @property
    def num_equal(self) -> int:
        """Tensors that are equal in every bit."""
        return self.num_tensors - len(self.differences)

    def table(self) -> Table:
        """One row for each tensor that differs."""
        numbers = (
            Column(name, "right") for name in ("std first", "std second", "max |difference|")
        )
        rows = tuple(
            (d.name, _what(d), _std(d.a), _std(d.b), _number(d.max_difference))
            for d in self.differences
        )
        return Table(("tensor", "differs in", *numbers), rows)

    def to_json(self) -> str:
        """JSON text, with null for what is not there."""
        return json.dumps(
            {
                "equal": self.is_equal,
                "tensors": self.num_tensors,
                "differences": [asdict(difference) for difference in self.differences],
            }
        )


def compare_checkpoints(first: Path, second: Path) -> Comparison:
    """Compare names, shapes, dtypes and bits; metadata other than ties is not looked at.

    A tensor that fanin or safetensors stored once under one of its tied names counts under each.

    Args:
        first: a .safetensors file, the index of several, or a folder of them.
        second: likewise.

    Raises:
        ArgumentError: when a file cannot be read.
    """
    with ExitStack() as stack:
        a, b = (_Checkpoint(stack, path) for path in (first, second))
        names = sorted({*a.names, *b.names}, key=_natural)
        found = [difference for name in names for difference in _difference(name, a, b)]
        return Comparison(tuple(found), len(names))


class _Checkpoint:
    """Open files, and in which of them and under which key each name is stored."""

    def __init__(self, stack: ExitStack, path: Path) -> None:
        if not path.exists():
            raise ArgumentError(f"diff: cannot read {str(path)!r}: no such file.")
        ties: dict[str, tuple[Any, str]] = {}
        stored: dict[str, tuple[Any, str]] = {}
        for each in safetensors_in(path):
            try:
                file: Any = stack.enter_context(safe_open(each, framework="pt"))
            except (OSError, SafetensorError) as error:
                raise ArgumentError(f"diff: cannot read {str(each)!r}: {error}.") from error
            keys = set(file.keys())
            stored |= {key: (file, key) for key in keys}
            metadata = (file.metadata() or {}).items()
            ties |= {name: (file, owner) for name, owner in metadata if owner in keys}
        self.names = {**ties, **stored}

    def tensor(self, name: str) -> torch.Tensor | None:
        file, key = self.names.get(name, (None, name))
        return file.get_tensor(key) if file is not None else None


def _difference(name: str, a: _Checkpoint, b: _Checkpoint) -> Iterator[Difference]:
    """Nothing for a tensor that both have with equal bits."""
    one, other = a.tensor(name), b.tensor(name)
    if one is None or other is None or one.shape != other.shape:
        yield Difference(name, _side(one), _side(other), None)
    elif one.dtype != other.dtype or not torch.equal(_bits(one), _bits(other)):
        yield Difference(name, _side(one), _side(other), _max_difference(one, other))


def _natural(name: str) -> list[str | int]:
    """Sorts numbers as numbers: text and digits alternate, so that like is compared with like."""
    return [int(piece) if piece.isdecimal() else piece for piece in re.split(r"(\d+)", name)]


def _side(tensor: torch.Tensor | None) -> Side | None:
    if tensor is None:
        return None
    dtype = str(tensor.dtype).removeprefix("torch.")
    return Side(tuple(tensor.shape), dtype, _finite(observed_std(tensor)))


def _bits(tensor: torch.Tensor) -> torch.Tensor:
    return tensor.contiguous().reshape(-1).view(torch.uint8)


def _max_difference(one: torch.Tensor, other: torch.Tensor) -> float | None:
    """The largest |difference|; None where it is not finite. NaN equals NaN, inf equals inf."""
    if not one.numel():
        return 0.0
    largest = 0.0
    chunks = (torch.split(tensor.reshape(-1), _CHUNK) for tensor in (one, other))
    for x, y in zip(*chunks, strict=True):
        wide = torch.complex128 if x.is_complex() or y.is_complex() else torch.float64
        x, y = x.to(wide), y.to(wide)
        same = (x == y) | (x.isnan() & y.isnan())
        apart = torch.where(same, 0.0, (x - y).abs())
        if not apart.isfinite().all():
            return None
        largest = max(largest, float(apart.max()))
    return largest


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None  # JSON has neither NaN nor infinity


def _what(difference: Difference) -> str:
    a, b = difference.a, difference.b
    if a is None or b is None:
        return "is only in the second" if a is None else "is only in the first"
    if a.shape != b.shape:
        return f"shape: {shape_text(a.shape)}, {shape_text(b.shape)}"
    return f"dtype: {a.dtype}, {b.dtype}" if a.dtype != b.dtype else "values"


def _std(side: Side | None) -> str:
    return _number(side.std if side is not None else None)


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.4g}"
