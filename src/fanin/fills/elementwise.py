"""Distributions: every entry is drawn on its own."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

from fanin.errors import ArgumentError
from fanin.fills.fill import Fill, check_finite, check_not_negative
from fanin.fills.truncation import truncated_moments

__all__ = ["Constant", "Normal", "TruncNormal", "Uniform"]


@dataclass(frozen=True, slots=True)
class Constant(Fill):
    """Every entry is ``value``."""

    value: float
    name: ClassVar[str] = "constant"

    def moments(self, shape: tuple[int, ...]) -> tuple[float, float]:
        return float(self.value), 0.0


@dataclass(frozen=True, slots=True)
class Uniform(Fill):
    """Entries uniform on ``[low, high)``."""

    low: float = 0.0
    high: float = 1.0
    name: ClassVar[str] = "uniform"

    def __post_init__(self) -> None:
        check_finite(self, low=self.low, high=self.high)
        if self.low > self.high:
            raise ArgumentError(
                f"uniform: low must not be above high. Got low={self.low}, high={self.high}. "
                "Swap the two bounds."
            )

    def moments(self, shape: tuple[int, ...]) -> tuple[float, float]:
        return (self.low + self.high) / 2, (self.high - self.low) / math.sqrt(12)


@dataclass(frozen=True, slots=True)
class Normal(Fill):
    """Entries normal with this mean and standard deviation."""

    mean: float = 0.0
    std: float = 1.0
    name: ClassVar[str] = "normal"

    def __post_init__(self) -> None:
        check_finite(self, mean=self.mean, std=self.std)
        check_not_negative(self, std=self.std)

    def moments(self, shape: tuple[int, ...]) -> tuple[float, float]:
        return self.mean, self.std


@dataclass(frozen=True, slots=True)
class TruncNormal(Fill):
    """Entries of ``N(mean, parent_std²)`` conditioned on ``[low, high]`` (absolute bounds)."""

    mean: float
    parent_std: float
    low: float
    high: float
    name: ClassVar[str] = "trunc_normal"

    def __post_init__(self) -> None:
        check_finite(self, mean=self.mean, parent_std=self.parent_std)
        check_not_negative(self, parent_std=self.parent_std)
        if not self.low <= self.high:
            raise ArgumentError(
                f"trunc_normal: the lower bound must not be above the upper one. "
                f"Got [{self.low}, {self.high}]. Swap the two bounds."
            )

    @property
    def std(self) -> float:
        """Standard deviation of the result, after truncation."""
        return self.moments(())[1]

    def moments(self, shape: tuple[int, ...]) -> tuple[float, float]:
        if self.parent_std == 0:
            return min(max(self.mean, self.low), self.high), 0.0
        alpha = (self.low - self.mean) / self.parent_std
        beta = (self.high - self.mean) / self.parent_std
        mean, std = truncated_moments(alpha, beta)
        return self.mean + self.parent_std * mean, self.parent_std * std
