"""Concrete contents of a tensor: distributions and structures with numbers in them.

A fill knows nothing of models and draws nothing; `fanin.drawing.draw` executes it. Numbers that
were derived (a gain, a bound from a fan, a truncation factor) pass through `derived` first, so
that a last-digit difference between two machines' math libraries cannot reach a drawn bit.
"""

from __future__ import annotations

import functools
import math
from abc import ABC, abstractmethod
from dataclasses import dataclass, fields
from typing import Any, ClassVar

import numpy as np

from fanin.errors import ArgumentError
from fanin.stream.laws import derived

__all__ = [
    "Constant",
    "DeltaOrthogonal",
    "Dirac",
    "Eye",
    "Fill",
    "Normal",
    "Orthogonal",
    "Packed",
    "Part",
    "Rearranged",
    "Sparse",
    "TruncNormal",
    "Uniform",
    "derived",
    "truncated_moments",
]


class Fill(ABC):
    """What a tensor will hold. Frozen, hashable, without shape, dtype or device."""

    __slots__ = ()
    name: ClassVar[str]

    @abstractmethod
    def moments(self, shape: tuple[int, ...]) -> tuple[float, float]:
        """Mean and standard deviation of the entries of a tensor of this shape."""

    def to_json(self) -> dict[str, object]:
        """Its name and its fields, the fills inside it likewise."""
        return {"name": self.name, **_plain_fields(self)}


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
        _finite(self, low=self.low, high=self.high)
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
        _finite(self, mean=self.mean, std=self.std)
        _not_negative(self, std=self.std)

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
        _finite(self, mean=self.mean, parent_std=self.parent_std)
        _not_negative(self, parent_std=self.parent_std)
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


@dataclass(frozen=True, slots=True)
class Eye(Fill):
    """The identity matrix times ``gain``; rows or columns beyond the square are zero."""

    gain: float = 1.0
    name: ClassVar[str] = "eye"

    def moments(self, shape: tuple[int, ...]) -> tuple[float, float]:
        return _sparse_moments(self.gain, min(shape), math.prod(shape))


