"""The numbers of a law as a kernel takes them: int64, floats as their bits.

Triton makes a float32 of a Python float that is an argument, and its interpreter a double. Bits
are bits in both.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch

from fanin.stream.elementary import CENTRAL
from fanin.stream.laws import TRUNCATED, Law
from fanin.stream.narrow import FORMATS

__all__ = ["Numbers", "numbers", "signed"]


@dataclass(frozen=True, slots=True)
class Numbers:
    """What a kernel is compiled for, what it is told of the law, and as what it sees the memory."""

    meta: dict[str, int | bool]
    arguments: tuple[int, ...]
    memory: torch.dtype


@lru_cache(maxsize=1024)
def numbers(law: Law) -> Numbers:
    """The form that a law takes at the kernels; kept for the next call."""
    wide = law.dtype == torch.float64
    form = FORMATS.get(law.dtype)
    meta: dict[str, int | bool] = {
        "KIND": law.kind,
        # No p is below the smaller of the masses outside.
        "TAIL": law.kind == TRUNCATED and min(law.lower, law.upper) < CENTRAL,
        "CLAMPED": not (law.lowest == -math.inf and law.highest == math.inf),
        "WIDE": wide,
        "WIDTH": 8 * law.dtype.itemsize,
        "MANTISSA": form.mantissa if form else 0,
        "BIAS": form.bias if form else 0,
        "LARGEST": form.largest if form else 0,
        "SIGNED_ZERO": form.signed_zero if form else True,
    }
    floats = (law.shift, law.scale, law.lowest, law.highest, law.lower, law.upper, law.mass)
    some = int(law.switch > 0)
    return Numbers(
        meta=meta,
        arguments=(signed(law.switch - some), some, *(_bits(x, wide) for x in floats)),
        memory={16: torch.int16, 8: torch.uint8}.get(meta["WIDTH"], law.dtype),
    )


def signed(word: int) -> int:
    """The int64 with the bits of this uint64."""
    return word - 2**64 if word >= 2**63 else word


def _bits(x: float, wide: bool) -> int:
    return int(np.float64(x).view(np.int64) if wide else np.float32(x).view(np.int32))
