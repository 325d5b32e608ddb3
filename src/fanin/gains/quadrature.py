"""Means under the standard normal distribution, to about 13 digits."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from fanin.errors import ArgumentError

__all__ = ["Array", "normal_mean"]

Array: TypeAlias = NDArray[np.float64]

_REACH = 16  # the density at ±16 is 1e-56; a function has to grow like exp(5z) to notice
_NODES = 16  # on a panel of width 1 this leaves rounding error only, for smooth functions
_SPLIT = 4  # pieces that a panel is cut into where it is not yet exact
_TOLERANCE = 1e-14  # per panel, relative to the whole
_GENERATIONS = 28  # 4**-28 = 1e-17: no float64 lies inside a panel any more
_MAX_PANELS = 1 << 14
_ACCEPTED = 1e-6  # above it the answer is refused; float32 noise stays well below it
_TAIL = 1e-11  # share of the mean that the outermost panels may hold


def normal_mean(integrand: Callable[[Array], Array], *, label: str) -> float:
    """E g(z) for z ~ N(0, 1), by Gauss-Legendre panels that are cut where g is not smooth.

    The first panels end at integers, where most kinks lie. A panel whose pieces add up to a
    different sum is replaced by its pieces, so a kink or jump elsewhere is cornered in a few
    rounds, each of them one call of ``integrand``.
    """
    left = np.arange(-_REACH, _REACH, dtype=np.float64)
    width = 1.0
    coarse = _panel_sums(integrand, left, width)
    settled = magnitude = 0.0
    for generation in range(_GENERATIONS):
        width /= _SPLIT
        pieces = left[:, None] + width * np.arange(_SPLIT)
        fine = _panel_sums(integrand, pieces.ravel(), width).reshape(pieces.shape)
        scale = magnitude + float(np.abs(fine).sum())
        if generation == 0:
            _check_tail(fine, scale, label)
        error = np.abs(fine.sum(axis=1) - coarse)
        rough = error > _TOLERANCE * scale
        settled += float(fine[~rough].sum())
        magnitude += float(np.abs(fine[~rough]).sum())
        left, coarse = pieces[rough].ravel(), fine[rough].ravel()
        if not left.size:
            return settled
        if left.size > _MAX_PANELS:
            break
    if float(error[rough].sum()) > _ACCEPTED * scale:
        raise ArgumentError(
            f"gain: the mean square must be finite and resolvable. Got {label}, whose integral "
            f"does not settle around z = {left[0]:.6g}. Check the function for a pole or for noise."
        )
    return settled + float(coarse.sum())


def _panel_sums(integrand: Callable[[Array], Array], left: Array, width: float) -> Array:
    nodes, weights = _rule()
    z = left[:, None] + width * nodes
    with np.errstate(over="ignore"):
        terms = integrand(z.ravel()).reshape(z.shape) * np.exp(-0.5 * z * z)
    sums: Array = terms @ weights * (width / math.sqrt(2 * math.pi))
    return sums


@functools.cache
def _rule() -> tuple[Array, Array]:
    """Gauss-Legendre nodes and weights on [0, 1]."""
    nodes, weights = np.polynomial.legendre.leggauss(_NODES)
    return (nodes + 1) / 2, weights / 2


def _check_tail(fine: Array, scale: float, label: str) -> None:
    ends = float(np.abs(fine[[0, -1]]).sum())
    if not math.isfinite(scale) or ends > _TAIL * scale:
        raise ArgumentError(
            f"gain: the mean square under a standard normal must be finite. Got {label}, which "
            f"grows too fast: its mean square comes from beyond |z| = {_REACH - 1}. "
            "Bound or rescale the function."
        )
