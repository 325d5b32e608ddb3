"""Calling what a trace recorded, with tensors in the place of values."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import Tensor

from fanin.flow.graph import Operation, Value

__all__ = ["argument", "arguments", "call", "filled", "is_random", "on_cpu"]

_RANDOM = {
    *("dropout", "dropout1d", "dropout2d", "dropout3d", "alpha_dropout", "feature_alpha_dropout"),
    *("rand", "randn", "randint", "randperm", "rand_like", "randn_like", "randint_like"),
    *("normal", "uniform", "bernoulli", "multinomial", "exponential", "gumbel_softmax", "rrelu"),
    *("random", "empty", "empty_like", "new_empty", "poisson", "cauchy", "geometric", "log_normal"),
}


def call(operation: Operation, tensors: Mapping[Value, Tensor | None]) -> tuple[Tensor, ...]:
    """The tensors that a recorded call returns for these inputs, on the CPU."""
    args = [filled(each, tensors) for each in operation.args]
    kwargs = {name: filled(each, tensors) for name, each in operation.kwargs.items()}
    # Where it was recorded need not be where this runs.
    if "device" in kwargs:
        kwargs["device"] = torch.device("cpu")
    with torch.no_grad(), on_cpu():
        result = operation.function(*args, **kwargs)
    return tuple(_tensors(result))


def on_cpu() -> AbstractContextManager[object]:
    """New tensors are on the CPU inside, whatever `torch.set_default_device` or a context says."""
    # A context costs every torch function some time: none where nothing else is said.
    return nullcontext() if torch.get_default_device().type == "cpu" else torch.device("cpu")


def filled(nested: Any, tensors: Mapping[Value, Tensor | None]) -> Any:
    """Arguments with a tensor for every value, each a copy: functions may work in place."""
    if isinstance(nested, Value):
        found = tensors[nested]
        return found.clone() if found is not None else None
    if isinstance(nested, torch.device):
        return torch.device("cpu")
    if isinstance(nested, (list, tuple)):
        items = [filled(each, tensors) for each in nested]
        if isinstance(nested, tuple) and hasattr(nested, "_fields"):
            return type(nested)(*items)
        return type(nested)(items)
    if isinstance(nested, Mapping):
        return {key: filled(each, tensors) for key, each in nested.items()}
    return nested


def is_random(operation: Operation) -> bool:
    """Whether two calls differ."""
    return operation.name in _RANDOM


def arguments(operation: Operation, *names: str) -> dict[str, Any]:
    """The arguments of a call by the names that the function gives them, None where absent."""
    found: dict[str, Any] = dict.fromkeys(names)
    found.update(zip(names, operation.args, strict=False))
    found.update({name: value for name, value in operation.kwargs.items() if name in found})
    return found


def argument(operation: Operation, position: int, *names: str, default: Any = None) -> Any:
    """One argument of a call, by position or by any of its names."""
    if len(operation.args) > position:
        return operation.args[position]
    for name in names:
        if name in operation.kwargs:
            return operation.kwargs[name]
    return default


def _tensors(nested: Any) -> list[Tensor]:
    if isinstance(nested, Tensor):
        return [nested]
    if isinstance(nested, (list, tuple)):
        return [tensor for each in nested for tensor in _tensors(each)]
    if isinstance(nested, Mapping):
        return [tensor for each in nested.values() for tensor in _tensors(each)]
    return []
