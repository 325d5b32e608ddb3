"""A copy of a model that has shapes and no memory, and what stands in the way of one."""

from __future__ import annotations

import copy
from itertools import chain
from typing import Any, TypeVar

import torch
from torch import nn
from torch.nn.parameter import is_lazy

__all__ = ["meta_copy", "uncopyable"]

Inputs = TypeVar("Inputs")


def meta_copy(model: nn.Module, inputs: Inputs) -> tuple[nn.Module, Inputs]:
    """A deep copy of a model and of inputs for it, with meta tensors in the place of tensors."""
    memo: dict[int, Any] = {}
    for module in model.modules():
        for tensor in chain(module._parameters.values(), module._buffers.values()):
            if tensor is not None:
                memo[id(tensor)] = _without_memory(tensor)
    with _TensorsToMeta():
        return copy.deepcopy((model, inputs), memo)


def uncopyable(model: nn.Module) -> str:
    """The first attribute that cannot be copied, such as ``"blocks.0.lock"``; ``""`` for none."""
    known: dict[int, Any] = {id(module): module for module in model.modules()}
    with _TensorsToMeta():
        for name, module in model.named_modules():
            for attribute, item in vars(module).items():
                try:
                    copy.deepcopy(item, dict(known))
                except Exception:
                    return f"{name}.{attribute}".lstrip(".")
    return ""


class _TensorsToMeta(torch.overrides.TorchFunctionMode):
    """Tensors that are no parameters or buffers lose their memory too when they are copied."""

    def __torch_function__(
        self, func: Any, types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        if func is not torch.Tensor.__deepcopy__:
            return func(*args, **(kwargs or {}))
        tensor, memo = args
        if id(tensor) not in memo:
            memo[id(tensor)] = _without_memory(tensor)
        return memo[id(tensor)]


def _without_memory(tensor: torch.Tensor) -> torch.Tensor:
    """The tensor on the meta device, but for a single number: branches may depend on it."""
    if is_lazy(tensor):
        like: Any = type(tensor)
        uninitialized: torch.Tensor = like(
            requires_grad=tensor.requires_grad, device="meta", dtype=tensor.data.dtype
        )
        return uninitialized
    is_parameter = isinstance(tensor, nn.Parameter)
    if tensor.dim() == 0 and not is_parameter and not tensor.is_meta:
        return tensor.detach().cpu().clone()
    twin = torch.empty_like(tensor.detach(), device="meta")
    return nn.Parameter(twin, requires_grad=tensor.requires_grad) if is_parameter else twin
