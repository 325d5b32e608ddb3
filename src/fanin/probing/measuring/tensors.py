"""Tensors in whatever a model takes and returns."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import fields, is_dataclass

from torch import Tensor

from fanin.probing.measuring.statistics import is_measurable

__all__ = ["measurable", "signal", "tensors_in"]


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


def measurable(value: object) -> list[Tensor]:
    """Its tensors of floating-point or complex numbers."""
    return [tensor for tensor in tensors_in(value) if is_measurable(tensor)]


def signal(tensors: list[Tensor]) -> Tensor | None:
    """The one that stands for all of them: the first that is no single number, if there is one.

    An LSTM's output comes before its states, logits come after a loss that is one number.
    """
    return next((t for t in tensors if t.dim()), tensors[0] if tensors else None)
