"""Whether this engine draws: which devices it takes, and why not."""

from __future__ import annotations

import re
from functools import cache
from importlib import import_module

import torch

__all__ = ["draws_on", "reason"]

# Of the kernels' own checks; ROCm states its architectures in the same numbers, from 9.0 on.
_OLDEST = (8, 0)
# The assembler of 3.6 fuses pairs of rounded products and sums on Blackwell; 3.5 flushes subnormals
# in division. The tests of the compiled kernels tell.
_OLDEST_TRITON = (3, 7)


@cache
def reason() -> str:
    """Why no tensor on a GPU is drawn there; empty when they are."""
    if not torch.cuda.is_available():
        return "torch sees no CUDA device"
    try:
        triton = import_module("triton")
    except ImportError as error:
        return f"Triton is not installed ({error}): pip install fanin[gpu]"
    if tuple(map(int, re.findall(r"\d+", triton.__version__)[:2])) < _OLDEST_TRITON:
        oldest = ".".join(map(str, _OLDEST_TRITON))
        return f"Triton {triton.__version__} is installed, and {oldest} or newer needed"
    if not any(map(_is_recent, range(torch.cuda.device_count()))):
        return f"no device has compute capability {_OLDEST[0]}.{_OLDEST[1]} or more"
    try:
        triton.runtime.driver.active.get_current_target()
    except Exception as error:  # whatever a compiler that is missing or fails ends in
        return f"Triton cannot launch kernels here: it compiles a part of itself, in C ({error})"
    return ""


def draws_on(device: torch.device) -> bool:
    """Whether the kernels write to memory of this device."""
    if device.type != "cuda" or reason():
        return False
    return _is_recent(torch.cuda.current_device() if device.index is None else device.index)


@cache
def _is_recent(index: int) -> bool:
    return torch.cuda.get_device_capability(index) >= _OLDEST
