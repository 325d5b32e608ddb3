"""Laws, regions and layouts for the tests of the cuda engine, with and without a GPU."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

from fanin.geometry import Region
from fanin.stream import Key
from fanin.stream.laws import Law, normal_law, truncated_law, uniform_law
from fanin.stream.narrow import FORMATS

__all__ = ["DTYPES", "KEY", "LAWS", "LAYOUTS", "REGIONS", "STARTS", "bits_of", "row"]

KEY = Key(7, "blocks.0.attn.q.weight").value
DTYPES = [torch.float32, torch.float64, *FORMATS]
FURTHEST = 2**63 - 1  # size of the largest dim there is
# Off a block, where the index passes 32 bits, where its block number does (2³⁴), and the end.
STARTS = [37, 2**32 - 100, 2**34 - 100, 2**38 - 100, FURTHEST - 300]


def _finfo(dtype: torch.dtype) -> torch.finfo:
    return torch.finfo(dtype)


LAWS: dict[str, Callable[[torch.dtype], Law]] = {
    "uniform": lambda dtype: uniform_law(-0.25, 0.75, dtype),
    "constant": lambda dtype: uniform_law(0.5, 0.5, dtype),
    "normal": lambda dtype: normal_law(0.5, 2.0, dtype),
    "normal into subnormals": lambda dtype: normal_law(0, _finfo(dtype).smallest_normal / 3, dtype),
    "normal into saturation": lambda dtype: normal_law(0.0, _finfo(dtype).max / 4, dtype),
    "truncated": lambda dtype: truncated_law(0.0, 1.0, -2.0, 2.0, dtype),
    "one-sided": lambda dtype: truncated_law(0.0, 1.0, 0.0, math.inf, dtype),
    "upper tail": lambda dtype: truncated_law(0.0, 1.0, 5.0, 6.0, dtype),
    "lower tail": lambda dtype: truncated_law(0.0, 1.0, -math.inf, -11.0, dtype),
    "slice": lambda dtype: truncated_law(0.0, 1.0, 0.5, 0.625, dtype),
}

_ALTERNATE = tuple((start, start + 1) for start in range(0, 6, 2))

REGIONS: dict[str, Region] = {
    "no dims": Region((), ()),
    "one element": Region.whole((1, 1)),
    "whole": Region.whole((37, 61)),
    "rows": Region.block((40, 61), [slice(7, 30), slice(61)]),
    "columns": Region.block((5, 700), [slice(5), slice(100, 300)]),
    "narrow columns": Region.block((50, 64), [slice(50), slice(3, 11)]),
    "every other row": Region.block((40, 61), [slice(1, 40, 2), slice(61)]),
    "every third column": Region.block((20, 61), [slice(20), slice(2, 61, 3)]),
    "blocks apart": Region(
        (6, 5, 300), (((4, 5), (0, 1)), ((0, 1), (3, 4)), ((1, 130), (200, 299)))
    ),
    "unequal runs": Region(
        (8, 600), (((0, 2), (4, 5), (6, 7)), ((0, 100), (300, 400), (401, 600)))
    ),
    "many dims": Region((6,) * 5, (_ALTERNATE,) * 5),
    "wide rows apart": Region((2**40, 2**20), (((5, 6), (2**39, 2**39 + 2)), ((5, 5000),))),
}

LAYOUTS: dict[str, Callable[[tuple[int, ...], torch.dtype], Tensor]] = {
    "contiguous": lambda shape, dtype: torch.zeros(shape).to(dtype),
    "reversed dims": lambda shape, dtype: _reversed(torch.zeros(shape[::-1]).to(dtype)),
    "every other": lambda shape, dtype: torch.zeros(*shape, 2).to(dtype)[..., 1],
}


def _reversed(tensor: Tensor) -> Tensor:
    return tensor.permute(tuple(reversed(range(tensor.dim()))))


def row(start: int, count: int) -> Region:
    """``count`` neighbours in the largest dim there is."""
    return Region((FURTHEST,), (((start, start + count),),))


def bits_of(tensor: Tensor) -> Tensor:
    """The bytes of a tensor, to compare."""
    return tensor.detach().cpu().resolve_conj().contiguous().reshape(-1).view(torch.uint8)
