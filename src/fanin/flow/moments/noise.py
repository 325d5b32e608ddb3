"""Finite width: how far one draw of the weights strays from the average over all draws."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

__all__ = ["Noise"]


@dataclass(frozen=True, slots=True, eq=False)
class Noise:
    """Of the logarithm of a tensor's second moment, as one draw of weights has it.

    A layer that sums over n features sees their mean square, not its average: off by a factor of
    relative variance f / n, where f = E x⁴ / (E x²)² - 1 (2 for normal numbers, 5 after a ReLU).
    The logarithm of the signal's size takes a random step there, of that variance and of mean
    -f / 2n, since the factor is 1 on average. Steps are kept apart by the layer they come from, so
    that signals with common ancestors add up and divide out as they should.

    Two samples that have nothing in common by their moments still point to the same side by chance,
    more so with each layer: in the end one draw of weights stretches all samples alike.

    Args:
        drift: mean of the logarithm.
        steps: what each layer so far adds to the logarithm, one standard deviation of each.
        alignment: square of the correlation that two samples or positions have by chance.
    """

    drift: float
    steps: np.ndarray
    alignment: float = 0.0

    @classmethod
    def none(cls) -> Noise:
        """Of a tensor whose size is known."""
        return _NONE

    @staticmethod
    def combined(parts: Iterable[tuple[float, Noise]]) -> Noise:
        """Of a function whose second moment goes like products of powers of theirs."""
        chosen = [(power, noise) for power, noise in parts if power and not noise.is_none]
        if not chosen:
            return _NONE
        steps = np.zeros(max(len(noise.steps) for _, noise in chosen))
        for power, noise in chosen:
            steps[: len(noise.steps)] += power * noise.steps
        drift = sum(power * noise.drift for power, noise in chosen)
        total = sum(abs(power) for power, _ in chosen)
        alignment = sum(abs(power) * noise.alignment for power, noise in chosen) / total
        return Noise(drift, steps, alignment)

    def stepped(self, variance: float, source: int, *, alignment: float = 0.0) -> Noise:
        """After a layer, the ``source``-th, that takes a mean over few features."""
        steps = np.zeros(max(source + 1, len(self.steps)))
        steps[: len(self.steps)] = self.steps
        # log(1 + e) has this variance where 1 + e is log-normal.
        spread = math.log1p(max(variance, 0.0))
        steps[source] += math.sqrt(spread)
        return Noise(self.drift - spread / 2, steps, alignment)

    @property
    def is_none(self) -> bool:
        """Whether nothing strays."""
        return self.drift == 0 and not len(self.steps) and not self.alignment

    @property
    def variance(self) -> float:
        """Of the logarithm of the second moment."""
        return float(np.square(self.steps).sum())


_NONE = Noise(0.0, np.zeros(0))
