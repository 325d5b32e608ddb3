"""Fixed points of the length map q ↦ σ_w² E f(√q z)² + σ_b²."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

from fanin.flow.meanfield.moments import Moments
from fanin.gains.quadrature import Array

__all__ = ["NEUTRAL", "bisect", "fixed_length"]

NEUTRAL = 1e-11  # relative change of a length that is none: quadrature is good to some 1e-13
_NOTHING = 1e-9  # a length that differs from 0 by the rounding of a critical sigma_w
_GOLDEN = (math.sqrt(5) - 1) / 2


def fixed_length(moments: Moments, *, sigma_w: float, sigma_b: float, start: float) -> float:
    """The fixed point that lengths reach from ``start``, where the map grows with q.

    It does for every monotone nonlinearity. 0 where signals die out, infinity where they grow
    beyond 1e8, ``start`` itself where every length is kept. Two fixed points may be passed over
    where they lie within a sixth of a decade and no dip shows at the nodes of the table.
    """
    table = moments.table

    def exact(q: float) -> float:
        return float(_change(moments.square(q) / q, q, sigma_w, sigma_b))

    direction = exact(start)
    if direction == 0:
        return start
    sign = math.copysign(1.0, direction)
    nodes = zip(table.q, sign * _change(table.ratio, table.q, sigma_w, sigma_b), strict=True)
    way = [(float(q), float(change)) for q, change in nodes if sign * q > sign * start]
    way = way if sign > 0 else way[::-1]
    found = _reached([(start, abs(direction)), *way], lambda q: sign * exact(q))
    if found is None:
        return math.inf if sign > 0 else 0.0
    return 0.0 if sigma_b == 0 and found < _NOTHING else found


def bisect(function: Callable[[float], float], left: float, right: float) -> float:
    """Where a function changes sign between two positive numbers, halving their ratio."""
    at_left = function(left)
    for _ in range(200):
        middle = math.sqrt(left * right)
        if middle in (left, right) or abs(right / left - 1) < 1e-15:
            break
        if (function(middle) > 0) == (at_left > 0):
            left = middle
        else:
            right = middle
    return math.sqrt(left * right)


def _change(ratio: Array | float, q: Array | float, sigma_w: float, sigma_b: float) -> Array:
    """How much longer a length becomes, relative to itself; exactly 0 where it is kept."""
    by_weights, by_biases = np.asarray(sigma_w**2 * ratio - 1), sigma_b**2 / q
    change = by_weights + by_biases
    change = np.where(np.abs(change) < NEUTRAL, 0.0, change)
    # What biases add to a length that the weights keep counts, however little it is.
    return np.where(np.abs(by_weights) < NEUTRAL, by_biases, change)


def _reached(points: list[tuple[float, float]], exact: Callable[[float], float]) -> float | None:
    """The first zero on the way along points (q, change > 0), also in a dip between two of them."""

    def is_before(q: float) -> float:
        return 1.0 if exact(q) > 0 else -1.0

    for i in range(1, len(points)):
        (before, previous), (q, change) = points[i - 1], points[i]
        if change <= 0:
            return bisect(is_before, before, q)
        if i + 1 < len(points) and change < previous and change < points[i + 1][1]:
            lowest = _lowest(exact, before, points[i + 1][0])
            if exact(lowest) <= 0:
                return bisect(is_before, before, lowest)
    return None


def _lowest(function: Callable[[float], float], left: float, right: float) -> float:
    """Where a function with one dip between two positive numbers is lowest: golden section."""
    a, b = sorted((math.log(left), math.log(right)))
    for _ in range(60):
        step = _GOLDEN * (b - a)
        if function(math.exp(b - step)) < function(math.exp(a + step)):
            b = a + step
        else:
            a = b - step
    return math.exp((a + b) / 2)
