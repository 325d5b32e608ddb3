"""How far chance may carry a statistic before an audit speaks of it."""

from __future__ import annotations

import math
from dataclasses import dataclass
from statistics import NormalDist

__all__ = ["FALSE_ALARMS", "Budget"]

FALSE_ALARMS = 1e-6
"""Chance that an audit of a healthy model has any finding by chance."""


@dataclass(frozen=True, slots=True)
class Budget:
    """The false alarms that one statistical check may have in one audit.

    The chance of one audit is split evenly over its statistical checks, and a check splits its
    share evenly over the tests it makes (Bonferroni: no assumption on how they depend).

    Args:
        share: chance of a false alarm of the check.

    Example:
        >>> Budget.for_checks(10).share == FALSE_ALARMS / 10
        True
        >>> round(Budget(1e-6).deviations(1), 2)
        4.89
    """

    share: float

    @classmethod
    def for_checks(cls, count: int) -> Budget:
        """The share of each of so many checks."""
        return cls(FALSE_ALARMS / max(count, 1))

    def deviations(self, tests: int, *, degrees: float = math.inf) -> float:
        """How many standard errors a statistic may be off, on either side, in any of ``tests``.

        Args:
            tests: how many the check makes.
            degrees: of freedom, where the standard error is itself estimated: Student's t instead
                of a normal, by the expansion of its quantile in 1/degrees.
        """
        z = -NormalDist().inv_cdf(self.share / (2 * max(tests, 1)))
        if math.isinf(degrees):
            return z
        # Abramowitz and Stegun 26.7.5, to third order.
        return (
            z
            + (z**3 + z) / (4 * degrees)
            + (5 * z**5 + 16 * z**3 + 3 * z) / (96 * degrees**2)
            + (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / (384 * degrees**3)
        )

    def chance(self, tests: int) -> float:
        """The chance of a false alarm that each of ``tests`` may have."""
        return self.share / max(tests, 1)
