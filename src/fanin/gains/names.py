"""The nonlinearities that go by a name, and those that have no gain."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from numbers import Real

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fanin.errors import ArgumentError, UnknownNameError, one_of
from fanin.gains.elementwise import Elementwise

__all__ = ["arguments", "bind", "canonical", "nonlinearities", "refuse_if_gainless"]


def nonlinearities() -> dict[str, dict[str, float | None]]:
    """The names that `gain` knows, each with what ``param`` means there and its default.

    Returns:
        Name to parameters; two parameters are given as a pair, None marks one without default.

    Example:
        >>> nonlinearities()["leaky_relu"], nonlinearities()["hardtanh"]
        ({'negative_slope': 0.01}, {'min_val': -1.0, 'max_val': 1.0})
    """
    return {name: dict(entry.parameters) for name, entry in _TABLE.items()}


def canonical(name: str) -> str:
    """The table's spelling of a name; case, ``_`` and ``-`` do not matter (``LeakyReLU``)."""
    key = _key(name)
    if key in _GAINLESS_KEYS:
        raise _gainless(name, _GAINLESS_KEYS[key])
    if key not in _KEYS:
        raise UnknownNameError(
            "gain: a nonlinearity is a known name, a callable or an nn.Module. "
            f"Got {name!r} for nonlinearity. {one_of(name.lower(), [*_TABLE, *_ALIASES])}"
        )
    return _KEYS[key]


def arguments(name: str, param: object) -> tuple[float, ...]:
    """``param`` as the numbers that the named function takes, defaults filled in."""
    parameters = _TABLE[name].parameters
    if param is None and None not in parameters.values():
        return tuple(value for value in parameters.values() if value is not None)
    if not parameters:
        raise ArgumentError(
            f"gain of {name}: it takes no parameter. Got {param!r} for param. Leave it out."
        )
    given = tuple(param) if isinstance(param, tuple | list) else (param,)
    numbers = [
        float(x)
        for x in given
        if isinstance(x, Real) and not isinstance(x, bool) and math.isfinite(x)
    ]
    if len(numbers) != len(given) or len(given) != len(parameters):
        wanted = " and ".join(parameters)
        form = "a finite number" if len(parameters) == 1 else "a pair of finite numbers"
        raise ArgumentError(
            f"gain of {name}: param is {wanted}, {form}. Got {param!r} for param. "
            f"Write gain({name!r}, {_sample(parameters)})."
        )
    return tuple(numbers)


def bind(name: str, numbers: tuple[float, ...]) -> Elementwise:
    """The named function with its parameters set."""
    entry = _TABLE[name]
    keywords = dict(zip(entry.parameters, numbers, strict=True))
    label = ", ".join(f"{word}={number:g}" for word, number in keywords.items())
    return Elementwise(
        f"{name}({label})" if label else name, lambda x: entry.function(x, **keywords)
    )


def refuse_if_gainless(function: Callable[[Tensor], Tensor]) -> None:
    """Refuse torch's own modules and functions that have no gain, with the reason."""
    kind = type(function) if isinstance(function, nn.Module) else function
    if isinstance(function, type) and issubclass(function, nn.Module):
        raise ArgumentError(
            f"gain: a module is given as an instance. Got the class {function.__name__} for "
            f"nonlinearity. Write {function.__name__}(), or its name."
        )
    name = getattr(kind, "__name__", "")
    ours = (getattr(kind, "__module__", None) or "").startswith("torch.nn.")
    if ours and _key(name) in _GAINLESS_KEYS:
        raise _gainless(name, _GAINLESS_KEYS[_key(name)])


def _gainless(name: str, reason: str) -> ArgumentError:
    return ArgumentError(
        f"gain: only a function of each element alone has a gain. Got {name!r} for nonlinearity: "
        f"{reason}."
    )


def _sample(parameters: Mapping[str, float | None]) -> str:
    values = tuple(0.0 if value is None else value for value in parameters.values())
    return repr(values if len(values) > 1 else values[0])


def _key(name: str) -> str:
    return name.lower().replace("_", "").replace("-", "")


@dataclass(frozen=True)
class _Entry:
    function: Callable[..., Tensor]
    parameters: Mapping[str, float | None] = field(default_factory=dict)


def _identity(x: Tensor) -> Tensor:
    return x


def _gelu_tanh(x: Tensor) -> Tensor:
    return F.gelu(x, approximate="tanh")


def _quick_gelu(x: Tensor) -> Tensor:
    return x * torch.sigmoid(1.702 * x)  # Hendrycks & Gimpel 2016, section 2


def _relu_squared(x: Tensor) -> Tensor:
    return F.relu(x).square()


def _prelu(x: Tensor, *, weight: float) -> Tensor:
    return F.leaky_relu(x, weight)


