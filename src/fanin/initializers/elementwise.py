"""Distributions with numbers of their own: they need no fans and fit any parameter."""

from __future__ import annotations

from typing import Any

from fanin.errors import ArgumentError
from fanin.fills import Constant, Fill, Normal, TruncNormal, Uniform, derived, truncated_moments
from fanin.geometry import Layout
from fanin.initializers.initializer import Initializer, check_numbers, register

__all__ = ["constant", "normal", "ones", "trunc_normal", "uniform", "zeros"]


def constant(value: float) -> Initializer:
    """Every entry is ``value``.

    Example:
        >>> constant(0.1).resolve(Layout.vector(3))
        Constant(value=0.1)
    """
    check_numbers("constant", value=value)
    return Initializer("constant", (("value", value),))


def ones() -> Initializer:
    """Every entry is one: what a norm's weight starts from."""
    return Initializer("ones")


def zeros() -> Initializer:
    """Every entry is zero: what biases start from."""
    return Initializer("zeros")


def uniform(low: float = 0.0, high: float = 1.0) -> Initializer:
    """Uniform on ``[low, high)``.

    Args:
        low: drawn.
        high: never drawn.

    Raises:
        ArgumentError: ``low > high``, or a bound is not finite.

    Example:
        >>> uniform(-0.1, 0.1).resolve(Layout.vector(3)).moments((3,))[0]
        0.0
    """
    check_numbers("uniform", low=low, high=high)
    Uniform(low, high)
    return Initializer("uniform", (("low", low), ("high", high)))


def normal(mean: float = 0.0, std: float = 1.0) -> Initializer:
    """Normal with this mean and standard deviation.

    Args:
        mean: of the entries.
        std: of the entries; a tensor of complex numbers has it over both parts together.

    Raises:
        ArgumentError: a negative std, or a number that is not finite.

    Example:
        >>> normal(std=0.02).resolve(Layout.linear(4, 3))
        Normal(mean=0.0, std=0.02)
    """
    check_numbers("normal", mean=mean, std=std)
    Normal(mean, std)
    return Initializer("normal", (("mean", mean), ("std", std)))


def trunc_normal(
    mean: float = 0.0, std: float = 1.0, *, bounds: tuple[float, float] = (-2.0, 2.0)
) -> Initializer:
    """Normal conditioned on bounds in σ, where ``std`` is that of the result.

    The normal before truncation has ``parent_std = std / c``, c the std of a standard normal on
    ``bounds`` (0.87962566 on ±2); its entries lie in ``mean + bounds·parent_std``.

    Args:
        mean: of the normal before truncation; of the result too when the bounds are symmetric.
        std: of the result.
        bounds: in standard deviations of the normal before truncation.

    Raises:
        ArgumentError: a negative std, bounds that are not ascending, or one that is more than 12
            σ on the wrong side of the mean.

    Example:
        >>> fill = trunc_normal(std=0.02).resolve(Layout.linear(4, 3))
        >>> round(fill.std, 9), round(fill.parent_std, 6)
        (0.02, 0.022737)

    Source: Johnson, Kotz and Balakrishnan 1994, Continuous Univariate Distributions 1, §13.10.1.
    """
    check_numbers("trunc_normal", mean=mean, std=std)
    if not _are_bounds(bounds):
        raise ArgumentError(
            f"trunc_normal: bounds are two ascending numbers of σ, the nearer at most 12 from the "
            f"mean. Got {bounds!r}. Write for instance bounds=(-2, 2)."
        )
    Normal(mean, std)
    return Initializer("trunc_normal", (("mean", mean), ("std", std), ("bounds", tuple(bounds))))


def truncated(mean: float, std: float, bounds: tuple[float, float]) -> TruncNormal:
    """The fill whose result has this std, with bounds in σ of its parent."""
    parent_std = derived(std / truncated_moments(*bounds)[1])
    # An infinite bound times a std of zero has no value: all of the mass is at the mean.
    low, high = (derived(mean + bound * parent_std if parent_std else mean) for bound in bounds)
    return TruncNormal(mean, parent_std, low, high)


def _are_bounds(bounds: Any) -> bool:
    try:
        low, high = bounds
        return bool(low < high and max(low, -high) <= 12)
    except (TypeError, ValueError):
        return False


def _constant(layout: Layout, value: float) -> Fill:
    return Constant(value)


def _uniform(layout: Layout, low: float, high: float) -> Fill:
    return Uniform(low, high)


def _normal(layout: Layout, mean: float, std: float) -> Fill:
    return Normal(mean, std)


def _trunc_normal(layout: Layout, mean: float, std: float, bounds: tuple[float, float]) -> Fill:
    return truncated(mean, std, bounds)


register(constant, _constant)
register(ones, lambda layout: Constant(1.0))
register(zeros, lambda layout: Constant(0.0))
register(uniform, _uniform)
register(normal, _normal)
register(trunc_normal, _trunc_normal)
