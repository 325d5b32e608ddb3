"""Every element on its own: uniform, normal, truncated normal, and constants."""

from __future__ import annotations

import warnings
from math import inf

import torch
from torch import Generator, Tensor
from torch.compiler import is_compiling
from torch.overrides import handle_torch_function, has_torch_function_unary

from fanin.drawing.targets import check_whole
from fanin.init.checks import NumberError, number
from fanin.init.writing import write_elementwise

__all__ = [
    "constant_",
    "normal_",
    "ones_",
    "trunc_normal_",
    "uniform_",
    "zeros_",
]


def uniform_(
    tensor: Tensor, a: float = 0.0, b: float = 1.0, generator: Generator | None = None
) -> Tensor:
    """Fill with numbers uniform on ``[a, b)``, in place.

    Args:
        tensor: any shape; of a complex one both parts are filled.
        a: lower bound, drawn.
        b: upper bound, never drawn; all elements are ``a`` when it equals ``a``.
        generator: where the 64 bits of the key come from (default: torch's on the CPU).

    Returns:
        ``tensor``.

    Raises:
        ArgumentError: ``a > b``, or the dtype holds no value in between (also a RuntimeError).
        DtypeError: for integers (also a NotImplementedError).

    Example:
        >>> w = uniform_(torch.empty(3, 5), -1.0, 1.0)
        >>> bool((w.abs() <= 1).all())
        True
    """
    if has_torch_function_unary(tensor):
        return handle_torch_function(
            uniform_, (tensor,), tensor=tensor, a=a, b=b, generator=generator
        )
    if type(a) is not float or type(b) is not float:
        a, b = number(a), number(b)
    if not a <= b:
        raise NumberError(f"uniform_: the interval is [a, b). Got a={a}, b={b}. Swap the two.")
    return write_elementwise(tensor, "uniform", (a, b), generator)


def normal_(
    tensor: Tensor, mean: float = 0.0, std: float = 1.0, generator: Generator | None = None
) -> Tensor:
    """Fill with normal numbers, in place.

    Args:
        tensor: any shape; each part of a complex one has variance ``std² / 2``.
        mean: finite.
        std: finite, zero or more.
        generator: where the 64 bits of the key come from (default: torch's on the CPU).

    Returns:
        ``tensor``.

    Raises:
        ArgumentError: ``std < 0`` (also a RuntimeError).
        DtypeError: for integers (also a NotImplementedError).

    Example:
        >>> bool((normal_(torch.empty(3, 5), 2.0, 0.0) == 2).all())
        True
    """
    if has_torch_function_unary(tensor):
        return handle_torch_function(
            normal_, (tensor,), tensor=tensor, mean=mean, std=std, generator=generator
        )
    if type(mean) is not float or type(std) is not float:
        mean, std = number(mean), number(std)
    if not (0 <= std < inf and -inf < mean < inf):
        raise NumberError(
            f"normal_: mean and std are finite, std zero or more. Got mean={mean}, std={std}."
        )
    return write_elementwise(tensor, "normal", (mean, std), generator)


def trunc_normal_(
    tensor: Tensor,
    mean: float = 0.0,
    std: float = 1.0,
    a: float = -2.0,
    b: float = 2.0,
    generator: Generator | None = None,
) -> Tensor:
    """Fill with normal numbers conditioned on ``[a, b]``, in place.

    The bounds are absolute and ``std`` is of the normal before truncation, as in torch; the
    description `fanin.initializers.trunc_normal` has bounds in σ and the std of the result.

    Args:
        tensor: any shape; parts of a complex one have ``std / √2`` and the same bounds.
        mean: of the normal before truncation.
        std: of the normal before truncation, zero or more.
        a: lower bound, within 12 std above the mean.
        b: upper bound, within 12 std below the mean.
        generator: where the 64 bits of the key come from (default: torch's on the CPU).

    Returns:
        ``tensor``.

    Raises:
        ArgumentError: ``std < 0``, ``a > b``, no value of the dtype in ``[a, b]``, or the nearer
            bound more than 12 std from the mean (also a RuntimeError).
        DtypeError: for integers (also a NotImplementedError).

    Example:
        >>> w = trunc_normal_(torch.empty(3, 5), std=0.02, a=-0.04, b=0.04)
        >>> bool((w.abs() <= 0.04).all())
        True
    """
    if has_torch_function_unary(tensor):
        return handle_torch_function(
            trunc_normal_,
            (tensor,),
            tensor=tensor,
            mean=mean,
            std=std,
            a=a,
            b=b,
            generator=generator,
        )
    mean, std, a, b = number(mean), number(std), number(a), number(b)
    if not (0 <= std < inf and -inf < mean < inf):
        raise NumberError(
            f"trunc_normal_: mean and std are finite, std zero or more. Got mean={mean}, std={std}."
        )
    if not a <= b:
        raise NumberError(f"trunc_normal_: the bounds are a <= b. Got a={a}, b={b}. Swap the two.")
    if mean < a - 2 * std or mean > b + 2 * std:
        warnings.warn(
            f"trunc_normal_: the mean {mean} is more than 2 std outside [{a}, {b}], so the values "
            "crowd at the nearer bound. The bounds are absolute, not multiples of std.",
            stacklevel=2,
        )
    return write_elementwise(tensor, "trunc_normal", (mean, std, a, b), generator)


def constant_(tensor: Tensor, val: float) -> Tensor:
    """Fill with ``val``, in place, and return ``tensor``."""
    if has_torch_function_unary(tensor):
        return handle_torch_function(constant_, (tensor,), tensor=tensor, val=val)
    if not is_compiling():
        check_whole("constant_", tensor)
    with torch.no_grad():
        return tensor.fill_(val)


def ones_(tensor: Tensor) -> Tensor:
    """Fill with ones, in place, and return ``tensor``."""
    if has_torch_function_unary(tensor):
        return handle_torch_function(ones_, (tensor,), tensor=tensor)
    if not is_compiling():
        check_whole("ones_", tensor)
    with torch.no_grad():
        return tensor.fill_(1.0)


def zeros_(tensor: Tensor) -> Tensor:
    """Fill with zeros, in place, and return ``tensor``."""
    if has_torch_function_unary(tensor):
        return handle_torch_function(zeros_, (tensor,), tensor=tensor)
    if not is_compiling():
        check_whole("zeros_", tensor)
    with torch.no_grad():
        return tensor.zero_()
