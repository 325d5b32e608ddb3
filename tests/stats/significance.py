"""p-values, and the level at which a statistical test fails.

A call of `accept` fails by chance with probability `LEVEL` at most, however many p-values it is
given. Seeds are fixed: a test that passes keeps passing, and the level says how often a correct
stream would have failed on the day its seed was picked.
"""

from __future__ import annotations

import math

import numpy as np
from scipy import special, stats

LEVEL = 1e-9


def accept(p: float | np.ndarray, what: str = "") -> None:
    """Fail where the least of these p-values is too small for as many of them (Bonferroni)."""
    values = np.atleast_1d(p)
    assert values.min() > LEVEL / values.size, (
        f"{what}: p = {values.min():.2g} at {values.argmin()}"
    )


def normal_p(z: float | np.ndarray) -> np.ndarray:
    """Two-sided, for a standard normal."""
    return special.erfc(np.abs(z) / math.sqrt(2))


def poisson_p(count: int, mean: float) -> float:
    """Two-sided, for a count with this mean."""
    less, more = stats.poisson.cdf(count, mean), stats.poisson.sf(count - 1, mean)
    return min(1.0, 2 * min(less, more))


def chi_square_p(counts: np.ndarray, expected: np.ndarray) -> float:
    """Two-sided, for independent cells with fixed total; cells that expect under 20 are pooled."""
    few = expected < 20
    if few.any():
        counts = np.append(counts[~few], counts[few].sum())
        expected = np.append(expected[~few], expected[few].sum())
    used = expected > 0
    assert counts[~used].sum() == 0, "something drawn that cannot be"
    statistic = ((counts[used] - expected[used]) ** 2 / expected[used]).sum()
    degrees = int(used.sum()) - 1
    return 2 * min(special.chdtr(degrees, statistic), special.chdtrc(degrees, statistic))


def correlation_p(a: np.ndarray, b: np.ndarray) -> float:
    """Two-sided, for independent samples with mean 0 and variance 1."""
    return float(normal_p(np.dot(a, b) / math.sqrt(a.size)))


def kolmogorov_p(u: np.ndarray) -> float:
    """Kolmogorov-Smirnov, for a sorted sample of U(0, 1)."""
    n = u.size
    steps = np.arange(n + 1) / n
    distance = max((steps[1:] - u).max(), (u - steps[:-1]).max())
    return float(special.kolmogorov(math.sqrt(n) * distance))


def anderson_darling_p(u: np.ndarray) -> float:
    """Anderson-Darling, for a sorted sample of U(0, 1).

    A² is asymptotically ``Σ χ²ⱼ / (j·(j + 1))``. Far out the first term alone decides, and the
    others multiply its tail by ``Π (1 − 2/(j·(j + 1)))^−½ = √3``; at A² = 4 that is 5 % off.
    """
    n = u.size
    weights = 2 * np.arange(n) + 1
    squared = -n - float(np.dot(weights, np.log(u) + np.log1p(-u[::-1]))) / n
    return min(1.0, math.sqrt(3) * math.erfc(math.sqrt(squared)))
