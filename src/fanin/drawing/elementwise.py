"""Elementwise fills: every element is a function of its own index."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.autograd.graph import increment_version

from fanin import stream
from fanin.errors import DtypeError
from fanin.fills import Fill, Normal, TruncNormal, Uniform, derived
from fanin.geometry import Region
from fanin.stream import Key, laws, native

__all__ = ["draw_elementwise", "fill_plain", "law_of"]

_ONE_THREAD = 1 << 17  # elements up to which a second thread costs more than it saves


def draw_elementwise(fill: Fill, key: Key, region: Region, out: Tensor) -> None:
    """Write the region's elements into ``out``: contiguous on the CPU, or `is_reachable`."""
    if not (out.is_floating_point() or out.is_complex()):
        raise DtypeError(
            f"{fill.name}: random values need a floating-point or complex tensor. Got "
            f"{str(out.dtype).removeprefix('torch.')}. Initialise in float32, then convert."
        )
    if out.is_complex():
        # The parts are the real elements 2i and 2i + 1.
        law = law_of(fill, out.dtype.to_real(), parts=2)
        stream.fill(law, key.value, region.with_parts(2), torch.view_as_real(out))
    else:
        stream.fill(law_of(fill, out.dtype), key.value, region, out)


def fill_plain(law: laws.Law, key: int, tensor: Tensor) -> None:
    """Write a law into a whole real tensor that `is_plain`, at the least cost a call."""
    count = tensor.numel()
    if count <= _ONE_THREAD and stream.native_is_active():
        native.fill_flat(law, key, tensor.data_ptr(), count)
    else:
        with torch.no_grad():  # the reference engine writes with torch operations
            stream.fill(law, key, Region.whole(tensor.shape), tensor)
    increment_version(tensor)


def law_of(fill: Fill, dtype: torch.dtype, *, parts: int = 1) -> laws.Law:
    """The law that draws a fill; with two parts (complex) each carries half of the variance."""
    match fill:
        case Uniform(low, high):
            if parts > 1:
                middle, half = (low + high) / 2, _shared((high - low) / 2, parts)
                low, high = middle - half, middle + half
            return laws.uniform_law(low, high, dtype)
        case Normal(mean, std):
            return laws.normal_law(mean, _shared(std, parts), dtype)
        case TruncNormal(mean, std, low, high):
            return laws.truncated_law(mean, _shared(std, parts), low, high, dtype)
    raise TypeError(f"no law for {fill!r}")


def _shared(spread: float, parts: int) -> float:
    return derived(spread / math.sqrt(parts)) if parts > 1 else spread
