"""The safetensors format: eight bytes of header length, a JSON header, then the tensors.

The package's own writer orders the metadata by a random hash, so that two runs give two files, and
needs every tensor at once. This one writes equal files, from chunks.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from fanin.checkpoint.errors import CheckpointError
from fanin.errors import DtypeError

__all__ = ["Held", "as_bytes", "header", "read_header", "tensor_chunks"]

_CHUNK = 1 << 22  # elements brought to the CPU at a time
_LARGEST_HEADER = 100_000_000  # bytes that the format's own reader accepts
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
    torch.uint64: "U64",
    torch.uint32: "U32",
    torch.uint16: "U16",
    torch.uint8: "U8",
    torch.bool: "BOOL",
}
_DTYPES = {name: dtype for dtype, name in _NAMES.items()}


@dataclass(frozen=True, slots=True)
class Held:
    """A tensor of a file: ``start`` is counted in bytes from the beginning of the file."""

    dtype: torch.dtype
    shape: tuple[int, ...]
    start: int


def header(
    tensors: Iterable[tuple[str, torch.dtype, tuple[int, ...]]], metadata: Mapping[str, str]
) -> bytes:
    """All that stands before the tensors, which follow in this order without gaps.

    Raises:
        DtypeError: when the format has no name for a dtype.
    """
    content: dict[str, dict[str, object]] = {"__metadata__": dict(sorted(metadata.items()))}
    start = 0
    for name, dtype, shape in tensors:
        if dtype not in _NAMES:
            raise DtypeError(
                f"safetensors: a tensor has a dtype that the format names. Got {dtype} for "
                f"{name!r}. Cast it first (--dtype)."
            )
        stop = start + math.prod(shape) * dtype.itemsize
        content[name] = {
            "dtype": _NAMES[dtype],
            "shape": list(shape),
            "data_offsets": [start, stop],
        }
        start = stop
    text = json.dumps(content, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)  # the first tensor starts at a multiple of eight bytes
    return len(text).to_bytes(8, "little") + text


def read_header(path: Path) -> tuple[dict[str, Held], dict[str, str]]:
    """The tensors of a file by name, and its metadata.

    Raises:
        CheckpointError: when it is no safetensors file, shorter than its header says, or when its
            header contradicts itself.
        OSError: when it cannot be read.
    """
    size = path.stat().st_size
    try:
        with path.open("rb") as file:
            length = int.from_bytes(file.read(8), "little")
            if not 2 <= length <= min(size - 8, _LARGEST_HEADER):
                raise ValueError(f"a header of {length} bytes in a file of {size}")
            content: dict[str, Any] = json.loads(file.read(length))
        metadata = dict(content.pop("__metadata__", {}))
        held, end = _placed(content, 8 + length)
        if end != size:
            raise ValueError(f"{size} bytes, where its header says {end}")
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise CheckpointError(
            f"safetensors: a whole file of the format. Got {error} in {str(path)!r}. "
            "Write it again, or get it anew."
        ) from error
    return held, metadata


def _placed(content: Mapping[str, Any], begin: int) -> tuple[dict[str, Held], int]:
    """Each tensor in the order of the file, without gaps from its first byte on; and the end."""
    held, end = {}, 0
    for name, each in sorted(content.items(), key=lambda item: tuple(item[1]["data_offsets"])):
        dtype, shape = _DTYPES[each["dtype"]], tuple(each["shape"])
        start, stop = each["data_offsets"]
        if not all(type(number) is int and number >= 0 for number in (*shape, start, stop)):
            raise ValueError(f"the shape {shape} and data_offsets {start}, {stop} for {name!r}")
        nbytes = math.prod(shape) * dtype.itemsize
        if (start, stop) != (end, end + nbytes):
            raise ValueError(
                f"data_offsets {start}, {stop} for {name!r}, where its {nbytes} bytes begin at "
                f"{end}"
            )
        held[name] = Held(dtype, shape, begin + start)
        end = stop
    return held, begin + end


def tensor_chunks(tensor: Tensor) -> Iterator[Tensor]:
    """The elements of a tensor, row-major, in pieces on the CPU."""
    if tensor.numel():
        dense = tensor.detach().resolve_conj().resolve_neg().contiguous()
        for chunk in torch.split(dense.reshape(-1), _CHUNK):
            yield chunk.cpu()


def as_bytes(chunk: Tensor) -> memoryview:
    """The memory of a contiguous CPU tensor."""
    data: memoryview = chunk.reshape(-1).view(torch.uint8).numpy().data
    return data
