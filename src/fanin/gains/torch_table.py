"""torch.nn.init's gains, number for number."""

from __future__ import annotations

import math
from numbers import Real

from fanin.errors import ArgumentError, UnknownNameError, one_of

__all__ = ["calculate_gain"]

_LINEAR = (
    "linear",
    "conv1d",
    "conv2d",
    "conv3d",
    "conv_transpose1d",
    "conv_transpose2d",
    "conv_transpose3d",
)
_NAMES = (*_LINEAR, "sigmoid", "tanh", "relu", "leaky_relu", "selu")


def calculate_gain(nonlinearity: str, param: float | None = None) -> float:
    """The gain that ``torch.nn.init.calculate_gain`` returns.

    1 for linear, convolutions and sigmoid, 5/3 for tanh, √2 for relu, √(2 / (1 + slope²)) for
    leaky_relu, 3/4 for selu. `fanin.gain` computes the ones that preserve variance.

    Args:
        nonlinearity: the name as torch spells it.
        param: the negative slope of leaky_relu (default 0.01), also as a NumPy scalar. Other
            names ignore it, as in torch.

    Returns:
        The gain.

    Raises:
        UnknownNameError: the name is not in torch's table (torch raises ValueError, which this is).
        ArgumentError: the slope is not a number (likewise a ValueError).

    Example:
        >>> calculate_gain("leaky_relu", 1.0)
        1.0
        >>> calculate_gain("tanh") == 5 / 3
        True

    Source: torch.nn.init.calculate_gain in torch 2.13. selu's 3/4 was found by experiment
        (pytorch pull request 50664); torch gives no derivation of tanh's 5/3.
    """
    if nonlinearity in _LINEAR or nonlinearity == "sigmoid":
        return 1
    if nonlinearity == "tanh":
        return 5.0 / 3
    if nonlinearity == "relu":
        return math.sqrt(2.0)
    if nonlinearity == "leaky_relu":
        return math.sqrt(2.0 / (1 + _slope(param) ** 2))
    if nonlinearity == "selu":
        return 3.0 / 4
    raise UnknownNameError(
        f"calculate_gain: Unsupported nonlinearity {nonlinearity}: torch's table has a few names. "
        f"Got {nonlinearity!r} for nonlinearity. {one_of(str(nonlinearity), _NAMES)} "
        "gain() computes the gain of any function."
    )


def _slope(param: object) -> float:
    if param is None:
        return 0.01  # F.leaky_relu's default
    # NumPy's floats and integers are Real; its bool is not, Python's is.
    if isinstance(param, Real) and not isinstance(param, bool):
        return float(param)
    raise ArgumentError(
        f"calculate_gain: negative_slope {param} not a valid number: leaky_relu takes a real one. "
        f"Got {param!r} for param. Pass a float, or None for 0.01."
    )
