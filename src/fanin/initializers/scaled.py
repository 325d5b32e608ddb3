"""Scaled by a fan: one family, `variance_scaling`, and the named cases of it."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from torch import Tensor

from fanin.errors import ArgumentError, UnknownNameError, one_of
from fanin.fills import Fill, Normal, Uniform, derived
from fanin.gains import gain as gain_of
from fanin.geometry import MODES, Layout
from fanin.initializers.elementwise import truncated
from fanin.initializers.initializer import Initializer, check_numbers, register

__all__ = [
    "kaiming_normal",
    "kaiming_uniform",
    "lecun_normal",
    "lecun_uniform",
    "variance_scaling",
    "xavier_normal",
    "xavier_uniform",
]

DISTRIBUTIONS = ("normal", "truncated_normal", "uniform")

Nonlinearity = str | Callable[[Tensor], Tensor]


def variance_scaling(
    scale: float = 1.0, *, mode: str = "fan_in", distribution: str = "normal"
) -> Initializer:
    """Zero mean and ``std = sqrt(scale / fan)``.

    Args:
        scale: gain², not negative.
        mode: the fan: ``"fan_in"``, ``"fan_out"``, ``"fan_avg"`` or ``"fan_geo_avg"``.
        distribution: ``"normal"``, ``"truncated_normal"`` (at ±2σ, with the std of the result),
            or ``"uniform"`` (on ``±sqrt(3)·std``).

    Returns:
        A description for weights with fans.

    Raises:
        ArgumentError: a negative scale, an unknown mode or distribution.
        LayoutError: when resolved for a parameter without fans.

    Example:
        >>> variance_scaling(2.0).resolve(Layout.linear(64, 32)).std
        0.25

    Source: Glorot and Bengio 2010, AISTATS; He et al. 2015, arXiv:1502.01852.
    """
    check_numbers("variance_scaling", scale=scale)
    if scale < 0:
        raise ArgumentError(f"variance_scaling: scale is not negative. Got {scale}. It is gain².")
    _check("variance_scaling", "mode", mode, MODES)
    _check("variance_scaling", "distribution", distribution, DISTRIBUTIONS)
    arguments = (("scale", scale), ("mode", mode), ("distribution", distribution))
    return Initializer("variance_scaling", arguments)


def xavier_normal(
    *, gain: float = 1.0, nonlinearity: Nonlinearity | None = None, param: Any = None
) -> Initializer:
    """Normal with ``std = gain·sqrt(2 / (fan_in + fan_out))``, a compromise of both directions.

    `variance_scaling` with ``scale = gain²`` and ``mode="fan_avg"``.

    Args:
        gain: multiplies the std.
        nonlinearity: the function that follows, in place of its gain.
        param: of the nonlinearity.

    Returns:
        A description for weights with fans.

    Raises:
        ArgumentError: a negative gain, or both a gain and a nonlinearity.
        LayoutError: when resolved for a parameter without fans.

    Example:
        >>> xavier_normal().resolve(Layout.linear(6, 2)).std
        0.5

    Source: Glorot and Bengio 2010, AISTATS, eq. 12.
    """
    return _xavier("xavier_normal", gain, nonlinearity, param)


def xavier_uniform(
    *, gain: float = 1.0, nonlinearity: Nonlinearity | None = None, param: Any = None
) -> Initializer:
    """Uniform on ``±gain·sqrt(6 / (fan_in + fan_out))``, a compromise of both directions.

    `variance_scaling` with ``scale = gain²``, ``mode="fan_avg"`` and ``distribution="uniform"``;
    arguments and errors are those of `xavier_normal`.

    Example:
        >>> xavier_uniform().resolve(Layout.linear(4, 2)).high
        1.0

    Source: Glorot and Bengio 2010, AISTATS, eq. 16.
    """
    return _xavier("xavier_uniform", gain, nonlinearity, param)


def kaiming_normal(
    *, nonlinearity: Nonlinearity = "relu", param: Any = None, mode: str = "fan_in"
) -> Initializer:
    """Normal weights that keep the variance of activations constant.

    ``std = gain(nonlinearity) / sqrt(fan)``: `variance_scaling` with ``scale = gain**2``.

    Args:
        nonlinearity: name or callable of the function that follows the layer.
        param: of the nonlinearity: the negative slope of leaky_relu.
        mode: ``"fan_in"`` keeps the forward variance; ``"fan_out"`` the backward one, with the
            gain of the derivative; the averages take the forward gain.

    Returns:
        A description for weights with fans.

    Raises:
        ArgumentError: an unknown nonlinearity or mode, or one that has no gain.
        LayoutError: when resolved for a parameter without fans.

    Example:
        >>> kaiming_normal().resolve(Layout.linear(64, 32)).std
        0.25

    Source: He et al. 2015, arXiv:1502.01852, eq. 10 (fan_in) and 14 (fan_out).
    """
    return _kaiming("kaiming_normal", nonlinearity, param, mode)


def kaiming_uniform(
    *, nonlinearity: Nonlinearity = "relu", param: Any = None, mode: str = "fan_in"
) -> Initializer:
    """Uniform weights that keep the variance of activations constant.

    On ``±sqrt(3)·gain(nonlinearity) / sqrt(fan)``: `variance_scaling` with ``scale = gain**2`` and
    ``distribution="uniform"``; arguments and errors are those of `kaiming_normal`.

    Example:
        >>> kaiming_uniform().resolve(Layout.linear(64, 6)).high
        1.0

    Source: He et al. 2015, arXiv:1502.01852, eq. 10 and 14.
    """
    return _kaiming("kaiming_uniform", nonlinearity, param, mode)


def lecun_normal() -> Initializer:
    """Normal with ``std = 1 / sqrt(fan_in)``: `variance_scaling` with its defaults.

    Example:
        >>> lecun_normal().resolve(Layout.linear(8, 4)).std
        0.5

    Source: LeCun et al. 1998, Efficient BackProp, eq. 16.
    """
    return Initializer("lecun_normal")


def lecun_uniform() -> Initializer:
    """Uniform on ``±sqrt(3 / fan_in)``: `variance_scaling` with ``distribution="uniform"``.

    Example:
        >>> lecun_uniform().resolve(Layout.linear(8, 3)).high
        1.0

    Source: LeCun et al. 1998, Efficient BackProp, eq. 16.
    """
    return Initializer("lecun_uniform")


def _xavier(name: str, gain: float, nonlinearity: Nonlinearity | None, param: Any) -> Initializer:
    check_numbers(name, gain=gain)
    if gain < 0:
        raise ArgumentError(f"{name}: gain is not negative. Got {gain}.")
    if (nonlinearity is None and param is not None) or (nonlinearity is not None and gain != 1.0):
        raise ArgumentError(
            f"{name}: a gain, or a nonlinearity and its param. Got gain={gain}, nonlinearity="
            f"{nonlinearity!r}, param={param!r}. Leave one out."
        )
    if nonlinearity is not None:
        _gain(nonlinearity, param)
    return Initializer(name, (("gain", gain), ("nonlinearity", nonlinearity), ("param", param)))


def _kaiming(name: str, nonlinearity: Nonlinearity, param: Any, mode: str) -> Initializer:
    _check(name, "mode", mode, MODES)
    _gain(nonlinearity, param, mode)
    return Initializer(name, (("nonlinearity", nonlinearity), ("param", param), ("mode", mode)))


def _gain(nonlinearity: Nonlinearity, param: Any, mode: str = "fan_in") -> float:
    return gain_of(nonlinearity, param, of="backward" if mode == "fan_out" else "second_moment")


def _check(name: str, what: str, word: str, choices: tuple[str, ...]) -> None:
    if word not in choices:
        raise UnknownNameError(
            f"{name}: {what} is one of a few. Got {word!r}. {one_of(str(word), choices)}"
        )


def _scaled(layout: Layout, gain: float, mode: str, distribution: str) -> Fill:
    fan = layout.fans.of(mode)
    std = gain / math.sqrt(fan) if fan else 0.0  # without a fan there is nothing to fill
    if distribution == "uniform":
        bound = derived(math.sqrt(3.0) * std)
        return Uniform(-bound, bound)
    if distribution == "truncated_normal":
        return truncated(0.0, std, (-2.0, 2.0))
    return Normal(0.0, derived(std))


def _resolve_xavier(distribution: str) -> Callable[..., Fill]:
    def resolve(layout: Layout, gain: float, nonlinearity: Any, param: Any) -> Fill:
        if nonlinearity is not None:
            gain = _gain(nonlinearity, param)
        return _scaled(layout, gain, "fan_avg", distribution)

    return resolve


def _resolve_kaiming(distribution: str) -> Callable[..., Fill]:
    def resolve(layout: Layout, nonlinearity: Any, param: Any, mode: str) -> Fill:
        return _scaled(layout, _gain(nonlinearity, param, mode), mode, distribution)

    return resolve


register(
    variance_scaling,
    lambda layout, scale, mode, distribution: _scaled(layout, math.sqrt(scale), mode, distribution),
)
register(xavier_normal, _resolve_xavier("normal"))
register(xavier_uniform, _resolve_xavier("uniform"))
register(kaiming_normal, _resolve_kaiming("normal"))
register(kaiming_uniform, _resolve_kaiming("uniform"))
register(lecun_normal, lambda layout: _scaled(layout, 1.0, "fan_in", "normal"))
register(lecun_uniform, lambda layout: _scaled(layout, 1.0, "fan_in", "uniform"))
