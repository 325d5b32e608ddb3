"""A model's tensors as a safetensors file, byte for byte the same for the same model.

The format is eight bytes of header length, a JSON header, then the tensors. The package's own
writer orders the metadata by a random hash, so that two runs give two files; this one does not.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from typing import IO

import torch
from torch import nn

from fanin.errors import DtypeError, PlanError

__all__ = ["stored_tensors", "write_safetensors"]

_CHUNK = 1 << 22  # elements brought to the CPU and written at a time
_NAMES = {
    torch.float64: "F64",
    torch.float32: "F32",
    torch.float16: "F16",
    torch.bfloat16: "BF16",
    torch.float8_e4m3fn: "F8_E4M3",
    torch.float8_e5m2: "F8_E5M2",
    torch.complex64: "C64",
    torch.int64: "I64",
    torch.int32: "I32",
    torch.int16: "I16",
    torch.int8: "I8",
    torch.uint8: "U8",
    torch.bool: "BOOL",
}


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
    header = json.dumps(_header(tensors, metadata), separators=(",", ":")).encode()
    header += b" " * (-len(header) % 8)  # the first tensor starts at a multiple of eight bytes
    file.write(len(header).to_bytes(8, "little") + header)
    for tensor in tensors.values():
        for chunk in _chunks(tensor):
            file.write(chunk)
            on_bytes(len(chunk))


def _header(
    tensors: Mapping[str, torch.Tensor], metadata: Mapping[str, str]
) -> dict[str, dict[str, object]]:
    header: dict[str, dict[str, object]] = {"__metadata__": dict(sorted(metadata.items()))}
    start = 0
    for name, tensor in tensors.items():
        if tensor.dtype not in _NAMES:
            raise DtypeError(
                f"--out: a safetensors file has no name for {tensor.dtype}. Got it for {name!r}."
            )
        stop = start + tensor.numel() * tensor.element_size()
        header[name] = {
            "dtype": _NAMES[tensor.dtype],
            "shape": list(tensor.shape),
            "data_offsets": [start, stop],
        }
        start = stop
    return header


def _chunks(tensor: torch.Tensor) -> Iterator[memoryview]:
    if tensor.numel():
        dense = tensor.detach().resolve_conj().resolve_neg().contiguous()
        for chunk in torch.split(dense.reshape(-1), _CHUNK):
            yield chunk.cpu().view(torch.uint8).numpy().data
