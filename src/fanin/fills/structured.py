"""Structures: entries that belong together."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

from fanin.errors import ArgumentError
from fanin.fills.fill import Fill, check_finite, check_not_negative

__all__ = ["DeltaOrthogonal", "Dirac", "Eye", "Orthogonal", "Sparse"]


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
        check_finite(self, std=self.std)
        check_not_negative(self, std=self.std)
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


def _sparse_moments(value: float, count: int, total: int) -> tuple[float, float]:
    share = count / total if total else 0.0
    return value * share, abs(value) * math.sqrt(share * (1 - share))
