"""A nonlinearity under normal numbers of any variance: mean squares, slopes, Hermite series."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias, TypeVar

import numpy as np
from torch import Tensor

from fanin.errors import ArgumentError
from fanin.gains.elementwise import Elementwise, apart, from_callable
from fanin.gains.names import arguments, bind, canonical, refuse_if_gainless
from fanin.gains.quadrature import Array, normal_mean

__all__ = ["LOWEST", "Moments", "Nonlinearity", "Param", "Table", "moments_of", "worked_out"]

Nonlinearity: TypeAlias = str | Callable[[Tensor], Tensor]
Param: TypeAlias = float | tuple[float, float] | None

_T = TypeVar("_T")

LOWEST = 1e-16  # the shortest length told apart from 0: float64's rounding of slopes of order 1
_DECADES = 24  # from there up to 1e8, where a mean square counts as infinite
_NODES = 6  # a decade; under a Gaussian everything is smooth on the scale of a decade
_SHORT = 0.1  # the length from which up `check` has seen that integrals exist
_NEAR = 64.0  # √q up to which the panels of the quadrature resolve a function's own scale
_SHELL = 4.0
_JUMP = 1e-5  # what the two sides of Stein's identity may differ by; a float32 function's noise
_ORDERS = 1000  # of the Hermite series; a kink leaves about 2/3 · 1000^-1.5 · 0.1 = 2e-6 beyond
_REACH, _WIDTH = 16, 1 / 32  # of its grid: a kink inside a panel costs width² · 1e-3 = 1e-6


@dataclass(frozen=True, eq=False)
class Table:
    """Moments at lengths evenly spaced in their logarithm.

    Args:
        q: lengths.
        ratio: E f(√q z)² / q.
        slope: E f'(√q z)².
    """

    q: Array
    ratio: Array
    slope: Array


@dataclass(frozen=True, eq=False)
class Moments:
    """What mean field theory asks of a nonlinearity f: means over x ~ N(0, q).

    To be used inside `worked_out`.
    """

    f: Elementwise

    def square(self, q: float) -> float:
        """E f(x)²."""
        return self._near_zero(
            q,
            lambda: self._mean(lambda x, z: np.square(self.f.values(x)), q),
            lambda: self._square_at_zero + q * self._slope_square_at_zero,
        )

    def slope_square(self, q: float) -> float:
        """E f'(x)²; at q = 0 the mean of both one-sided derivatives' squares."""
        return self._near_zero(
            q,
            lambda: self._mean(lambda x, z: np.square(self.f.slopes(x)), q),
            lambda: self._slope_square_at_zero,
        )

    def growth(self, q: float) -> float:
        """d/dq E f(x)², by Stein's identity: E (z² - 1) f(x)² / 2q, so that f'' need not exist."""

        def integrand(x: Array, z: Array) -> Array:
            # The constant has mean 0 here; without it nothing is lost to cancellation.
            return (z * z - 1) * (np.square(self.f.values(x)) - self._square_at_zero)

        return self._near_zero(
            q,
            lambda: self._mean(integrand, q) / (2 * q),
            lambda: self._slope_square_at_zero,
        )

    def hermite(self, q: float) -> Array:
        """Weights w_k with E f(x) f(y) = Σ w_k c^k for x, y ~ N(0, q) of correlation c.

        They are squares of coefficients, so none is negative. What is beyond the last order is
        counted there: the sum is exact at c = 1.
        """
        z, weights = _grid()
        weighted = weights * self.f.values(math.sqrt(q) * z)
        before, polynomial = np.zeros_like(z), np.ones_like(z)
        found = np.empty(_ORDERS + 1)
        for k in range(_ORDERS):
            found[k] = np.square(weighted @ polynomial)
            # Of mean square 1: √(k+1) h_{k+1} = z h_k - √k h_{k-1}.
            following = (z * polynomial - math.sqrt(k) * before) / math.sqrt(k + 1)
            before, polynomial = polynomial, following
        found[-1] = max(self.square(q) - float(found[:-1].sum()), 0.0)
        return found

    @functools.cached_property
    def typical_slope_square(self) -> float:
        """E f'(z)², to tell whether a slope elsewhere is any."""
        return self.slope_square(1.0)

    @functools.cached_property
    def table(self) -> Table:
        """Moments from `LOWEST` up to 1e8, or to where the function outgrows the quadrature."""
        lengths = LOWEST * 10.0 ** (np.arange(_DECADES * _NODES + 1) / _NODES)
        rows: list[tuple[float, float, float]] = []
        for q in map(float, lengths):
            try:
                rows.append((q, self.square(q) / q, self.slope_square(q)))
            except ArgumentError:
                if q <= 1:  # the function itself is at fault, not the length
                    raise
                break
        return Table(*np.array(rows).T)

    def check(self) -> None:
        """Refuse a function that is flat, and one that jumps: two copies then never agree."""
        is_flat = True
        for q in (0.1, 1.0, 10.0):
            r = math.sqrt(q)
            size = math.sqrt(self.slope_square(q) + self.square(q) / q)
            pairs = (
                (lambda x, z: self.f.slopes(x), lambda x, z, r=r: z * self.f.values(x) / r),
                (
                    lambda x, z: z * self.f.slopes(x),
                    lambda x, z, r=r: (z * z - 1) * self.f.values(x) / r,
                ),
            )
            # Stein: E f'(x) = E z f(x) / √q, and likewise with another z. A jump is in the right
            # sides alone.
            if any(abs(self._mean(a, q) - self._mean(b, q)) > _JUMP * size for a, b in pairs):
                raise ArgumentError(
                    "mean_field: the function must not jump, or inputs however close come apart. "
                    f"Got {self.f.label}, whose slopes do not add up to its values. Choose a "
                    "continuous nonlinearity, or correct its backward."
                )
            is_flat = is_flat and self.slope_square(q) == 0
        if is_flat:
            raise ArgumentError(
                "mean_field: the function must depend on its input. "
                f"Got {self.f.label}, whose slope is 0 everywhere. Choose another nonlinearity."
            )

    @functools.cached_property
    def _square_at_zero(self) -> float:
        return float(np.square(self.f.values(np.zeros(1)))[0])

    @functools.cached_property
    def _slope_square_at_zero(self) -> float:
        return float(np.square(self.f.slopes(np.array([-LOWEST, LOWEST]))).mean())

    def _near_zero(
        self, q: float, integral: Callable[[], float], linear: Callable[[], float]
    ) -> float:
        """The integral; the value of a function that is straight where there is none.

        That is at q = 0, where all of f lies beyond what normal numbers reach (softshrink), and
        where it drowns in its own rounding (tanhshrink).
        """
        if q < LOWEST:
            return linear()
        try:
            return integral()
        except ArgumentError:
            if q < _SHORT:
                return linear()
            raise

    def _mean(self, integrand: Callable[[Array, Array], Array], q: float) -> float:
        """E g(√q z, z), also where all that g does happens within a sliver of z."""
        r, label = math.sqrt(q), self.f.label
        if r <= _NEAR:
            return normal_mean(lambda z: integrand(r * z, z), label=label)
        # Shells 1/4 ≤ |z| < 1, 1/16 ≤ |z| < 1/4, …, each stretched until its edges are integers,
        # where the quadrature's panels end.
        shells = math.ceil(math.log(r / _NEAR, _SHELL))
        total = 0.0
        for shell in range(shells + 1):
            scale = _SHELL**-shell
            low = 1.0 if shell < shells else 0.0
            high = _SHELL if shell else math.inf

            def stretched(
                t: Array, scale: float = scale, low: float = low, high: float = high
            ) -> Array:
                inside = (np.abs(t) >= low) & (np.abs(t) < high)
                z = scale * t[inside]
                density = scale * np.exp(0.5 * (t[inside] ** 2 - z * z))
                found = np.zeros_like(t)
                found[inside] = density * integrand(r * z, z)
                return found

            total += normal_mean(stretched, label=label)
        return total


