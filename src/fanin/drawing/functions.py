"""Users' functions: applied entry by entry to a fill, or given the whole tensor."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from fanin.drawing.capturing import check_not_capturing
from fanin.drawing.elementwise import draw_elementwise
from fanin.fills import FromFunction, Mapped, Normal, TruncNormal, Uniform
from fanin.fills.functions import call
from fanin.geometry import Region
from fanin.stream import Key
from fanin.stream.narrow import FORMATS, narrow

__all__ = ["draw_from_function", "draw_mapped"]

Draw = Callable[[Any, Key, Region, Tensor], None]

# Elements that a mapped function sees at a time. Rounding them to a narrow dtype takes ten times
# their memory for a moment; eight times as many take more than twice as long.
_CHUNK = 1 << 17


def draw_mapped(fill: Mapped, key: Key, region: Region, out: Tensor, draw: Draw) -> None:
    """Draw the base in float32 or better, apply the function, round once into ``out``.

    Raises:
        ArgumentError: while a CUDA graph is captured.
    """
    check_not_capturing(out.device, "what a function made on the CPU", fill.name)
    dtype = _working_dtype(out.dtype)
    if isinstance(fill.base, Uniform | Normal | TruncNormal):
        draw, limit = draw_elementwise, _CHUNK
    else:
        limit = max(region.numel, 1)  # a structure costs the same for each piece: one piece
    for piece, part in region.split(limit):
        buffer = torch.empty(part.local_shape, dtype=dtype, device="cpu")
        draw(fill.base, key, part, buffer)
        for place, _ in Region.whole(buffer.shape).split(_CHUNK):
            _store(fill.apply(buffer[place]), out[piece][place])


def draw_from_function(fill: FromFunction, key: Key, region: Region, out: Tensor) -> None:
    """Call the function on a whole tensor on the CPU, and copy what is held of it.

    It gets a generator seeded by the key; torch's own one, which it may use all the same, is
    seeded likewise and restored.

    Raises:
        ArgumentError: while a CUDA graph is captured.
    """
    check_not_capturing(out.device, "what a function made on the CPU", fill.name)
    seed = key.value - 2**64 if key.value >= 2**63 else key.value
    whole = torch.zeros(region.shape, dtype=_working_dtype(out.dtype), device="cpu")
    named = {}
    if _takes_generator(fill.function):
        named["generator"] = torch.Generator().manual_seed(seed)
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        value = call(fill, region.shape, whole, **named)
    if not region.is_whole:
        for dim in range(value.dim()):
            value = value.index_select(dim, region.indices(dim))
    _store(value, out)


def _takes_generator(function: Callable[..., Any]) -> bool:
    try:
        parameters = inspect.signature(function).parameters.values()
    except (TypeError, ValueError):  # some builtins have none
        return False
    return any(p.name == "generator" or p.kind is p.VAR_KEYWORD for p in parameters)


def _working_dtype(dtype: torch.dtype) -> torch.dtype:
    return dtype if dtype.is_complex or dtype == torch.float64 else torch.float32


def _store(value: Tensor, out: Tensor) -> None:
    """Copy, rounding as the stream does; what is not finite stays so."""
    if value.dtype != torch.float32 or out.dtype not in FORMATS:
        out.copy_(value)
        return
    for piece, _ in Region.whole(out.shape).split(_CHUNK):
        exact = value[piece].contiguous()
        finite = exact.isfinite()
        if finite.all():
            rounded = narrow(exact, out.dtype)
        else:
            bits = torch.int16 if out.itemsize == 2 else torch.int8
            kept = exact.to(out.dtype).view(bits)
            rounded = narrow(exact.where(finite, 0.0), out.dtype).view(bits)
            rounded = rounded.where(finite, kept).view(out.dtype)
        out[piece].copy_(rounded)
