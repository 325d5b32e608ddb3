"""What `fanin.init` refuses, as errors that are fanin's and torch's at once."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from fanin.errors import ArgumentError, DtypeError

__all__ = ["KernelError", "NumberError", "as_torch", "check_strided", "number"]


class NumberError(ArgumentError, RuntimeError):
    """A number that the distribution does not take; torch's kernels raise RuntimeError."""


class KernelError(DtypeError, NotImplementedError):
    """A dtype or layout that takes no random numbers; torch raises NotImplementedError."""


def as_torch(error: ArgumentError | DtypeError) -> Exception:
    """The same refusal as an error of the class that torch's kernels raise."""
    kind = NumberError if isinstance(error, ArgumentError) else KernelError
    return kind(str(error))


def number(x: Any) -> float:
    """``x`` as torch's argument parser takes a float: also NumPy scalars and 0-d tensors."""
    if isinstance(x, (str, bytes)):
        raise TypeError(f"init: an argument is a number. Got {x!r}. Pass a float.")
    return float(x)


def check_strided(name: str, tensor: Tensor) -> None:
    """Refuse a layout that torch has no kernel for."""
    if tensor.layout is not torch.strided:
        raise KernelError(
            f"{name}: a tensor to fill has the strided layout. Got {tensor.layout}. "
            "Fill its values(), or a dense tensor."
        )
