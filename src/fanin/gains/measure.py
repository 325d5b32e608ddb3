"""`gain`: what a layer's std is multiplied by to make up for the function that follows it."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from numbers import Integral
from typing import Literal, TypeAlias, TypeVar, overload

import numpy as np
from torch import Tensor

from fanin.errors import ArgumentError, UnknownNameError, one_of
from fanin.gains.elementwise import Elementwise, apart, from_callable
from fanin.gains.empirical import EmpiricalGain, estimate
from fanin.gains.names import arguments, bind, canonical, refuse_if_gainless
from fanin.gains.quadrature import Array, normal_mean
from fanin.gains.torch_table import calculate_gain

__all__ = ["gain"]

Nonlinearity: TypeAlias = str | Callable[[Tensor], Tensor]
Of: TypeAlias = Literal["second_moment", "variance", "backward"]
Param: TypeAlias = float | tuple[float, float] | None

_T = TypeVar("_T")

_OF = ("second_moment", "variance", "backward")
_METHODS = ("quadrature", "table", "empirical")
_SAMPLES = 1_000_000  # a standard error of about 1e-3


@overload
def gain(
    nonlinearity: Nonlinearity,
    param: Param = None,
    *,
    of: Of = "second_moment",
    method: Literal["quadrature", "table"] = "quadrature",
) -> float: ...
@overload
def gain(
    nonlinearity: Nonlinearity,
    param: Param = None,
    *,
    of: Of = "second_moment",
    method: Literal["empirical"],
    samples: int | None = None,
    seed: int | None = None,
) -> EmpiricalGain: ...
def gain(
    nonlinearity: Nonlinearity,
    param: Param = None,
    *,
    of: Of = "second_moment",
    method: Literal["quadrature", "table", "empirical"] = "quadrature",
    samples: int | None = None,
    seed: int | None = None,
) -> float | EmpiricalGain:
    """The factor on a layer's std that undoes what its nonlinearity f does to the scale.

    With z ~ N(0, 1): ``second_moment`` is 1/√E f(z)², which keeps the size of activations from
    layer to layer (He's √2 for relu); ``variance`` is 1/std f(z); ``backward`` is 1/√E f'(z)²,
    which keeps the size of gradients.

    Args:
        nonlinearity: a name of torch.nn.functional or torch.nn in any case, a function from tensor
            to tensor, or an nn.Module instance. Functions and modules must be elementwise; a
            module counts as in eval mode.
        param: the named function's parameter, default as in torch: negative_slope of leaky_relu,
            weight of prelu, alpha of elu and celu, beta of softplus and silu, lambd of the
            shrinks, omega of sin; the pairs (min_val, max_val) of hardtanh, (lower, upper) of
            rrelu (whose slope is then their mean, as in eval mode) and (threshold, value) of
            threshold, which has no default.
        of: ``"second_moment"``, ``"variance"`` or ``"backward"``. The derivative is autograd's:
            at a jump it is 0, so a jump (hardshrink) adds nothing.
        method: ``"quadrature"`` is good to 1e-10; ``"table"`` is torch's `calculate_gain`;
            ``"empirical"`` divides √mean x² (or x.std()) by √mean f(x)² (or f(x).std()), and 1 by
            √mean f'(x)², over random normal x.
        samples: how many x the empirical method draws, a million by default.
        seed: of those x, 0 by default. torch's generators are not touched.

    Returns:
        The gain; for ``"empirical"`` an `EmpiricalGain` with its standard error.

    Raises:
        UnknownNameError: an unknown name; the message has the nearest.
        ArgumentError: a function that is not elementwise (softmax, glu, dropout, norms), returns
            NaN or infinity, is zero or constant, or, for ``"backward"``, has no autograd; or a
            parameter that the function does not take.

    Example:
        >>> round(gain("relu"), 4), round(gain("tanh"), 4), round(gain("gelu"), 4)
        (1.4142, 1.5925, 1.5335)
        >>> abs(gain(lambda x: 2 * x) - 0.5) < 1e-12
        True
        >>> sampled = gain("tanh", method="empirical")
        >>> abs(sampled.value - gain("tanh")) < 5 * sampled.standard_error
        True

    Source: He et al. 2015, arXiv:1502.01852, eq. 7-14, with E f² in place of relu's 1/2; backward:
        Pennington et al. 2017, arXiv:1711.04735, the mean squared slope χ.
    """
    _check_choice("of", of, _OF)
    _check_choice("method", method, _METHODS)
    if method == "empirical":
        count, seed = _sampling(samples, seed)
        rng = np.random.default_rng(seed)
        return _with(nonlinearity, param, lambda f: _sampled(f, of, rng.standard_normal(count)))
    if samples is not None or seed is not None:
        raise ArgumentError(
            f"gain: samples and seed belong to the empirical method. Got method={method!r}. "
            'Leave them out, or pass method="empirical".'
        )
    if method == "table":
        return _tabulated(nonlinearity, param, of)
    if isinstance(nonlinearity, str):
        name = canonical(nonlinearity)
        return _named(name, arguments(name, param), of)
    return _with(nonlinearity, param, lambda f: _integrated(f, of))


@functools.lru_cache(maxsize=1024)
def _named(name: str, numbers: tuple[float, ...], of: str) -> float:
    return apart(lambda: _integrated(bind(name, numbers), of), keep_rng=False)


def _with(nonlinearity: Nonlinearity, param: Param, work: Callable[[Elementwise], _T]) -> _T:
    """Do ``work`` on the function that is meant, apart from the caller's torch modes."""
    if isinstance(nonlinearity, str):
        name = canonical(nonlinearity)
        bound = bind(name, arguments(name, param))
        return apart(lambda: work(bound), keep_rng=False)
    if not callable(nonlinearity):
        raise ArgumentError(
            "gain: a nonlinearity is a known name, a callable or an nn.Module. "
            f"Got {nonlinearity!r} for nonlinearity. Pass for instance 'relu'."
        )
    refuse_if_gainless(nonlinearity)
    if param is not None:
        raise ArgumentError(
            "gain: a callable carries its own parameters. "
            f"Got {param!r} for param. Leave it out, or bind it with functools.partial."
        )
    return apart(lambda: work(from_callable(nonlinearity)), keep_rng=True)


def _integrated(f: Elementwise, of: str) -> float:
    function = f.slopes if of == "backward" else f.values
    if of != "variance":
        return 1 / math.sqrt(_positive(_mean_square(function, f.label), 0.0, f.label, of))
    mean = normal_mean(function, label=f.label)
    around = _mean_square(lambda z: function(z) - mean, f.label)
    return 1 / math.sqrt(_positive(around, mean, f.label, of))


def _mean_square(function: Callable[[Array], Array], label: str) -> float:
    return normal_mean(lambda z: np.square(function(z)), label=label)


def _sampled(f: Elementwise, of: str, x: Array) -> EmpiricalGain:
    y = f.slopes(x) if of == "backward" else f.values(x)
    center = float(y.mean()) if of == "variance" else 0.0
    spread = np.square(y - center)
    _positive(float(spread.mean()), center, f.label, of)
    if of == "backward":
        return estimate(np.ones_like(spread), spread)
    return estimate(np.square(x - x.mean() if of == "variance" else x), spread)


def _positive(square: float, mean: float, label: str, of: str) -> float:
    """The mean square, unless it is zero up to the rounding of values around ``mean``."""
    if square > (1e-14 * mean) ** 2:
        return square
    what = {"second_moment": "zero", "variance": "constant", "backward": "flat"}[of]
    raise ArgumentError(
        f"gain of {label}: what it passes on must not vanish. Got a function that is {what} "
        f"wherever a normal number may fall, for of={of!r}. "
        "No factor makes up for that; choose another nonlinearity."
    )


def _tabulated(nonlinearity: Nonlinearity, param: Param, of: str) -> float:
    if not isinstance(nonlinearity, str) or of != "second_moment":
        got = f"of={of!r}" if isinstance(nonlinearity, str) else repr(nonlinearity)
        raise ArgumentError(
            "gain: torch's table has one gain for each of a few names. "
            f'Got {got} with method="table". Use method="quadrature".'
        )
    if isinstance(param, tuple):
        raise ArgumentError(
            "gain: torch's table takes one number, leaky_relu's slope. "
            f"Got {param!r} for param. Pass a float."
        )
    return calculate_gain(canonical(nonlinearity), param)


def _check_choice(argument: str, value: str, choices: tuple[str, ...]) -> None:
    if value not in choices:
        raise UnknownNameError(
            f"gain: {argument} is one of a few words. Got {value!r} for {argument}. "
            f"{one_of(str(value), choices)}"
        )


def _sampling(samples: int | None, seed: int | None) -> tuple[int, int]:
    samples = _SAMPLES if samples is None else samples
    seed = 0 if seed is None else seed
    are_whole = isinstance(samples, Integral) and isinstance(seed, Integral)
    if not are_whole or samples < 2 or seed < 0:
        raise ArgumentError(
            "gain: an estimate needs two or more samples and a seed that is not negative, whole "
            f"numbers. Got samples={samples!r} and seed={seed!r}. Change them, or leave them out."
        )
    return samples, seed