def moments_of(nonlinearity: Nonlinearity, param: Param) -> Moments:
    """The moments of what `fanin.gain` takes: a name, a callable or a module.

    Raises:
        UnknownNameError: for an unknown name.
        ArgumentError: for a function that is not elementwise, or jumps.
    """
    if isinstance(nonlinearity, str):
        name = canonical(nonlinearity)
        return _named(name, arguments(name, param))
    if not callable(nonlinearity):
        raise ArgumentError(
            "mean_field: a nonlinearity is a known name, a callable or an nn.Module. "
            f"Got {nonlinearity!r} for nonlinearity. Pass for instance 'tanh'."
        )
    refuse_if_gainless(nonlinearity)
    if param is not None:
        raise ArgumentError(
            "mean_field: a callable carries its own parameters. "
            f"Got {param!r} for param. Leave it out, or bind it with functools.partial."
        )

    def checked() -> Moments:
        found = Moments(from_callable(nonlinearity))
        found.check()
        return found

    return worked_out(checked)


@functools.lru_cache(maxsize=64)
def _named(name: str, numbers: tuple[float, ...]) -> Moments:
    found = Moments(bind(name, numbers))
    worked_out(found.check)
    return found


def worked_out(work: Callable[[], _T]) -> _T:
    """Do work with a function where the caller's torch modes do not reach; no numbers are drawn."""
    return apart(work, keep_rng=True)


@functools.cache
def _grid() -> tuple[Array, Array]:
    """Nodes, and their weights under the standard normal density."""
    nodes, weights = np.polynomial.legendre.leggauss(16)
    left = np.arange(-_REACH, _REACH, _WIDTH)
    z = (left[:, None] + _WIDTH * (nodes + 1) / 2).ravel()
    density = np.exp(-0.5 * z * z) / math.sqrt(2 * math.pi)
    return z, density * np.tile(weights * (_WIDTH / 2), len(left))
