"""A model's tensors as one safetensors file, byte for byte the same for the same model."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import IO

import torch
from torch import nn

from fanin.checkpoint.safetensors import as_bytes, header, tensor_chunks
from fanin.errors import PlanError

__all__ = ["stored_tensors", "write_safetensors"]


def stored_tensors(model: nn.Module) -> tuple[dict[str, torch.Tensor], dict[str, str]]:
    """The model's state without repetitions, and for each name left out the name that has it.

    Large elements come first: each tensor then starts at a multiple of its element size. The names
    left out are the metadata by which `safetensors.torch.load_model` restores ties.

    Raises:
        PlanError: when something in the state is no dense tensor with a shape and values.
    """
    tensors: dict[str, torch.Tensor] = {}
    owner_of: dict[object, str] = {}
    ties = {}
    for name, tensor in model.state_dict().items():
        if not isinstance(tensor, torch.Tensor):
            raise PlanError(
                f"--out: a safetensors file holds tensors. Got {type(tensor).__name__} for "
                f"{name!r} in the model's state."
            )
        if nn.parameter.is_lazy(tensor):
            raise PlanError(
                f"--out: a safetensors file holds tensors with shapes. Got {name!r} of a lazy "
                "module, which has none before its first input. Build the model with its sizes."
            )
        if tensor.is_meta or tensor.layout is not torch.strided:
            what = "no memory (device meta)" if tensor.is_meta else f"the layout {tensor.layout}"
            raise PlanError(
                f"--out: a safetensors file holds dense tensors with values. Got {what} for "
                f"{name!r}. Build the model on the CPU, or give this tensor values."
            )
        memory = (tensor.data_ptr(), tensor.shape, tensor.stride(), tensor.dtype)
        if tensor.numel() and memory in owner_of:
            ties[name] = owner_of[memory]
        else:
            owner_of[memory] = name
            tensors[name] = tensor
    by_size = sorted(tensors.items(), key=lambda item: -item[1].element_size())
    return dict(by_size), ties


def write_safetensors(
    file: IO[bytes],
    tensors: Mapping[str, torch.Tensor],
    metadata: Mapping[str, str],
    *,
    on_bytes: Callable[[int], None],
) -> None:
    """Write the tensors in their order, and the metadata by name.

    Raises:
        DtypeError: when the format has no name for a dtype.
    """
    shapes = ((name, tensor.dtype, tuple(tensor.shape)) for name, tensor in tensors.items())
    file.write(header(shapes, metadata))
    for tensor in tensors.values():
        for chunk in tensor_chunks(tensor):
            file.write(as_bytes(chunk))
            on_bytes(chunk.nbytes)