def _rrelu(x: Tensor, *, lower: float, upper: float) -> Tensor:
    return F.rrelu(x, lower, upper, training=False)  # the mean slope, (lower + upper) / 2


def _hardsigmoid(x: Tensor) -> Tensor:
    return F.relu6(x + 3) / 6  # the slope in F.hardsigmoid's backward is 1/6 in float32 only


def _silu(x: Tensor, *, beta: float) -> Tensor:
    return x * torch.sigmoid(beta * x)


def _sin(x: Tensor, *, omega: float) -> Tensor:
    return torch.sin(omega * x)


# Defaults are those of torch.nn's modules.
_TABLE: dict[str, _Entry] = {
    "linear": _Entry(_identity),
    "identity": _Entry(_identity),
    "conv1d": _Entry(_identity),
    "conv2d": _Entry(_identity),
    "conv3d": _Entry(_identity),
    "conv_transpose1d": _Entry(_identity),
    "conv_transpose2d": _Entry(_identity),
    "conv_transpose3d": _Entry(_identity),
    "relu": _Entry(F.relu),
    "relu6": _Entry(F.relu6),
    "relu_squared": _Entry(_relu_squared),
    "leaky_relu": _Entry(F.leaky_relu, {"negative_slope": 0.01}),
    "prelu": _Entry(_prelu, {"weight": 0.25}),
    "rrelu": _Entry(_rrelu, {"lower": 1 / 8, "upper": 1 / 3}),
    "elu": _Entry(F.elu, {"alpha": 1.0}),
    "celu": _Entry(F.celu, {"alpha": 1.0}),
    "selu": _Entry(F.selu),
    "gelu": _Entry(F.gelu),
    "gelu_tanh": _Entry(_gelu_tanh),
    "quick_gelu": _Entry(_quick_gelu),
    "silu": _Entry(_silu, {"beta": 1.0}),
    "mish": _Entry(F.mish),
    "hardswish": _Entry(F.hardswish),
    "softplus": _Entry(F.softplus, {"beta": 1.0}),
    "sigmoid": _Entry(torch.sigmoid),
    "hardsigmoid": _Entry(_hardsigmoid),
    "logsigmoid": _Entry(F.logsigmoid),
    "tanh": _Entry(torch.tanh),
    "hardtanh": _Entry(F.hardtanh, {"min_val": -1.0, "max_val": 1.0}),
    "tanhshrink": _Entry(F.tanhshrink),
    "softsign": _Entry(F.softsign),
    "softshrink": _Entry(F.softshrink, {"lambd": 0.5}),
    "hardshrink": _Entry(F.hardshrink, {"lambd": 0.5}),
    "threshold": _Entry(F.threshold, {"threshold": None, "value": None}),
    "sin": _Entry(_sin, {"omega": 1.0}),
}

_ALIASES = {
    "swish": "silu",
    "hardsilu": "hardswish",
    "sine": "sin",
    "relu2": "relu_squared",
    "gelu_new": "gelu_tanh",
    "gelu_pytorch_tanh": "gelu_tanh",
}
_KEYS = {_key(name): name for name in _TABLE} | {_key(a): name for a, name in _ALIASES.items()}

_GATED = (
    "it multiplies one half of its input by a function of the other. With independent halves its "
    "forward gain is that of the function on the gate; use {gate}"
)
_SHARED = "its outputs share one sum. Use 'linear' for the layer before it"
_RANDOM = "it is random when it trains and keeps the mean by itself. Use the function before it"
_NORM = "it sets the scale whatever came in. Use 'linear' for the layer before it"
_POOL = "it mixes neighbours. Use the function before it"

_GAINLESS = {
    "glu": _GATED.format(gate="'sigmoid'"),
    "geglu": _GATED.format(gate="'gelu'"),
    "swiglu": _GATED.format(gate="'silu'"),
    "reglu": _GATED.format(gate="'relu'"),
    **dict.fromkeys(
        ("softmax", "softmax2d", "softmin", "log_softmax", "gumbel_softmax"),
        _SHARED,
    ),
    **dict.fromkeys(
        (
            *("dropout", "dropout1d", "dropout2d", "dropout3d"),
            *("alpha_dropout", "feature_alpha_dropout"),
        ),
        _RANDOM,
    ),
    **dict.fromkeys(
        (
            *("normalize", "layer_norm", "rms_norm", "group_norm", "local_response_norm"),
            *("batch_norm", "batch_norm1d", "batch_norm2d", "batch_norm3d"),
            *("instance_norm", "instance_norm1d", "instance_norm2d", "instance_norm3d"),
        ),
        _NORM,
    ),
    **dict.fromkeys(
        (f"{kind}_pool{n}d" for kind in ("max", "avg", "lp") for n in (1, 2, 3)),
        _POOL,
    ),
}
_GAINLESS_KEYS = {_key(name): reason for name, reason in _GAINLESS.items()}
