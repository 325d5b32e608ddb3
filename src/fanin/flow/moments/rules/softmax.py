"""Softmax over normal scores: how many entries share the weight, exactly for independent ones."""

from __future__ import annotations

import functools
import math

import numpy as np

__all__ = ["concentration", "mean_concentration", "responsiveness"]


def concentration(variance: float, entries: int, power: int = 2) -> float:
    """E Σ a^p of a = softmax(s), for ``entries`` independent normal s of this variance.

    Squares lie between 1 / entries (all alike) and 1 (one takes all).
    """
    return _concentrations(variance, (entries,), power)[0]


def mean_concentration(variance: float, visible: tuple[int, ...], power: int = 2) -> float:
    """The same, averaged over queries that see different numbers of keys."""
    counts = np.asarray(visible)
    counts = counts[counts > 0]
    if not len(counts):
        return 0.0
    # A handful of counts says it all; between them it is smooth in their logarithm.
    known = np.unique(np.geomspace(counts.min(), counts.max(), 12).round().astype(int))
    values = _concentrations(variance, tuple(known.tolist()), power)
    return float(np.exp(np.interp(np.log(counts), np.log(known), np.log(values))).mean())


def responsiveness(variance: float, visible: tuple[int, ...]) -> float:
    """E Σ (∂ Σ g a / ∂ s)² for independent g of second moment 1: Σ a² (g - Σ a g)².

    That is Σ a² - 2 Σ a³ + (Σ a²)², the last as the square of the average.
    """
    squares = mean_concentration(variance, visible)
    return max(squares - 2 * mean_concentration(variance, visible, 3) + squares**2, 0.0)


@functools.lru_cache(maxsize=1024)
def _concentrations(variance: float, counts: tuple[int, ...], power: int) -> tuple[float, ...]:
    """With 1/Z^p = ∫ t^(p-1) exp(-t Z) dt / (p-1)! and Z = Σ exp(s), averages factorize.

    n · ∫ t^(p-1) E[exp(ps) exp(-t exp(s))] E[exp(-t exp(s))]^(n - 1) dt / (p-1)! for n entries. The
    sums are exact to 2e-6 up to a std of 20.
    """
    entries = np.asarray(counts, np.float64)[:, None]
    least = entries[:, 0] ** (1 - power)
    if variance <= 1e-12:
        return tuple(least.tolist())
    std = math.sqrt(variance)
    # exp(p s) moves the weight to p std above the mean.
    z = np.linspace(-9, 9 + power * std, 100 + round(20 * power * std))
    weights = np.exp(-(z**2) / 2)
    weights /= weights.sum()
    # With u = log t, what matters lies where t exp(s) is about 1 for the largest of all entries.
    u = np.linspace(-math.log(max(counts)) - 8 * std - 6, 8 * std + 6, 200)
    exponents = np.minimum(u[:, None] + std * z, 50)  # exp(-exp(50)) is 0
    decays = np.exp(exponents)
    alone = np.exp(power * exponents - decays) @ weights
    others = np.exp(-decays) @ weights
    totals = (alone * others ** (entries - 1)).sum(1) * (u[1] - u[0]) / math.factorial(power - 1)
    return tuple(np.clip(entries[:, 0] * totals, least, 1.0).tolist())
