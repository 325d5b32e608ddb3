"""How a fill reaches a tensor: by pointer, through a buffer, or as an operator."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache

import torch
from torch import Generator, Tensor
from torch.compiler import is_compiling

from fanin.drawing.dispatch import draw
from fanin.drawing.elementwise import fill_plain
from fanin.drawing.householder import is_small
from fanin.drawing.operator import checked_fill, draw_whole, fill_
from fanin.drawing.orthogonal import compute_dtype, fill_plain_matrix
from fanin.drawing.targets import (
    check_vmap_randomness,
    check_writable,
    is_plain,
    needs_dispatcher,
)
from fanin.errors import ArgumentError, DtypeError
from fanin.fills import Fill, derived
from fanin.geometry import FSDP1_MARK, Region
from fanin.init.checks import NumberError, as_torch, check_strided
from fanin.stream import Key
from fanin.stream.key import generator_bits
from fanin.stream.laws import Law, normal_law, truncated_law, uniform_law

__all__ = ["write", "write_elementwise", "write_orthogonal", "write_structure"]


def write_elementwise(
    tensor: Tensor, name: str, numbers: tuple[float, ...], generator: Generator | None
) -> Tensor:
    """`write`, without its overhead where memory is all there is to the tensor."""
    if not _is_only_memory(tensor) or not tensor.is_floating_point():
        return write(tensor, name, numbers, generator)
    try:
        law = _LAWS[name](*numbers, tensor.dtype)
    except (ArgumentError, DtypeError) as error:
        raise as_torch(error) from None
    fill_plain(law, generator_bits(generator), tensor)
    return tensor


def write_orthogonal(tensor: Tensor, gain: float, generator: Generator | None) -> Tensor:
    """`write`, without its overhead where memory is all there is to a small matrix."""
    if not _is_only_memory(tensor) or not is_small(tensor.numel(), tensor.dtype, tensor.device):
        return write(tensor, "orthogonal", (gain, 0.0), generator)
    try:
        compute_dtype(tensor.dtype, gain)
    except ArgumentError as error:
        raise as_torch(error) from None
    fill_plain_matrix(gain, Key.from_generator(generator), tensor)
    return tensor


def write(
    tensor: Tensor, name: str, numbers: tuple[float, ...], generator: Generator | None
) -> Tensor:
    """Draw the fill ``name(*numbers)`` into any tensor that torch itself could fill.

    Of a DTensor each process fills what it holds; all take their bits from generators of their
    own, and have parts of one tensor where these are in one state.

    A refused call writes nothing and takes nothing from the generator.

    Raises:
        NumberError: the dtype holds no value of the distribution; ``generator`` when compiling.
        KernelError: the dtype or layout takes no random numbers.
        WriteError: torch too refuses to write this tensor in place, or it is a part of one.
    """
    if is_compiling():
        _write_compiled(tensor, name, numbers, generator)
        return tensor
    try:
        fill = checked_fill(name, numbers, tensor.dtype)
    except (ArgumentError, DtypeError) as error:
        raise as_torch(error) from None
    if needs_dispatcher(tensor):
        check_vmap_randomness(tensor)
        with torch.no_grad():
            fill_(tensor, name, numbers, generator)
    elif not tensor.is_meta:
        check_strided(name, tensor)
        check_writable(name, tensor)
        if tensor.numel():
            with torch.no_grad():
                draw_whole(name, fill, Key.from_generator(generator), tensor)
    return tensor


def write_structure(tensor: Tensor, name: str, fill: Fill) -> None:
    """Write a fill without random numbers into what this process holds of a DTensor."""
    check_writable(name, tensor)
    draw(fill, Key(0, name), Region.of(tensor), tensor)


def _is_only_memory(tensor: Tensor) -> bool:
    """Whether a pointer may be written, of what is no piece: of those only `write` knows."""
    return not is_compiling() and is_plain(tensor) and not getattr(tensor, FSDP1_MARK, False)


def _write_compiled(
    tensor: Tensor, name: str, numbers: tuple[float, ...], generator: Generator | None
) -> None:
    if generator is not None:
        raise NumberError(
            f"{name}: a compiled function draws from torch's default generator. Got generator= "
            "inside torch.compile. Leave it out and call torch.manual_seed, or fill before."
        )
    with torch.no_grad():
        fill_(tensor, name, numbers)


@lru_cache(maxsize=1024)
def _scaled_uniform_law(bound: float, dtype: torch.dtype) -> Law:
    bound = derived(bound)
    return uniform_law(-bound, bound, dtype)


@lru_cache(maxsize=1024)
def _scaled_normal_law(std: float, dtype: torch.dtype) -> Law:
    return normal_law(0.0, derived(std), dtype)


# The laws of the operator's elementwise fills, kept for the next call.
_LAWS: dict[str, Callable[..., Law]] = {
    "uniform": uniform_law,
    "scaled_uniform": _scaled_uniform_law,
    "normal": normal_law,
    "scaled_normal": _scaled_normal_law,
    "trunc_normal": truncated_law,
}
