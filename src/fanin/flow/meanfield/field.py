"""`mean_field`: where lengths and correlations settle in a wide random network, and how soon."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from numbers import Real
from typing import Literal, TypeAlias

import numpy as np
from numpy.polynomial import polynomial

from fanin.errors import ArgumentError
from fanin.flow.meanfield.lengths import fixed_length
from fanin.flow.meanfield.moments import Moments, Nonlinearity, Param, moments_of, worked_out
from fanin.gains.quadrature import Array
from fanin.report import Column, Table, number_text

__all__ = ["LARGEST", "MeanField", "Phase", "checked_number", "mean_field"]

Phase: TypeAlias = Literal["ordered", "critical", "chaotic", "diverging"]

LARGEST = 1e100  # of sigmas: float64 still holds their squares, and products of those
_CRITICAL = 1e-8  # of a slope around 1: a depth of 10⁸ layers counts as infinite


def mean_field(
    nonlinearity: Nonlinearity,
    *,
    sigma_w: float,
    sigma_b: float = 0.0,
    start: float = 1.0,
    param: Param = None,
) -> MeanField:
    """How a wide network of random weights passes on lengths, angles and gradients.

    Every layer is ``W f(h) + b`` with independent weights of variance ``sigma_w² / fan_in`` and
    biases of variance ``sigma_b²``. In the limit of infinite width the mean square q of its
    outputs h follows ``q ↦ σ_w² E f(√q z)² + σ_b²``, and the correlation of two inputs a map of
    its own; both settle with depth.

    Args:
        nonlinearity: f: a name, an elementwise function or a module, as `fanin.gain` takes it.
        sigma_w: of the weights, times √fan_in.
        sigma_b: of the biases.
        start: mean square of the first layer's outputs; it matters where lengths have several
            fixed points, and where they have none.
        param: of the named function, as for `fanin.gain`.

    Returns:
        A `MeanField`; ``print`` shows it.

    Raises:
        UnknownNameError: for an unknown name.
        ArgumentError: for a function that is not elementwise, jumps or is constant; for a sigma or
            start that is no such number.

    Example:
        >>> field = mean_field("tanh", sigma_w=1.5, sigma_b=0.3)
        >>> field.phase, round(field.q, 3), round(field.c, 3)
        ('chaotic', 0.961, 0.767)
        >>> mean_field("relu", sigma_w=2**0.5).phase
        'critical'

    Source: Poole et al. 2016, arXiv:1606.05340; Schoenholz et al. 2017, arXiv:1611.01232.
    """
    sigma_w = checked_number(
        "mean_field", "sigma_w", sigma_w, lowest=0.0, may_be_lowest=False, highest=LARGEST
    )
    sigma_b = checked_number("mean_field", "sigma_b", sigma_b, lowest=0.0, highest=LARGEST)
    start = checked_number("mean_field", "start", start, lowest=0.0, may_be_lowest=False)
    moments = moments_of(nonlinearity, param)
    return worked_out(lambda: _solved(moments, sigma_w, sigma_b, start))


@dataclass(frozen=True, eq=False)
class MeanField:
    """Fixed points of a network's length and correlation maps, and the slopes there.

    Args:
        nonlinearity: its name.
        sigma_w: of the weights, times √fan_in.
        sigma_b: of the biases.
        q: the mean square that outputs of layers settle at: 0 where signals die out, infinity
            where they grow without bound (beyond 1e8).
        chi: χ₁ = σ_w² E f'(√q z)²: the factor on the mean square of gradients from a layer to the
            one before, and the slope of the correlation map at 1.
        length_slope: of the length map at q; above 1 lengths leave q, however close they start.
        c: the correlation that two inputs settle at; NaN where q is 0 or infinite.
        correlation_slope: of the correlation map at c.
        series: E f(x) f(y) for x and y of variance q and correlation c, as coefficients of c^k.

    Example:
        >>> field = mean_field("tanh", sigma_w=0.9, sigma_b=0.5)
        >>> field.phase, field.c, field.xi_c < field.xi_gradient + 1e-9
        ('ordered', 1.0, True)
    """

    nonlinearity: str
    sigma_w: float
    sigma_b: float
    q: float
    chi: float
    length_slope: float
    c: float
    correlation_slope: float
    series: Array = field(repr=False)

    @property
    def phase(self) -> Phase:
        """Whether close inputs come together, stay, or come apart; or lengths have no end."""
        if math.isinf(self.q):
            return "diverging"
        if abs(self.chi - 1) < _CRITICAL:
            return "critical"
        return "ordered" if self.chi < 1 else "chaotic"

    @property
    def xi_q(self) -> float:
        """Layers in which a length comes closer to q by a factor of e; infinity without end."""
        return _depth(self.length_slope)

    @property
    def xi_c(self) -> float:
        """Layers in which a correlation comes closer to c by a factor of e."""
        return _depth(self.correlation_slope)

    @property
    def xi_gradient(self) -> float:
        """Layers in which the mean square of gradients changes by a factor of e, up or down."""
        if self.chi == 0:
            return 0.0
        return math.inf if abs(self.chi - 1) < _CRITICAL else 1 / abs(math.log(self.chi))

    def correlation_map(self, c: float) -> float:
        """The correlation after one more layer; NaN where lengths have no fixed point but 0.

        Args:
            c: in [-1, 1], of two inputs that both have length q.
        """
        if not len(self.series):
            return math.nan
        return (
            float(self.sigma_w**2 * polynomial.polyval(c, self.series) + self.sigma_b**2) / self.q
        )

    def table(self) -> Table:
        """Each quantity with its value and its meaning."""
        rows = (
            ("q*", self.q, "mean square at which outputs settle"),
            ("χ₁", self.chi, "factor on the mean square of gradients, a layer"),
            ("slope at q*", self.length_slope, "of the length map; above 1 lengths leave q*"),
            ("c*", self.c, "correlation at which two inputs settle"),
            ("slope at c*", self.correlation_slope, "of the correlation map"),
            ("ξ_q", self.xi_q, "layers in which a length comes closer to q* by a factor e"),
            ("ξ_c", self.xi_c, "layers in which a correlation comes closer to c*"),
            ("ξ_∇", self.xi_gradient, "layers in which gradients change by a factor e"),
        )
        columns = ("quantity", Column("value", "right"), Column("what it is", optional=True))
        return Table(
            columns,
            tuple((name, number_text(value), meaning) for name, value, meaning in rows),
            title=f"{self.nonlinearity}, σ_w {self.sigma_w:g}, σ_b {self.sigma_b:g}: {self.phase}",
        )

    def __str__(self) -> str:
        return str(self.table())


def checked_number(
    asked: str,
    name: str,
    value: float,
    *,
    lowest: float,
    may_be_lowest: bool = True,
    highest: float = math.inf,
) -> float:
    """A finite number, not below the lowest, not above the highest.

    Raises:
        ArgumentError: for anything else.
    """
    is_number = isinstance(value, Real) and not isinstance(value, bool) and math.isfinite(value)
    is_above = is_number and (value > lowest or (may_be_lowest and value == lowest))
    if is_above and value <= highest:
        return float(value)
    bound = f"{lowest:g} or more" if may_be_lowest else f"above {lowest:g}"
    if is_above:
        bound = f"at most {highest:g}"
    raise ArgumentError(f"{asked}: {name} is a finite number, {bound}. Got {value!r} for {name}.")


def _solved(moments: Moments, sigma_w: float, sigma_b: float, start: float) -> MeanField:
    q = fixed_length(moments, sigma_w=sigma_w, sigma_b=sigma_b, start=start)
    at = float(moments.table.q[-1]) if math.isinf(q) else q
    chi = sigma_w**2 * moments.slope_square(at)
    slope = sigma_w**2 * moments.growth(at)
    c = correlation_slope = math.nan
    series: Array = np.empty(0)
    if 0 < q < math.inf:
        series = moments.hermite(q)
        c, correlation_slope = _fixed_correlation(series, chi, sigma_w, sigma_b, q)
    return MeanField(
        nonlinearity=moments.f.label,
        sigma_w=sigma_w,
        sigma_b=sigma_b,
        q=q,
        chi=chi,
        length_slope=slope,
        c=c,
        correlation_slope=correlation_slope,
        series=series,
    )


def _fixed_correlation(
    series: Array, chi: float, sigma_w: float, sigma_b: float, q: float
) -> tuple[float, float]:
    """The stable fixed point in [0, 1], and the slope there.

    A power series without negative coefficients is convex: with slope 1 or less at its fixed point
    1 it has no other, with more there is exactly one other, below 1, and that attracts.
    """
    if chi <= 1 + _CRITICAL:
        return 1.0, chi
    low, high = 0.0, 1.0
    for _ in range(80):
        middle = (low + high) / 2
        image = (sigma_w**2 * float(polynomial.polyval(middle, series)) + sigma_b**2) / q
        low, high = (middle, high) if image > middle else (low, middle)
    slopes = polynomial.polyder(series)
    return low, sigma_w**2 * float(polynomial.polyval(low, slopes)) / q


def _depth(slope: float) -> float:
    """Layers for a factor of e by a map of this slope; infinity where it does not attract."""
    if math.isnan(slope):
        return math.nan
    size = abs(slope)
    if size >= 1 - _CRITICAL:
        return math.inf
    return 0.0 if size == 0 else -1 / math.log(size)
