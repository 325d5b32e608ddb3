"""Philox4x32-10 in plain torch operations, and the rule that turns an index into its word.

A 32-bit word is an int64 tensor's value in ``[0, 2**32)``.
"""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["CHOICES", "LOW_HALVES", "VALUES", "philox4x32", "word_pairs", "words"]

VALUES = 0  # purposes: the last counter word
LOW_HALVES = 1
CHOICES = 2

_MASK = 0xFFFFFFFF


def philox4x32(
    counter: tuple[Tensor, Tensor, Tensor, Tensor], key: tuple[int, int]
) -> list[Tensor]:
    """Ten rounds of Philox on four counter words and two key words.

    Source: Salmon et al. 2011, "Parallel random numbers: as easy as 1, 2, 3", SC'11.
    """
    c0, c1, c2, c3 = counter
    k0, k1 = key
    for _ in range(10):
        p0, p1 = c0 * 0xD2511F53, c2 * 0xCD9E8D57  # wraps; the bits are those of the product
        c0, c1 = ((p1 >> 32) & _MASK) ^ c1 ^ k0, p1 & _MASK
        c2, c3 = ((p0 >> 32) & _MASK) ^ c3 ^ k1, p0 & _MASK
        k0, k1 = (k0 + 0x9E3779B9) & _MASK, (k1 + 0xBB67AE85) & _MASK
    return [c0, c1, c2, c3]


def words(key: int, index: Tensor, purpose: int = VALUES) -> Tensor:
    """``w32(i)`` for each index: word ``(i % 64) // 16`` of block ``16·(i // 64) + i % 16``."""
    block = _block(key, index, purpose)
    word = (index & 63) >> 4
    return torch.where(
        word < 2,
        torch.where(word == 0, block[0], block[1]),
        torch.where(word == 2, block[2], block[3]),
    )


def word_pairs(key: int, index: Tensor, purpose: int = VALUES) -> tuple[Tensor, Tensor]:
    """``w32`` of the two members of each index's pair: the even word's, then the odd word's."""
    block = _block(key, index, purpose)
    first = (index & 32) == 0
    return torch.where(first, block[0], block[2]), torch.where(first, block[1], block[3])


def _block(key: int, index: Tensor, purpose: int) -> list[Tensor]:
    number = ((index >> 6) << 4) | (index & 15)
    zero = torch.zeros_like(number)
    counter = (number & _MASK, (number >> 32) & _MASK, zero, zero + purpose)
    return philox4x32(counter, (key & _MASK, key >> 32))
