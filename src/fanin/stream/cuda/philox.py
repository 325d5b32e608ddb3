"""Philox4x32-10 for a kernel: the words of many blocks at a time.

Triton compiles these functions, so they are written in its language and not in torch's; the
operations are those of `fanin.stream.philox`.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl

__all__ = ["index_block", "index_word", "philox"]

# Triton's interpreter and ROCm know no PTX.
_PTX = tl.constexpr(not triton.knobs.runtime.interpret and torch.version.hip is None)


@triton.jit
def philox(block, key, PURPOSE: tl.constexpr):
    """The four words of each block, uint32. ``block`` and ``key`` are int64."""
    c0, c1 = block.to(tl.uint32), (block >> 32).to(tl.uint32)
    c2 = c0 ^ c0
    c3 = c2 + PURPOSE
    k0, k1 = key.to(tl.uint32), (key >> 32).to(tl.uint32)
    for _ in tl.static_range(10):
        p0 = _product(c0, 0xD2511F53)
        p1 = _product(c2, 0xCD9E8D57)
        c0 = (p1 >> 32).to(tl.uint32) ^ c1 ^ k0
        c1 = p1.to(tl.uint32)
        c2 = (p0 >> 32).to(tl.uint32) ^ c3 ^ k1
        c3 = p0.to(tl.uint32)
        k0 = k0 + 0x9E3779B9
        k1 = k1 + 0xBB67AE85
    return c0, c1, c2, c3


@triton.jit
def _product(word, FACTOR: tl.constexpr):
    """Both halves of a product, by one instruction: uint64.

    Of a 64-bit product LLVM makes two instructions where it knows too much of the word.
    """
    if _PTX:
        factor = tl.full((), FACTOR, tl.uint32)
        return tl.inline_asm_elementwise(
            "mul.wide.u32 $0, $1, $2;", "=l,r,r", [word, factor], tl.uint64, is_pure=True, pack=1
        )
    else:
        return word.to(tl.uint64) * FACTOR


@triton.jit
def index_block(index):
    """The block that holds the word of each index."""
    return ((index >> 6) << 4) | (index & 15)


@triton.jit
def index_word(index, w0, w1, w2, w3):
    """Each index's own word of the four of its block."""
    first = tl.where((index & 16) == 0, w0, w1)
    second = tl.where((index & 16) == 0, w2, w3)
    return tl.where((index & 32) == 0, first, second)
