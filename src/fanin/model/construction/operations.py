"""What torch's operations reserve, write and copy."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cache
from typing import Any

import torch
from torch import Tensor

__all__ = ["COPIES", "COPY", "EMPTY", "FILLS", "LIKE", "places", "tensors_in", "written"]


def tensors_in(values: Sequence[Any]) -> Iterator[Tensor]:
    """The tensors among an operation's arguments, in lists of them as well."""
    for value in values:
        if isinstance(value, Tensor):
            yield value
        elif isinstance(value, list | tuple):
            yield from (item for item in value if isinstance(item, Tensor))


def places(args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> list[tuple[int | str, Any]]:
    """The arguments of an operation, each with its place or its name."""
    return [*enumerate(args), *kwargs.items()]


@cache
def written(func: Any) -> frozenset[int | str]:
    """The arguments that an operation writes to, by place and by name."""
    found: set[int | str] = set()
    for place, argument in enumerate(func._schema.arguments):
        if argument.alias_info is not None and argument.alias_info.is_write:
            found |= {place, argument.name}
    return frozenset(found)


def _overloads(*names: str) -> frozenset[Callable[..., Any]]:
    packets = [getattr(torch.ops.aten, name) for name in names]
    return frozenset(
        getattr(packet, overload) for packet in packets for overload in packet.overloads()
    )


# Operations that only reserve memory.
EMPTY = _overloads(
    "empty", "empty_like", "empty_strided", "empty_permuted", "new_empty", "new_empty_strided"
)
# Copies: of memory that nobody wrote they are memory that nobody wrote.
COPIES = _overloads("clone", "_to_copy")
# Tensors that take over shape and device of another one, and nothing of its values.
LIKE = _overloads(
    *("empty_like", "zeros_like", "ones_like", "full_like"),
    *("rand_like", "randn_like", "randint_like"),
    *("new_empty", "new_empty_strided", "new_zeros", "new_ones", "new_full"),
)
# What initializations are made of: on meta they need not even be called.
FILLS = _overloads("normal_", "uniform_", "zero_", "fill_", "random_", "bernoulli_", "exponential_")
COPY = _overloads("copy_")
