"""Averages over a few independent normal variables, and over two correlated copies of them."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

__all__ = ["Grid", "grid"]

# Points for each variable, and Hermite polynomials, by the number of variables.
_SIZES = {0: (1, 1), 1: (256, 64), 2: (64, 24), 3: (32, 12)}
_REACH = 8.0  # the density at ±8 is 5e-15


@dataclass(frozen=True, eq=False)
class Grid:
    """Points and weights of a product rule over ``dims`` standard normal variables.

    Args:
        dims: number of variables, 0 to 3.
        points: (dims, n).
        weights: (n,), of sum 1.
        basis: (polynomials, points for each variable): normalized Hermite polynomials times the
            weights of one variable.
    """

    dims: int
    points: Tensor
    weights: Tensor
    basis: Tensor

    def mean(self, values: Tensor) -> float:
        """E f."""
        return float(self.weights @ values)

    def products(
        self, values: Tensor, correlations: Sequence[Sequence[float]], second: float
    ) -> tuple[float, ...]:
        """E f(z) f(z') for several strengths of the correlation between z and z'.

        Mehler's formula: with a_k = E f(z) He_k(z) / √k!, E f(z) f(z') = Σ a_k² ρ^k. What the
        polynomials leave of ``second`` = E f² decays like the last of them.

        Args:
            values: f at the points.
            correlations: for each variable, one ρ for each strength.
            second: E f².
        """
        if self.dims == 0:
            return (second,) * 3
        size = self.basis.shape[1]
        coefficients = values.reshape((size,) * self.dims)
        for _ in range(self.dims):
            coefficients = torch.tensordot(coefficients, self.basis, dims=([0], [1]))
        squares = coefficients.numpy() ** 2
        rest = max(second - float(squares.sum()), 0.0)
        degree = squares.shape[0]
        results = []
        for strength in zip(*correlations, strict=True):
            total, tail = squares, 1.0
            for rho in strength:
                total = np.tensordot(float(rho) ** np.arange(degree), total, axes=(0, 0))
                tail *= abs(float(rho)) ** (degree / self.dims)
            results.append(float(total) + rest * tail)
        return tuple(results)

    def sensitivities(self, values: Tensor) -> tuple[float, ...]:
        """d log E f² / d log(variance of each variable): ½ E f² (z² - 1) / E f² (Stein)."""
        squares = self.weights * values.square()
        whole = float(squares.sum())
        if whole == 0:
            return (0.0,) * self.dims
        return tuple(float(squares @ (z.square() - 1)) / (2 * whole) for z in self.points)


@functools.cache
def grid(dims: int) -> Grid:
    """Gauss-Legendre panels with a boundary at 0, where most kinks are; a product for several."""
    size, degree = _SIZES[dims]
    if dims == 0:
        return Grid(
            0,
            torch.zeros(0, 1, dtype=torch.float64),
            torch.ones(1, dtype=torch.float64),
            torch.ones(1, 1, dtype=torch.float64),
        )
    z, w = _panels(size)
    basis = torch.from_numpy(_hermite(z, degree) * w)
    along = torch.from_numpy(z)
    mesh = torch.meshgrid(*[along] * dims, indexing="ij")
    weights = torch.from_numpy(functools.reduce(np.multiply.outer, [w] * dims).ravel())
    return Grid(dims, torch.stack([axis.reshape(-1) for axis in mesh]), weights, basis)


def _panels(size: int) -> tuple[np.ndarray, np.ndarray]:
    nodes, weights = np.polynomial.legendre.leggauss(16 if size > 64 else 8)
    count = size // len(nodes)
    edges = np.linspace(-_REACH, _REACH, count + 1)
    half = np.diff(edges)[:, None] / 2
    z = (edges[:-1, None] + half * (nodes + 1)).ravel()
    density = np.exp(-(z**2) / 2) * (half * weights).ravel()
    return z, density / density.sum()


def _hermite(z: np.ndarray, degree: int) -> np.ndarray:
    """He_k(z) / √k! for k below ``degree``, by their recurrence."""
    rows = [np.ones_like(z), z]
    for k in range(1, degree - 1):
        rows.append((z * rows[k] - np.sqrt(k) * rows[k - 1]) / np.sqrt(k + 1))
    return np.stack(rows[:degree])
