"""`Fill`: what a tensor will hold, with every number in it."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from dataclasses import fields
from typing import Any, ClassVar, cast

from fanin.errors import ArgumentError

__all__ = ["Fill", "check_finite", "check_not_negative"]


class Fill(ABC):
    """What a tensor will hold. Frozen, hashable, without shape, dtype or device."""

    __slots__ = ()
    name: ClassVar[str]

    @abstractmethod
    def moments(self, shape: tuple[int, ...]) -> tuple[float, float]:
        """Mean and standard deviation of the entries of a tensor of this shape; nan: unknown."""

    def to_json(self) -> dict[str, Any]:
        """Its name and its fields, the fills inside it likewise."""
        own = {field.name: _plain(getattr(self, field.name)) for field in fields(cast(Any, self))}
        return {"name": self.name, **own}


def check_finite(fill: Fill, **numbers: float) -> None:
    """Refuse infinite numbers and nan."""
    for name, value in numbers.items():
        if not math.isfinite(value):
            raise ArgumentError(f"{fill.name}: {name} must be finite. Got {value}.")


def check_not_negative(fill: Fill, **numbers: float) -> None:
    """Refuse numbers below zero."""
    for name, value in numbers.items():
        if value < 0:
            raise ArgumentError(f"{fill.name}: {name} must not be negative. Got {value}.")


def _plain(value: Any) -> Any:
    if isinstance(value, tuple):
        return [_plain(item) for item in value]
    if isinstance(value, float) and math.isinf(value):
        return str(value)  # JSON has no infinity
    return value.to_json() if hasattr(value, "to_json") else value
