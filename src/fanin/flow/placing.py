"""Calls without their devices: in a trace, every tensor is where tensors have no values."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeAlias

import torch
from torch import Tensor

__all__ = ["placeless"]

Call: TypeAlias = tuple[tuple[Any, ...], dict[str, Any]]


def placeless(
    function: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]
) -> Call | None:
    """The arguments of a call without what they say about devices; None where nothing is left.

    Example:
        >>> x = torch.zeros(2)
        >>> placeless(torch.Tensor.to, (x, "cuda", torch.float16), {})[0][1:]
        (torch.float16,)
        >>> placeless(torch.Tensor.cuda, (x,), {}) is None
        True
    """
    if function in _MOVES:
        return None
    kwargs = {key: value for key, value in kwargs.items() if key not in ("device", "pin_memory")}
    if function is not Tensor.to:
        return args, kwargs
    tensor, *rest = args
    rest.append(kwargs.pop("other", None))
    dtypes = [item.dtype if isinstance(item, Tensor) else item for item in rest]
    dtypes = [item for item in dtypes if isinstance(item, torch.dtype)]
    if not dtypes and kwargs.keys().isdisjoint(("dtype", "memory_format", "copy")):
        return None
    return (tensor, *dtypes), kwargs


_MOVES = (Tensor.cpu, Tensor.cuda, Tensor.pin_memory)
