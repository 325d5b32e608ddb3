"""Distributions that are no bell: kept as what a normal variable has to go through to have them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from fanin.flow.moments.moments import Moments
from fanin.flow.moments.quadrature import Grid, grid

__all__ = ["Shape", "shape_of"]

_NEAR = 0.01  # share of the variance that a bell may miss and still do
_HALVINGS = 40


@dataclass(frozen=True, eq=False)
class Shape:
    """An increasing function of a standard normal variable, linear between the points of a rule.

    Args:
        table: its values there.
    """

    table: Tensor

    def __call__(self, z: Tensor) -> Tensor:
        """The function; constant beyond its last points."""
        points = grid(1).points[0]
        inside = z.clamp(float(points[0]), float(points[-1]))
        at = torch.searchsorted(points, inside.detach().contiguous()).clamp(1, len(points) - 1)
        low, high = points[at - 1], points[at]
        part = (inside - low) / (high - low)
        return self.table[at - 1] + part * (self.table[at] - self.table[at - 1])

    def correlations(self, moments: Moments) -> tuple[float, float, float]:
        """Of the normal variable, for pairs whose values have these products."""
        coefficients = (grid(1).basis @ self.table).numpy() ** 2
        degrees = np.arange(len(coefficients))
        low, high = np.zeros(3), np.ones(3)
        for _ in range(_HALVINGS):
            middle = (low + high) / 2
            is_below = (coefficients * middle[:, None] ** degrees).sum(1) < np.array(moments.pairs)
            low, high = np.where(is_below, middle, low), np.where(is_below, high, middle)
        neighbours, positions, samples = (float(each) for each in high)
        return neighbours, positions, samples


def shape_of(values: Tensor, rule: Grid, moments: Moments) -> Shape | None:
    """The shape that values at a rule's points have; None where a bell does.

    Args:
        values: of a function.
        rule: that they belong to.
        moments: of the function.
    """
    if moments.variance <= _NEAR * moments.second:
        return None
    order = values.argsort()
    weights = rule.weights[order]
    below = weights.cumsum(0) - weights / 2
    line = grid(1)
    z = line.points[0]
    found = np.interp(torch.special.ndtr(z).numpy(), below.numpy(), values[order].numpy())
    table = torch.from_numpy(found)
    mean = line.mean(table)
    spread = (line.mean(table.square()) - mean**2) ** 0.5
    if spread <= 0:
        return None
    table = moments.mean + (table - mean) * (moments.std / spread)
    missed = line.mean((table - moments.mean - moments.std * z).square())
    return Shape(table) if missed > _NEAR * moments.variance else None
