"""Choosing places without replacement: the reference of the stream's purpose 2.

Purpose 2: the choices of `sparse`. Slice ``s`` of ``length`` places picks ``k`` of them in steps
``t = 0 … k−1`` (Floyd's sampling)::

    w = 32-bit word of purpose 2 at index s·length + t
    j = length − k + t
    r = (w · (j + 1)) >> 32
    pick r, unless it is picked already: then pick j

Every set of ``k`` places is equally likely but for the rounding of ``r``, which changes the
probability of a place at a step by less than ``length · 2⁻³²`` of itself. Slices are independent:
each reads words of its own, whatever slices are chosen with it. ``length`` is below 2³¹.

Everything here is integers, and so it runs on the device of the tensor at hand.
"""

from __future__ import annotations

import torch
from torch import Tensor

from fanin.stream.philox import CHOICES, words

__all__ = ["choose", "clear"]

_CHUNK = 2**17  # words at a time: the temporaries of Philox stay in cache
_CHUNK_ON_DEVICE = 2**24  # each step of a chunk is some launches: few chunks


def choose(key: int, first_slice: int, length: int, out: Tensor) -> None:
    """Write the places picked by the slices from ``first_slice`` on into ``out`` (slices, k)."""
    count, k = out.shape
    if k == 0:
        return
    step = max(1, (_CHUNK if out.is_cpu else _CHUNK_ON_DEVICE) // k)
    for start in range(0, count, step):
        stop = min(start + step, count)
        slices = torch.arange(first_slice + start, first_slice + stop, device=out.device)
        steps = torch.arange(k, device=out.device)
        word = words(key, slices[:, None] * length + steps, CHOICES)
        rounded = (word * (length - k + 1 + steps)) >> 32
        _pick(rounded, length, out[start:stop])


def clear(key: int, first_slice: int, zeros: int, slices: Tensor) -> None:
    """Zero ``zeros`` places of each row: those picked, or all others when that is fewer picks."""
    count, length = slices.shape
    k = min(zeros, length - zeros)
    places = torch.empty(count, k, dtype=torch.int64, device=slices.device)
    choose(key, first_slice, length, places)
    entries = slices.view(torch.uint8) if slices.itemsize == 1 else slices  # zero is byte 0
    if k == zeros:
        entries.scatter_(1, places, 0)
    else:
        kept = entries.gather(1, places)
        entries.zero_().scatter_(1, places, kept)


def _pick(rounded: Tensor, length: int, out: Tensor) -> None:
    count, k = rounded.shape
    picked = torch.zeros(count, length, dtype=torch.bool, device=out.device)
    rows = torch.arange(count, device=out.device)
    for t in range(k):
        r = rounded[:, t]
        place = torch.where(picked[rows, r], length - k + t, r)
        picked.scatter_(1, place[:, None], True)  # an assignment would copy its value
        out[:, t] = place
