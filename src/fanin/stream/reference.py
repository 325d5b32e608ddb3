"""The reference engine: the stream's numbers in plain torch operations on the CPU.

Slow and readable, this file and the three it reads (`philox`, `elementary`, `narrow`) are the
specification: every other engine gives these bits. Each operation rounds on its own; nothing here
may be rewritten into a fused form.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor

from fanin.geometry.region import Region
from fanin.stream import elementary
from fanin.stream.choice import choose, clear
from fanin.stream.laws import NORMAL, UNIFORM, Law
from fanin.stream.narrow import narrow
from fanin.stream.philox import LOW_HALVES, word_pairs, words

__all__ = ["bits", "choose", "clear", "fill", "values"]

# Elements a pass. Torch runs operations of this size on the calling thread; its pool threads may
# flush subnormals (they inherit the setting they were started under), and nothing can tell them.
CHUNK = 1 << 15


def fill(law: Law, key: int, region: Region, out: Tensor) -> None:
    """Write the region of the stream into ``out``, a contiguous CPU tensor of the law's dtype."""
    with _gradual_underflow():
        for piece, part in region.split(CHUNK):
            out[piece] = values(law, key, part.linear_indices())


def bits(key: int, purpose: int, start: int, out: Tensor) -> None:
    """32-bit words from index ``start`` on, into a contiguous int32 tensor."""
    for begin in range(0, out.numel(), CHUNK):
        piece = out[begin : begin + CHUNK]
        index = torch.arange(start + begin, start + begin + piece.numel(), device="cpu")
        piece.copy_(words(key, index, purpose))


def values(law: Law, key: int, index: Tensor) -> Tensor:
    """The numbers at these row-major indices, in the law's dtype."""
    dtype = torch.float64 if law.dtype == torch.float64 else torch.float32
    standard = {UNIFORM: _uniform, NORMAL: _normal}.get(law.kind, _truncated)(
        law, key, index, dtype
    )
    value = _number(law.shift, dtype) + _number(law.scale, dtype) * standard
    lowest, highest = _number(law.lowest, dtype), _number(law.highest, dtype)
    value = torch.where(value < lowest, lowest, value)
    value = torch.where(value > highest, highest, value)
    return value if law.dtype == dtype else narrow(value, law.dtype)


def _uniform(law: Law, key: int, index: Tensor, dtype: torch.dtype) -> Tensor:
    word = words(key, index)
    if dtype == torch.float32:
        return (word >> 8).float() * 2.0**-24
    return ((word << 21) | (words(key, index, LOW_HALVES) >> 11)).double() * 2.0**-53


def _normal(law: Law, key: int, index: Tensor, dtype: torch.dtype) -> Tensor:
    first, second = word_pairs(key, index)
    if dtype == torch.float32:
        u = (first.float() + 0.5) * 2.0**-32
        cosine, sine = elementary.cosine_sine(second)
    else:
        first_low, second_low = word_pairs(key, index, LOW_HALVES)
        u = (_double(first, first_low) + 0.5) * 2.0**-64
        cosine, sine = elementary.cosine_sine(second, second_low)
    radius = elementary.sqrt_ieee(elementary.log_unit(u) * -2.0)
    return radius * torch.where((index & 16) == 0, cosine, sine)


def _truncated(law: Law, key: int, index: Tensor, dtype: torch.dtype) -> Tensor:
    high = words(key, index)
    if dtype == torch.float32:
        below = high < law.switch
        steps = torch.where(below, high, 0xFFFFFFFF - high).float()
        share = (steps + 0.5) * 2.0**-32
    else:
        low = words(key, index, LOW_HALVES)
        switch_high, switch_low = law.switch >> 32, law.switch & 0xFFFFFFFF
        below = (high < switch_high) | ((high == switch_high) & (low < switch_low))
        steps = _double(
            torch.where(below, high, 0xFFFFFFFF - high), torch.where(below, low, 0xFFFFFFFF - low)
        )
        share = (steps + 0.5) * 2.0**-64
    outside = torch.where(below, _number(law.lower, dtype), _number(law.upper, dtype))
    z = elementary.quantile(outside + share * _number(law.mass, dtype))
    return torch.where(below, -z, z)


def _double(high: Tensor, low: Tensor) -> Tensor:
    return high.double() * 2.0**32 + low.double()


def _number(x: float, dtype: torch.dtype) -> Tensor:
    return torch.tensor(x, dtype=dtype, device="cpu")


@contextmanager
def _gradual_underflow() -> Iterator[None]:
    """Subnormal numbers count, whatever `torch.set_flush_denormal` says; restored afterwards."""
    tiny = _number(2.0**-140, torch.float32)
    flushes = bool(tiny * 1.0 == 0)
    if flushes:
        torch.set_flush_denormal(False)
    try:
        yield
    finally:
        if flushes:
            torch.set_flush_denormal(True)
