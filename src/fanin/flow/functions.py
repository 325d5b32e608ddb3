"""The functions of torch as a trace sees them: their names, and which of them it looks inside."""

from __future__ import annotations

import functools
import types
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F

__all__ = ["body_of", "function_name", "on_copy", "stand_in"]


def function_name(function: Callable[..., Any]) -> str:
    """``"add"`` for `torch.add`, ``add_``, ``+`` and ``+=``; ``"rsub"`` where operands swap.

    Example:
        >>> [function_name(f) for f in (F.relu_, torch.Tensor.__itruediv__, torch.special.expit)]
        ['relu', 'div', 'sigmoid']
    """
    name = getattr(function, "__name__", type(function).__name__)
    if name == "__get__":  # a property of tensors, such as ``mT``
        name = getattr(getattr(function, "__self__", None), "__name__", name)
    name = name.partition(".")[0]
    # ``rand`` draws, ``__rand__`` is the operator with its operands swapped.
    if name.startswith("__") and name.endswith("__"):
        name = _OPERATORS.get(name.strip("_"), name)
    name = name.strip("_").removeprefix("special_")
    return _ALIASES.get(name, name)


def body_of(function: Callable[..., Any]) -> Callable[..., Any] | None:
    """The inside of a function that is made of others, to be run under a mode; None for the rest.

    A Python function of torch asks first whether a mode wants the call as a whole, and would ask
    for ever. The body is the same code, with that question answered by no; what it calls asks.
    """
    is_python = isinstance(function, types.FunctionType)
    if not is_python or function.__module__ != F.__name__ or function.__name__ in PRIMITIVES:
        return None
    return _body(function)


@functools.cache
def _body(function: types.FunctionType) -> Callable[..., Any]:
    scope = {**function.__globals__, **dict.fromkeys(_QUESTIONS, lambda *_: False)}
    body = types.FunctionType(
        function.__code__, scope, function.__name__, function.__defaults__, function.__closure__
    )
    body.__kwdefaults__ = function.__kwdefaults__
    return body


# What the functions of `torch.nn.functional` ask by, imported there from `torch.overrides`.
_QUESTIONS = ("has_torch_function", "has_torch_function_unary", "has_torch_function_variadic")


def on_copy(
    function: Callable[..., Any], written: torch.Tensor, /, *args: Any, **kwargs: Any
) -> Any:
    """Call a function that writes into its first argument, on a copy of that.

    Returns:
        What the function returns; the copy, where that is nothing.
    """
    copy = written.clone()
    result = function(copy, *args, **kwargs)
    return copy if result is None else result


def stand_in(function: Callable[..., Any]) -> Callable[..., Any] | None:
    """For a function that refuses tensors without values, one of the same shapes that does not."""
    return _grouped_mm if function_name(function) == "grouped_mm" else None


def _grouped_mm(x: torch.Tensor, weight: torch.Tensor, **kwargs: Any) -> torch.Tensor:
    """On the meta device torch multiplies groups in bfloat16 alone, elsewhere in any dtype."""
    dtype = kwargs.pop("out_dtype", None) or x.dtype
    return F.grouped_mm(x.bfloat16(), weight.bfloat16(), **kwargs).to(dtype)


# Python functions of torch.nn.functional that are one step to a person who reads a model.
PRIMITIVES = frozenset(
    (
        *("relu", "relu6", "leaky_relu", "rrelu", "elu", "celu", "selu", "glu", "silu", "mish"),
        *("hardtanh", "hardswish", "hardsigmoid", "sigmoid", "tanh", "tanhshrink", "softsign"),
        *("_threshold", "threshold", "softmax", "softmin", "log_softmax", "gumbel_softmax"),
        *("dropout", "dropout1d", "dropout2d", "dropout3d", "alpha_dropout"),
        "feature_alpha_dropout",
        *("batch_norm", "group_norm", "instance_norm", "layer_norm", "rms_norm", "normalize"),
        "local_response_norm",
        *("adaptive_avg_pool2d", "adaptive_avg_pool3d", "lp_pool1d", "lp_pool2d", "lp_pool3d"),
        *("max_unpool1d", "max_unpool2d", "max_unpool3d"),
        *(
            f"{kind}max_pool{dims}d{ending}"
            for kind in ("", "_", "adaptive_", "_adaptive_", "fractional_", "_fractional_")
            for dims in (1, 2, 3)
            for ending in ("", "_with_indices")
        ),
        *("embedding", "embedding_bag", "grouped_mm", "scaled_mm", "scaled_grouped_mm"),
        *("interpolate", "upsample", "upsample_bilinear", "upsample_nearest", "grid_sample"),
        *("affine_grid", "pad", "fold", "unfold"),
        *(name for name in dir(F) if name.endswith("_loss")),
        *("cross_entropy", "binary_cross_entropy", "binary_cross_entropy_with_logits", "kl_div"),
    )
)

# Operators, without their underscores; "i" is for in place.
_OPERATORS = {
    **{f"i{name}": name for name in ("add", "sub", "mul", "pow", "matmul", "and", "or", "xor")},
    **{f"r{name}": name for name in ("add", "mul", "and", "or", "xor")},
    **dict.fromkeys(("truediv", "itruediv", "idiv"), "div"),
    "rtruediv": "rdiv",
}

# Other words for the same function, once underscores are off.
_ALIASES = {
    "subtract": "sub",
    **dict.fromkeys(("divide", "true_divide"), "div"),
    **dict.fromkeys(("concat", "concatenate"), "cat"),
    **dict.fromkeys(("swapaxes", "swapdims"), "transpose"),
    **dict.fromkeys(("adjoint", "T", "mT", "H", "mH"), "t"),
    "multiply": "mul",
    "negative": "neg",
    "absolute": "abs",
    "moveaxis": "movedim",
    "expit": "sigmoid",
    "clip": "clamp",
    "log_sigmoid": "logsigmoid",
}
