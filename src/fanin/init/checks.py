"""What `fanin.init` refuses, as errors that are fanin's and torch's at once."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from fanin.errors import ArgumentError, DtypeError, FaninError

__all__ = ["KernelError", "NumberError", "WriteError", "as_torch", "check_writable", "number"]


class NumberError(ArgumentError, RuntimeError):
    """A number that the distribution does not take; torch's kernels raise RuntimeError."""


class KernelError(DtypeError, NotImplementedError):
    """A dtype or layout that takes no random numbers; torch raises NotImplementedError."""


class WriteError(FaninError, RuntimeError):
    """A tensor that cannot be written in place; torch raises RuntimeError, or crashes."""


def as_torch(error: ArgumentError | DtypeError) -> Exception:
    """The same refusal as an error of the class that torch's kernels raise."""
    kind = NumberError if isinstance(error, ArgumentError) else KernelError
    return kind(str(error))


def number(x: Any) -> float:
    """``x`` as torch's argument parser takes a float: also NumPy scalars and 0-d tensors."""
    if isinstance(x, (str, bytes)):
        raise TypeError(f"init: an argument is a number. Got {x!r}. Pass a float.")
    return float(x)


def check_writable(name: str, tensor: Tensor) -> None:
    """Refuse before the first byte what torch refuses, some of it after the last."""
    shape = tuple(tensor.shape)
    if tensor.layout is not torch.strided:
        raise KernelError(
            f"{name}: a tensor to fill has the strided layout. Got {tensor.layout}. "
            "Fill its values(), or a dense tensor."
        )
    if any(size > 1 and stride == 0 for size, stride in zip(shape, tensor.stride(), strict=True)):
        raise WriteError(
            f"{name}: each element of a tensor to fill has its own memory. Got an expanded tensor "
            f"of shape {shape}. Fill what it was expanded from, or a clone()."
        )
    if tensor.is_inference() and not torch.is_inference_mode_enabled():
        raise WriteError(
            f"{name}: an inference tensor can be written inside torch.inference_mode() only. "
            f"Got one of shape {shape} outside. Fill a clone()."
        )
    if tensor.is_cpu and tensor.numel() and not tensor.data_ptr():
        raise WriteError(
            f"{name}: a tensor to fill has memory. Got shape {shape} with a storage of no bytes. "
            "Allocate it first (FSDP frees sharded parameters: unshard them)."
        )
