"""A gain estimated from samples, with its standard error."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from fanin.gains.quadrature import Array

__all__ = ["EmpiricalGain", "estimate"]


@dataclass(frozen=True)
class EmpiricalGain:
    """A gain measured on random numbers: ``value`` is off by about ``standard_error``."""

    value: float
    standard_error: float
    samples: int

    def __float__(self) -> float:
        return self.value

    def __str__(self) -> str:
        return f"{self.value:.6g} ± {self.standard_error:.1g} ({self.samples} samples)"


def estimate(numerator: Array, denominator: Array) -> EmpiricalGain:
    """√(mean a / mean b) for paired samples, with the standard error of the delta method.

    A change of the two means moves ``g = √(A/B)`` by ``g/2 · (da/A - db/B)``, so sample i
    contributes ``g/2 · (aᵢ/A - bᵢ/B)``, a quantity of mean 0, and the standard error is its std
    over √n. Squares taken around sample means may be passed: a variance is stationary at the mean,
    so to this order the estimated mean adds no error.
    """
    a, b = float(numerator.mean()), float(denominator.mean())
    value = math.sqrt(a / b)
    influence = value / 2 * (numerator / a - denominator / b)
    count = len(denominator)
    return EmpiricalGain(value, float(np.std(influence, ddof=1)) / math.sqrt(count), count)
