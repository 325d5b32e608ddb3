"""Tensors in whatever a model takes and returns."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Mapping, MutableMapping
from dataclasses import fields, is_dataclass
from typing import Any

from torch import Tensor

from fanin.probing.measuring.statistics import is_measurable

__all__ = ["copied", "measurable", "replaced", "signal", "tensors_in"]


def tensors_in(value: object) -> Iterator[Tensor]:
    """Every tensor in nested tuples, lists, mappings and dataclasses, in their order."""
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, Mapping):
        for item in value.values():
            yield from tensors_in(item)
    elif isinstance(value, tuple | list):
        for item in value:
            yield from tensors_in(item)
    elif is_dataclass(value) and not isinstance(value, type):
        for field in fields(value):
            yield from tensors_in(getattr(value, field.name, None))


def copied(value: object) -> Any:
    """The same with every tensor that `tensors_in` finds copied, and cut off from its graph.

    What appears twice is one copy. A leaf that asks for a gradient is copied to another; what some
    graph returned, to what a new one returns.
    """
    copies: dict[int, Tensor] = {}

    def once(tensor: Tensor) -> Tensor:
        if id(tensor) not in copies:
            copies[id(tensor)] = _copy(tensor)
        return copies[id(tensor)]

    return replaced(value, once)


def replaced(value: Any, new: Callable[[Tensor], Tensor]) -> Any:
    """A container of the same type with another in place of each tensor; itself without any."""
    if isinstance(value, Tensor):
        return new(value)
    if next(tensors_in(value), None) is None:
        return value
    if isinstance(value, tuple | list):
        items = [replaced(item, new) for item in value]
        make = getattr(type(value), "_make", type(value))  # that of a named tuple
        return make(items)
    made = copy.copy(value)
    if isinstance(made, MutableMapping):
        for key, item in value.items():
            made[key] = replaced(item, new)
    elif isinstance(value, Mapping):
        return {key: replaced(item, new) for key, item in value.items()}
    else:
        for field in fields(value):
            item = getattr(value, field.name, None)
            object.__setattr__(made, field.name, replaced(item, new))  # it may be frozen
    return made


def measurable(value: object) -> list[Tensor]:
    """Its tensors of floating-point or complex numbers."""
    return [tensor for tensor in tensors_in(value) if is_measurable(tensor)]


def signal(tensors: list[Tensor]) -> Tensor | None:
    """The one that stands for all of them: the first that is no single number, if there is one.

    An LSTM's output comes before its states, logits come after a loss that is one number.
    """
    return next((t for t in tensors if t.dim()), tensors[0] if tensors else None)


def _copy(tensor: Tensor) -> Tensor:
    detached = tensor.detach()
    if tensor.requires_grad and not tensor.is_leaf:
        return detached.requires_grad_().clone()
    return detached.clone().requires_grad_(tensor.requires_grad)
