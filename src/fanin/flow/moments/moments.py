"""What is known of a tensor before anything runs: averages over the draw of the weights."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

__all__ = ["Incoming", "Moments", "ParameterMoments"]


@dataclass(frozen=True, slots=True)
class Moments:
    """Averages of products of a tensor's entries, over its entries and over the draw of weights.

    Different features (channels) count as independent but for the mean they have in common. The
    last three say how far entries of one feature agree; they are not centred.

    Args:
        mean: E x.
        second: E x².
        neighbours: E x x' at adjacent positions (pixels, tokens) of one sample.
        positions: E x x' at two positions of one sample, averaged over all pairs.
        samples: E x x' of two samples of the batch.

    Example:
        >>> Moments.independent(mean=1.0, second=5.0).std
        2.0
        >>> Moments.constant(3.0).samples
        9.0
    """

    mean: float
    second: float
    neighbours: float
    positions: float
    samples: float

    @classmethod
    def independent(cls, *, mean: float, second: float) -> Moments:
        """Of entries without anything in common but their mean."""
        return cls(mean, second, mean**2, mean**2, mean**2)

    @classmethod
    def shared(cls, *, mean: float, second: float) -> Moments:
        """Of one number for each feature, the same for all positions and samples."""
        return cls(mean, second, second, second, second)

    @classmethod
    def constant(cls, value: float) -> Moments:
        """Of one number everywhere."""
        return cls.shared(mean=value, second=value**2)

    @property
    def pairs(self) -> tuple[float, float, float]:
        """The products of entries: of neighbours, positions, samples."""
        return self.neighbours, self.positions, self.samples

    @property
    def variance(self) -> float:
        """About the mean."""
        return max(self.second - self.mean**2, 0.0)

    @property
    def std(self) -> float:
        """About the mean."""
        return math.sqrt(self.variance)

    @property
    def rms(self) -> float:
        """Root of the second moment."""
        return math.sqrt(max(self.second, 0.0))

    @property
    def correlations(self) -> tuple[float, float, float]:
        """Of the pairs, between -1 and 1."""
        if self.variance <= 1e-14 * self.second:
            return 1.0, 1.0, 1.0
        neighbours, positions, samples = (
            min(max((pair - self.mean**2) / self.variance, -1.0), 1.0) for pair in self.pairs
        )
        return neighbours, positions, samples

    def scaled(self, factor: float) -> Moments:
        """Of the tensor times a number whose square is ``factor``; gradients too."""
        root = math.sqrt(factor)
        return Moments(self.mean * root, *(factor * each for each in (self.second, *self.pairs)))

    def plus(self, other: Moments) -> Moments:
        """Of the sum with an independent tensor."""
        cross = 2 * self.mean * other.mean
        pairs = (a + b + cross for a, b in zip(self.pairs, other.pairs, strict=True))
        return Moments(self.mean + other.mean, self.second + other.second + cross, *pairs)

    def times(self, other: Moments) -> Moments:
        """Of the product with an independent tensor."""
        pairs = (a * b for a, b in zip(self.pairs, other.pairs, strict=True))
        return Moments(self.mean * other.mean, self.second * other.second, *pairs)

    @staticmethod
    def mixture(parts: Sequence[Moments], shares: Sequence[float]) -> Moments:
        """Of a tensor put together from parts of these shares."""

        def mixed(values: list[float]) -> float:
            return sum(share * value for share, value in zip(shares, values, strict=True))

        columns = zip(*((part.mean, part.second, *part.pairs) for part in parts), strict=True)
        return Moments(*(mixed(list(column)) for column in columns))


@dataclass(frozen=True, slots=True)
class ParameterMoments:
    """How a parameter is drawn: independent entries of one mean and one std.

    Args:
        mean: of the entries.
        std: about it.
        parts: of equal slices along the first dim, such as the gates of a recurrent layer, where
            they are drawn in different ways.
        is_orthogonal: whether rows or columns are orthogonal and of one length, so that a matrix
            that is not wider than high keeps lengths exactly.
    """

    mean: float
    std: float
    parts: tuple[ParameterMoments, ...] = ()
    is_orthogonal: bool = False

    @property
    def second(self) -> float:
        """E w²."""
        return self.mean**2 + self.std**2


@dataclass(frozen=True, slots=True)
class Incoming:
    """What a parameter meets where it is first used.

    With weights of mean 0, the second moment of the result is ``terms * std**2 * moments.second``
    (and what a bias adds).

    Args:
        moments: of the tensor that the parameter is combined with.
        terms: how many products one entry of the result sums, without those that are padding.
    """

    moments: Moments
    terms: float
