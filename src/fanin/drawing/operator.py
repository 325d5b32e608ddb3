"""``fanin::fill_``: a fill as one opaque operator, for those who must see an operation.

Compilers keep it whole (fused arithmetic would change bits), fake tensors skip it, vmap has a
rule, and dispatch modes and wrapper subclasses meet it by name. The generator is read where the
operator runs, so a compiled function gets fresh numbers at every call.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Generator, Tensor

from fanin.drawing.dispatch import draw
from fanin.drawing.elementwise import law_of
from fanin.drawing.orthogonal import compute_dtype
from fanin.errors import DtypeError, FaninError
from fanin.fills import Fill, Normal, Orthogonal, Sparse, TruncNormal, Uniform, derived
from fanin.geometry import Region, local_tensor
from fanin.stream import Key

__all__ = ["BatchError", "checked_fill", "draw_whole", "fill_"]


class BatchError(FaninError, RuntimeError):
    """Vmap was not told what one random fill means to a batch, or it cannot mean that."""


def _scaled_uniform(bound: float) -> Uniform:
    bound = derived(bound)
    return Uniform(-bound, bound)


# What the operator's arguments may say. The scaled forms take numbers that a compiler formed from
# shapes, perhaps symbolically, and round them here.
_BUILDERS: dict[str, Callable[..., Fill]] = {
    "uniform": Uniform,
    "scaled_uniform": _scaled_uniform,
    "normal": Normal,
    "scaled_normal": lambda std: Normal(0.0, derived(std)),
    "trunc_normal": TruncNormal,
    "orthogonal": lambda gain, batch_dims: Orthogonal(gain, int(batch_dims)),
    "sparse": Sparse,
}


def checked_fill(name: str, numbers: Sequence[float], dtype: torch.dtype) -> Fill:
    """The fill that these arguments stand for, which a tensor of this dtype can hold.

    Raises:
        ArgumentError: the numbers make no distribution, or none with a value of the dtype.
        DtypeError: the dtype takes no random numbers.
    """
    fill = _BUILDERS[name](*numbers)
    if not (dtype.is_floating_point or dtype.is_complex):
        raise DtypeError(
            f"{name}: random numbers need a floating-point or complex tensor. Got {dtype}. "
            "Fill a float32 tensor, then convert it."
        )
    if isinstance(fill, Orthogonal):
        compute_dtype(dtype, fill.gain)
    else:
        drawn = Normal(0.0, fill.std) if isinstance(fill, Sparse) else fill
        law_of(drawn, dtype.to_real(), parts=2 if dtype.is_complex and name != "uniform" else 1)
    return fill


def draw_whole(name: str, fill: Fill, key: Key, out: Tensor) -> None:
    """Draw the fill of this name into a tensor, of a DTensor into what this process holds.

    ``uniform`` means to a complex tensor what it means in torch: each part in ``[low, high)``.
    Everything else is scaled, so that the parts share the variance.
    """
    if name == "uniform" and out.is_complex():
        region = Region.of(out)
        local = local_tensor(out, region.local_shape)
        parts = torch.view_as_real(local.resolve_conj())
        draw(fill, key, region.with_parts(2), parts)
        if local.is_conj():
            local.copy_(torch.view_as_complex(parts))
    else:
        draw(fill, key, Region.of(out), out)


# The second tag: a graph that a compiler captured would repeat the key of its capture.
@torch.library.custom_op(
    "fanin::fill_",
    mutates_args=("out",),
    schema="(Tensor(a!) out, str name, float[] numbers, Generator? generator=None) -> ()",
    tags=(torch.Tag.nondeterministic_seeded, torch.Tag.cudagraph_unsafe),
)
def fill_(
    out: Tensor, name: str, numbers: Sequence[float], generator: Generator | None = None
) -> None:
    """Draw the fill into ``out`` with the next 64 bits of the generator."""
    draw_whole(name, checked_fill(name, numbers, out.dtype), Key.from_generator(generator), out)


@fill_.register_fake
def _check_only(
    out: Tensor, name: str, numbers: Sequence[float], generator: Generator | None = None
) -> None:
    """A tensor without memory takes nothing from the generator; bad arguments are told early."""
    if all(type(number) is float for number in numbers):  # not when a compiler's are symbolic
        checked_fill(name, numbers, out.dtype)


@fill_.register_vmap
def _fill_batched(
    info: Any,
    in_dims: tuple[Any, ...],
    out: Tensor,
    name: str,
    numbers: Sequence[float],
    generator: Generator | None = None,
) -> tuple[None, None]:
    """``randomness="different"``: the batch is one more leading dim; ``"same"``: one sample."""
    if info.randomness == "error":
        raise BatchError(
            f"{name}: vmap must be told what random numbers mean to a batch. Got its default, "
            'randomness="error". Pass randomness="different" or "same" to torch.vmap.'
        )
    batch = out.movedim(in_dims[0], 0)
    if info.randomness == "different":
        _fill_different(batch, name, numbers, generator)
    elif len(batch):
        sample = torch.empty_like(batch[0])
        fill_(sample, name, numbers, generator)
        batch.copy_(sample.expand_as(batch))
    return None, None


def _fill_different(
    batch: Tensor, name: str, numbers: Sequence[float], generator: Generator | None
) -> None:
    if name == "sparse":  # it is made for matrices: each takes its own bits
        for matrix in batch.unbind():
            fill_(matrix, name, numbers, generator)
    elif name == "orthogonal":
        gain, batch_dims = numbers
        fill_(batch, name, [gain, batch_dims + 1], generator)
    else:
        fill_(batch, name, numbers, generator)
