"""Which tensors may be written through a pointer, and which only through torch's dispatcher.

A pointer write is invisible to everything that torch layers above memory: function transforms,
dispatch modes, traces, tangents, lazy conjugation. All knowledge of these layers, and every private
name it takes, is here. The names have no public counterpart with types in torch 2.13.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.autograd import forward_ad
from torch.nn import Parameter

from fanin import stream
from fanin.errors import ArgumentError, FaninError
from fanin.geometry import Region, is_dtensor, local_tensor, partition

__all__ = [
    "WriteError",
    "check_vmap_randomness",
    "check_whole",
    "check_writable",
    "drawing_device",
    "has_numbers",
    "is_plain",
    "is_reachable",
    "needs_dispatcher",
]

# True inside vmap, grad, jvp, functionalize: also for tensors that were captured unwrapped, and
# whose random operations vmap restricts all the same.
_in_function_transform = torch._C._are_functorch_transforms_active
# Modes that see every operation, FakeTensorMode among them. The public ways to learn of one are
# to be one, or to run an operation.
_count_dispatch_modes = torch._C._len_torch_dispatch_stack
_is_tracing = torch._C._is_tracing  # inside torch.jit.trace, which records operations alone


def is_plain(tensor: Tensor) -> bool:
    """Whether native code may write ``tensor`` as ``numel()`` numbers from ``data_ptr()`` on."""
    return _is_memory(tensor) and tensor.is_cpu and tensor.is_contiguous()


def is_reachable(tensor: Tensor) -> bool:
    """Whether an engine other than the CPU's may write ``tensor`` where it is, with its strides."""
    return _is_memory(tensor) and not tensor.is_cpu and stream.draws_on(tensor.device)


def drawing_device(tensor: Tensor) -> torch.device:
    """Where numbers for this tensor are drawn: on its own device, or else on the CPU."""
    return tensor.device if stream.draws_on(tensor.device) else torch.device("cpu")


def has_numbers(tensor: Tensor) -> bool:
    """False for meta tensors, and for fake ones: their storage is on meta whatever they say."""
    if type(tensor).__torch_dispatch__ is Tensor.__torch_dispatch__:
        return not tensor.is_meta
    return tensor.untyped_storage().device.type != "meta"


def _is_memory(tensor: Tensor) -> bool:
    """Whether there is nothing to the tensor but numbers in memory."""
    return (
        (type(tensor) is Tensor or type(tensor) is Parameter)
        and not _in_function_transform()
        and not _count_dispatch_modes()
        and not _is_tracing()
        # A dual level is open: the tensor may carry a tangent, which a write has to zero.
        and forward_ad._current_level < 0
        and tensor.layout is torch.strided
        and not tensor.is_conj()
        and not tensor.is_neg()
        # Its version cannot be advanced, and outside inference mode torch refuses the write.
        and not tensor.is_inference()
        # Null: nothing to write, a storage that was freed (FSDP), a ZeroTensor.
        and tensor.data_ptr() != 0
    )


def needs_dispatcher(tensor: Tensor) -> bool:
    """Whether somebody must see one operation rather than its effect on memory."""
    return (
        _in_function_transform()
        or _count_dispatch_modes() > 0
        or _is_tracing()
        or (
            type(tensor).__torch_dispatch__ is not Tensor.__torch_dispatch__
            and not is_dtensor(tensor)  # of which each process writes its part, and asks nobody
        )
    )


def check_vmap_randomness(tensor: Tensor) -> None:
    """Refuse what vmap refuses of a random operation in place on this tensor, in torch's words.

    A custom operator's own rule is not consulted for a tensor without a batch dim, one that was
    captured. So torch is asked, by drawing no numbers.
    """
    if not _in_function_transform():
        return
    torch.rand(0, device="cpu")
    if not _is_batched_here(tensor):
        torch.empty_like(tensor.unsqueeze(0)[:0], dtype=torch.float32).uniform_()


def _is_batched_here(tensor: Tensor) -> bool:
    """Whether the innermost transform is a vmap that maps over this tensor."""
    level = torch._C._functorch.maybe_current_level()
    return (
        torch._C._functorch.is_batchedtensor(tensor)
        and torch._C._functorch.maybe_get_level(tensor) == level
    )


class WriteError(FaninError, RuntimeError):
    """A tensor that cannot be written in place; torch raises RuntimeError, or crashes."""


def check_whole(name: str, tensor: Tensor) -> None:
    """Refuse a part of a parameter that is no DTensor, be it empty.

    Raises:
        WriteError: for it.
    """
    part = partition(tensor)
    if part is not None:
        raise WriteError(f"{name}: a tensor to fill is whole, or a DTensor. Got {part}.")


def check_writable(name: str, tensor: Tensor) -> None:
    """Refuse before the first byte what torch refuses, some of it after the last.

    Of a DTensor it is the local tensor that is looked at.

    Raises:
        WriteError: the tensor is not strided, expanded, made in inference mode, has no memory, or
            is a part of a parameter and nothing says which.
    """
    check_whole(name, tensor)
    if is_dtensor(tensor):
        try:
            Region.of(tensor)
        except ArgumentError as error:
            raise WriteError(f"{name}: {error}") from None
        tensor = local_tensor(tensor)
    shape = tuple(tensor.shape)
    if tensor.layout is not torch.strided:
        raise WriteError(
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
    if tensor.device.type in ("cpu", "cuda") and tensor.numel() and not tensor.data_ptr():
        raise WriteError(
            f"{name}: a tensor to fill has memory. Got shape {shape} with a storage of no bytes. "
            "Allocate it first (FSDP frees sharded parameters: unshard them)."
        )
