"""A seed for whoever names none."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from fanin.gains.elementwise import apart
from fanin.stream.key import generator_bits

__all__ = ["drawn_seed"]


@contextmanager
def drawn_seed() -> Iterator[int]:
    """64 bits of torch's generator on the CPU, which gets them back where the body raises."""
    # Apart from fake tensors and other modes of the caller.
    before, bits = apart(lambda: (torch.get_rng_state(), generator_bits()), keep_rng=False)
    try:
        yield bits
    except BaseException:
        apart(lambda: torch.set_rng_state(before), keep_rng=False)
        raise
