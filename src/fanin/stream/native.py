"""The native engine: C++ kernels over addresses, for tensors that are plain memory.

The only file that imports the extension module. Where it was not built, `reason` says so and the
reference engine draws the same bits.
"""

from __future__ import annotations

import os
from importlib import import_module
from typing import Any

import torch
from torch import Tensor

from fanin.errors import UnknownNameError, one_of
from fanin.geometry.region import Region
from fanin.stream.laws import Law

__all__ = [
    "active_build",
    "available",
    "bits",
    "builds",
    "choose",
    "clear",
    "fill",
    "fill_flat",
    "orthonormal",
    "reason",
    "use",
]

_native: Any = None
reason = ""
try:
    _native = import_module("fanin.stream._native")
except ImportError as error:
    reason = f"the extension module is not built ({error})"

available = _native is not None

_CODES = {
    torch.float32: 0,
    torch.float64: 1,
    torch.float16: 2,
    torch.bfloat16: 3,
    torch.float8_e4m3fn: 4,
    torch.float8_e5m2: 5,
    torch.float8_e4m3fnuz: 6,
    torch.float8_e5m2fnuz: 7,
}


def fill_flat(law: Law, key: int, address: int, count: int) -> None:
    """Write elements 0 … ``count`` − 1 to an address, on this thread: the cheapest call."""
    _native.fill_flat(law.native or _prepared(law), key, address, count)


def _prepared(law: Law) -> Any:
    """The extension's copy of a law, made once."""
    if law.native is None:
        law.native = _native.Law(
            law.kind,
            _CODES[law.dtype],
            law.shift,
            law.scale,
            law.lowest,
            law.highest,
            law.lower,
            law.upper,
            law.mass,
            max(law.switch - 1, 0),
            law.switch > 0,
        )
    return law.native


def fill(law: Law, key: int, region: Region, out: Tensor) -> None:
    """Write the region of the stream into ``out``, a contiguous CPU tensor of the law's dtype."""
    bounds = [[edge for run in runs for edge in run] for runs in region.runs]
    threads = torch.get_num_threads()
    _native.fill(law.native or _prepared(law), key, region.shape, bounds, out.data_ptr(), threads)


def bits(key: int, purpose: int, start: int, out: Tensor) -> None:
    """32-bit words from index ``start`` on, into a contiguous int32 tensor."""
    _native.bits(key, purpose, start, out.numel(), out.data_ptr())


def choose(key: int, first_slice: int, length: int, out: Tensor) -> None:
    """Places picked for the slices from ``first_slice`` on, into a contiguous (slices, k) int64."""
    _native.choose(key, first_slice, out.shape[0], length, out.shape[1], out.data_ptr())


def clear(key: int, first_slice: int, zeros: int, slices: Tensor) -> None:
    """Zero the chosen places of each row of ``slices``, a strided CPU matrix."""
    size = slices.itemsize
    row, column = slices.stride()
    _native.clear(
        key,
        first_slice,
        zeros,
        slices.data_ptr(),
        size,
        *slices.shape,
        row * size,
        column * size,
        torch.get_num_threads(),
    )


def orthonormal(vectors: Tensor, gain: float, out: Tensor) -> None:
    """Write a tall matrix from the normal vectors in the rows of another, which are overwritten.

    Both are float32 or float64 on the CPU: ``vectors`` (n, m) contiguous, ``out`` (m, n) strided.
    """
    write = _native.orthonormal_float32 if out.itemsize == 4 else _native.orthonormal_float64
    write(vectors.data_ptr(), gain, out.data_ptr(), *out.shape, *out.stride())


def builds() -> list[str]:
    """Instruction sets this machine runs, best first."""
    return list(_native.builds())


def active_build() -> str:
    """The instruction set in use."""
    return str(_native.active_build())


def use(build: str) -> None:
    """Choose one of `builds` for the whole process: the bits stay the same, the speed does not.

    Raises:
        UnknownNameError: when this machine does not run it.
    """
    if not _native.use(build):
        raise UnknownNameError(
            f"native engine: a build that runs here. Got {build!r}. {one_of(build, builds())}"
        )


if available and (wanted := os.environ.get("FANIN_ISA")):
    use(wanted)
