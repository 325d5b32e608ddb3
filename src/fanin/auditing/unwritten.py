"""What memory looks like that nobody wrote, or that was filled to say so."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from fanin.auditing.numbers import SAMPLE, Numbers

__all__ = ["Traces", "traces_of"]

_PLACEHOLDERS = (999.0, 9999.0, 99999.0, 999999.0)
"""People write these, or their negatives, for "not set yet"."""

_FILLED = 1e6
"""A constant this large is a placeholder: no parameter starts with it."""

_HUGE = 1e12
"""Entries of trained and fresh models stay below 1e5; the upper half of a pointer, read as
bfloat16, is 8.8e12 or more."""

_TINY = 2.0**-100
"""A tensor without one entry above it, 8e-31, is 0 to every layer."""

_OCTAVES, _LARGE, _ENOUGH = 24.0, 2.0**20, 32
"""Between the quartiles of log2|x| lie 1.6 octaves of a uniform, 1.9 of a normal, and 64 of random
bits in float32 or bfloat16. Weights that decay took to 0 spread as widely, but only downwards: of
32 random bit patterns none is above 2^20 with a chance of (147/256)^32 = 2e-8."""

_POINTERS = ((0x5500, 0x57FF), (0x7E00, 0x7FFF))
"""Upper halves of addresses on the heap and in mapped memory of a 64-bit process."""

_INTEGERS = 4
"""So many 64-bit words that hold small integers are no accident."""

_WIDE = (torch.float32, torch.float64, torch.bfloat16)
"""Dtypes with eight bits of exponent or more."""


@dataclass(frozen=True, slots=True)
class Traces:
    """Signs that a tensor was never written.

    Args:
        observed: in words, with numbers.
        is_certain: whether nothing else makes such values.
        count: how many of the entries that were looked at show it.
    """

    observed: str
    is_certain: bool
    count: int


def traces_of(tensor: Tensor, numbers: Numbers) -> Traces | None:
    """Signs that a tensor was never written; None where its values could be meant.

    What `torch.empty` returns is what the memory held before. That can be zeros or the values of
    another tensor, in which nobody sees a fault. It can be pointers, integers or raw bytes, and
    these have exponents that no initializer draws: the smallest of n normal numbers is about
    ``1.25·σ/n``, so that all of a million lie within 26 octaves; a subnormal one, below
    ``2^-126``, has the chance ``0.8·n·2^-126/σ``.

    Example:
        >>> from fanin.auditing.numbers import numbers_of
        >>> words = torch.arange(1, 9).view(torch.float32)
        >>> traces_of(words, numbers_of(words)).observed
        'all of the 16 entries are below 1.2e-44'
        >>> traces_of(torch.ones(3), numbers_of(torch.ones(3))) is None
        True
    """
    if not numbers.seen or numbers.is_zero or _is_mask(numbers):
        return None
    if numbers.is_constant:
        return _placeholder(numbers)
    largest = max(-numbers.low, numbers.high)
    if math.isinf(largest):
        largest = float(numbers.sample.abs().max())
    if largest >= _HUGE:
        return Traces(f"entries up to {largest:.2g}", True, 1)
    if tensor.dtype not in _WIDE:
        return None
    if 0 < largest < _TINY:
        observed = f"all of the {numbers.count} entries are below {_above(largest)}"
        return Traces(observed, True, numbers.seen)
    return _spread(numbers, largest) or _words(tensor) or _subnormal(tensor, numbers)


def _is_mask(numbers: Numbers) -> bool:
    """Zeros and one negative number, be it -inf: what is added to the scores of an attention."""
    return numbers.high == 0 and bool(
        ((numbers.sample == 0) | (numbers.sample == numbers.low)).all()
    )


def _placeholder(numbers: Numbers) -> Traces | None:
    value = numbers.low
    is_scalar = numbers.count == 1  # a limit, or a base of frequencies
    if abs(value) >= _HUGE or (
        not is_scalar and (abs(value) >= _FILLED or abs(value) in _PLACEHOLDERS)
    ):
        return Traces(f"all of the {numbers.count} entries are {value:g}", True, numbers.seen)
    return None


def _spread(numbers: Numbers, largest: float) -> Traces | None:
    """Exponents of random bits."""
    sizes = numbers.sample[numbers.sample != 0].abs().log2()
    if sizes.numel() < _ENOUGH or largest < _LARGE:
        return None
    low, high = torch.quantile(sizes, torch.tensor([0.25, 0.75], dtype=sizes.dtype)).tolist()
    if high - low <= _OCTAVES:
        return None
    observed = f"half of the entries spread over {high - low:.0f} powers of 2, up to {largest:.2g}"
    return Traces(observed, True, sizes.numel())


def _words(tensor: Tensor) -> Traces | None:
    """64-bit words read as floats: pointers, and small integers."""
    if tensor.dtype not in (torch.float32, torch.float64) or not tensor.is_contiguous():
        return None
    head = tensor.reshape(-1)[:SAMPLE].cpu()
    if head.dtype == torch.float64:
        words = head.view(torch.int64)
        pointers = int(_in_ranges(words >> 32).sum())
        return _of_words(pointers, 0, head.numel())
    bits = head[: head.numel() // 2 * 2].view(torch.int32).view(-1, 2)
    lower, upper = bits[:, 0], bits[:, 1]
    if bool(_in_ranges(lower).any()):  # not by words: weights that decay took to nearly 0
        return None
    pointers = int(_in_ranges(upper).sum())
    small = (lower > 0) & (lower < 2**20)
    has_others = bool(((upper > 0) & (upper < 2**23) & ~_in_ranges(upper)).any())
    return _of_words(pointers, 0 if has_others else int((small & (upper == 0)).sum()), head.numel())


def _of_words(pointers: int, integers: int, seen: int) -> Traces | None:
    if pointers:
        return Traces(f"{pointers} of {seen} entries are parts of pointers", True, pointers)
    if integers >= _INTEGERS:
        observed = f"{integers} pairs of {seen} entries are 64-bit integers"
        return Traces(observed, True, 2 * integers)
    return None


def _in_ranges(values: Tensor) -> Tensor:
    (low, high), (lower, upper) = _POINTERS
    return ((values >= low) & (values <= high)) | ((values >= lower) & (values <= upper))


def _subnormal(tensor: Tensor, numbers: Numbers) -> Traces | None:
    smallest = torch.finfo(tensor.dtype).tiny
    count = int(((numbers.sample != 0) & (numbers.sample.abs() < smallest)).sum())
    if not count:
        return None
    return Traces(f"{count} of {numbers.seen} entries are below {smallest:.1e}", False, count)


def _above(value: float) -> str:
    """A bound of two digits that a value lies below."""
    return f"{value * 1.06:.1e}"
