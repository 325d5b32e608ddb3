"""Initializers that a user's function makes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import Tensor

from fanin.errors import ArgumentError
from fanin.fills import Fill, FromFunction, Mapped, Rearranged
from fanin.geometry import Layout
from fanin.initializers.initializer import Initializer, register

__all__ = ["from_function", "mapped"]


def mapped(base: Initializer, function: Callable[[Tensor], Tensor]) -> Initializer:
    """``function`` of every entry that ``base`` would give.

    Each shard computes its own entries, so the function has to work entry by entry; one that
    visibly does not is refused when it draws. It gets float32 (float64 for float64 parameters)
    on the CPU, in pieces, and what it returns is rounded once.

    Args:
        base: any initializer.
        function: from a tensor to one of the same shape. The plan records where it is from, with
            a digest of its source.

    Raises:
        ArgumentError: when ``base`` is no initializer or ``function`` cannot be called.

    Example:
        >>> import torch
        >>> from fanin.initializers import uniform
        >>> def without_small(x):
        ...     return torch.where(x.abs() < 5, 0, x)
        >>> fill = mapped(uniform(-10, 10), without_small).resolve(Layout.linear(4, 3))
        >>> round(fill.moments((4, 3))[1], 1)  # half of the mass at zero: sqrt(17.5 · 10/6)
        5.4
    """
    if not isinstance(base, Initializer):
        raise ArgumentError(
            f"mapped: what is mapped is an initializer. Got {base!r}. "
            "Write for instance mapped(uniform(-1, 1), function)."
        )
    _check_callable("mapped", function)
    return Initializer("mapped", (("base", base), ("function", function)))


def from_function(function: Callable[..., Any]) -> Initializer:
    """Whatever a function of the whole tensor makes: for anything that is not entry by entry.

    It is called as ``function(tensor, generator=generator)``, or without the generator where it
    takes none, and writes into ``tensor`` or returns another: zeros of the whole shape in float32
    (float64 and complex for parameters of these), on the CPU. The generator is seeded by seed and
    name. A shard computes the whole tensor and keeps its part.

    Args:
        function: for instance ``torch.nn.init.orthogonal_``. The plan records where it is from,
            with a digest of its source.

    Raises:
        ArgumentError: when it cannot be called.

    Example:
        >>> from torch import nn
        >>> str(from_function(nn.init.orthogonal_))
        'from_function(function=<orthogonal_>)'
    """
    _check_callable("from_function", function)
    return Initializer("from_function", (("function", function),))


def _check_callable(name: str, function: Any) -> None:
    if not callable(function) or isinstance(function, Initializer):
        raise ArgumentError(
            f"{name}: a function of a tensor. Got {function!r}. Pass it itself, not its name."
        )


def _mapped(layout: Layout, base: Initializer, function: Callable[[Tensor], Tensor]) -> Fill:
    inner = base.resolve(layout)
    if isinstance(inner, Rearranged):
        return Rearranged(Mapped(inner.base, function), inner.dims, inner.groups)
    return Mapped(inner, function)


def _from_function(layout: Layout, function: Callable[..., Any]) -> Fill:
    return FromFunction(function)


register(mapped, _mapped)
register(from_function, _from_function)
