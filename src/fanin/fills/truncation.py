"""Moments of a truncated normal."""

from __future__ import annotations

import functools
import math

import numpy as np

__all__ = ["truncated_moments"]


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