@dataclass(frozen=True, slots=True)
class Dirac(Fill):
    """A convolution kernel that hands its input through: one tap of 1 per channel, per group."""

    groups: int = 1
    name: ClassVar[str] = "dirac"

    def moments(self, shape: tuple[int, ...]) -> tuple[float, float]:
        taps = self.groups * min(shape[0] // self.groups, shape[1])
        return _sparse_moments(1.0, taps, math.prod(shape))


@dataclass(frozen=True, slots=True)
class Orthogonal(Fill):
    """A Haar-distributed matrix with orthonormal rows or columns, times ``gain``.

    ``batch_dims`` leading dims hold one matrix each; the ``row_dims`` dims after them are its
    rows, the remaining ones its columns.
    """

    gain: float = 1.0
    batch_dims: int = 0
    row_dims: int = 1
    name: ClassVar[str] = "orthogonal"

    def moments(self, shape: tuple[int, ...]) -> tuple[float, float]:
        first_column = self.batch_dims + self.row_dims
        rows, columns = shape[self.batch_dims : first_column], shape[first_column:]
        return 0.0, abs(self.gain) / math.sqrt(max(math.prod(rows), math.prod(columns), 1))


@dataclass(frozen=True, slots=True)
class DeltaOrthogonal(Fill):
    """A convolution kernel whose centre tap is orthogonal and whose other taps are zero.

    The kernel is ``(out, in, *k)``; ``batch_dims`` leading dims hold one each.
    """

    gain: float = 1.0
    batch_dims: int = 0
    name: ClassVar[str] = "delta_orthogonal"

    def moments(self, shape: tuple[int, ...]) -> tuple[float, float]:
        rows, columns, *kernel = shape[self.batch_dims :]
        return 0.0, abs(self.gain) / math.sqrt(max(rows, columns, 1) * max(math.prod(kernel), 1))


@dataclass(frozen=True, slots=True)
class Sparse(Fill):
    """``N(0, std²)`` with a fixed number of zeros in each slice along ``dim`` of a matrix.

    ``dim=0`` zeroes ``ceil(sparsity · rows)`` entries of every column (torch's `sparse_`),
    ``dim=1`` ``ceil(sparsity · columns)`` entries of every row (inputs of one output unit).
    """

    sparsity: float
    std: float = 0.01
    dim: int = 0
    name: ClassVar[str] = "sparse"

    def __post_init__(self) -> None:
        _finite(self, std=self.std)
        _not_negative(self, std=self.std)
        if not 0 <= self.sparsity <= 1:
            raise ArgumentError(
                f"sparse: sparsity is the share of zeros, in [0, 1]. Got {self.sparsity}."
            )
        if self.dim not in (0, 1):
            raise ArgumentError(
                f"sparse: dim is 0 (zeros in each column) or 1 (in each row). Got {self.dim}."
            )

    def num_zeros(self, length: int) -> int:
        """Zeros in a slice of ``length`` entries."""
        return math.ceil(self.sparsity * length)

    def moments(self, shape: tuple[int, ...]) -> tuple[float, float]:
        length = shape[self.dim]
        kept = 1 - self.num_zeros(length) / length if length else 1.0
        return 0.0, self.std * math.sqrt(kept)


@dataclass(frozen=True, slots=True)
class Rearranged(Fill):
    """``base`` on another view of the tensor: for axes that are not stored in its order.

    The view is ``tensor.unflatten(0, (groups, -1))`` if ``groups > 1``, then ``permute(dims)``.
    ``base`` sees that view and counts its elements row-major in it.
    """

    base: Fill
    dims: tuple[int, ...]
    groups: int = 1
    name: ClassVar[str] = "rearranged"

    def view_shape(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        """The shape in which ``base`` sees a tensor of this shape."""
        if self.groups > 1:
            shape = (self.groups, shape[0] // self.groups, *shape[1:])
        return tuple(shape[dim] for dim in self.dims)

    def moments(self, shape: tuple[int, ...]) -> tuple[float, float]:
        return self.base.moments(self.view_shape(shape))


@dataclass(frozen=True, slots=True)
class Part:
    """Positions ``start`` to ``stop`` along the dim of a `Packed`, and what they hold."""

    name: str
    start: int
    stop: int
    fill: Fill


@dataclass(frozen=True, slots=True)
class Packed(Fill):
    """Parts that lie side by side along ``dim``, each drawn as a tensor of its own.

    A part's stream is ``key.part(name)``, and its elements are counted row-major in the part, so
    that a part's values do not depend on what it is packed with.
    """

    dim: int
    parts: tuple[Part, ...]
    name: ClassVar[str] = "packed"

    def moments(self, shape: tuple[int, ...]) -> tuple[float, float]:
        mean = square = 0.0
        for part in self.parts:
            size = part.stop - part.start
            m, s = part.fill.moments((*shape[: self.dim], size, *shape[self.dim + 1 :]))
            share = size / max(shape[self.dim], 1)
            mean += share * m
            square += share * (s * s + m * m)
        return mean, math.sqrt(max(square - mean * mean, 0.0))


def truncated_moments(alpha: float, beta: float) -> tuple[float, float]:
    """Mean and std of a standard normal conditioned on ``[alpha, beta]``, also far in a tail.

    The mean is ``(φ(α) − φ(β)) / (Φ(β) − Φ(α))``. Forming the variance from it cancels in a tail
    and on a narrow interval, so it is the integral of ``(x − mean)²``, by Gauss-Legendre panels:
    a sum of positive terms. Relative error at most 1e-12.
    """
    if alpha == beta:
        return alpha, 0.0
    if abs(alpha) > abs(beta):
        mean, std = truncated_moments(-beta, -alpha)
        return -mean, std
    if math.isinf(alpha):
        return 0.0, 1.0
    # The density relative to its peak, at the bound or at 0; beyond exp(-50) it is nothing.
    peak = max(alpha, 0.0)
    lowest, highest = max(alpha, -10.0), min(beta, math.hypot(peak, 10.0))
    nodes, weights = _panels()
    t = (highest - lowest) * nodes  # distance from `lowest`: exact where x itself would round
    gap = lowest - peak
    density = weights * np.exp(-0.5 * (t + gap) * (t + gap + 2 * peak))
    mass = float(density.sum())
    center = float(density @ t) / mass
    variance = float(density @ np.square(t - center)) / mass
    edge = math.exp(-0.5 * (alpha - peak) * (alpha + peak))
    mean = edge * -math.expm1(-0.5 * (beta - alpha) * (alpha + beta)) / (mass * (highest - lowest))
    return mean, math.sqrt(variance)


@functools.cache
def _panels() -> tuple[np.ndarray, np.ndarray]:
    """Nodes and weights on [0, 1]: 8 panels of 20 points, each at most 2.5 standard deviations."""
    nodes, weights = np.polynomial.legendre.leggauss(20)
    starts = np.arange(8)[:, None] / 8
    return (starts + (nodes + 1) / 16).ravel(), np.tile(weights / 16, 8)


def _plain_fields(data: Any) -> dict[str, object]:
    return {field.name: _plain(getattr(data, field.name)) for field in fields(data)}


def _plain(value: object) -> object:
    if isinstance(value, Fill):
        return value.to_json()
    if isinstance(value, Part):
        return _plain_fields(value)
    return [_plain(item) for item in value] if isinstance(value, tuple) else value


def _sparse_moments(value: float, count: int, total: int) -> tuple[float, float]:
    share = count / total if total else 0.0
    return value * share, abs(value) * math.sqrt(share * (1 - share))


def _finite(fill: Fill, **numbers: float) -> None:
    for name, value in numbers.items():
        if not math.isfinite(value):
            raise ArgumentError(f"{fill.name}: {name} must be finite. Got {value}.")


def _not_negative(fill: Fill, **numbers: float) -> None:
    for name, value in numbers.items():
        if value < 0:
            raise ArgumentError(f"{fill.name}: {name} must not be negative. Got {value}.")
