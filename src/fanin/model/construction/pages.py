"""Large pages for large new tensors: most of the time of their first write is page faults."""

from __future__ import annotations

import ctypes
import mmap
import sys
from functools import cache
from typing import Any

from torch import Tensor

__all__ = ["advise_large_pages"]

_LARGE_PAGE = 2**21  # bytes, on x86 and on ARM with pages of 4 KiB
_ADVICE = 14  # MADV_HUGEPAGE of Linux's asm-generic/mman-common.h, on every architecture torch has


def advise_large_pages(tensor: Tensor) -> None:
    """Ask Linux to back a large tensor on the CPU by large pages; a no-op for any other."""
    if tensor.device.type != "cpu" or tensor.nbytes < 2 * _LARGE_PAGE:
        return
    madvise = _madvise()
    if madvise is None:
        return
    storage = tensor.untyped_storage()
    start = -(-storage.data_ptr() // mmap.PAGESIZE) * mmap.PAGESIZE
    end = (storage.data_ptr() + storage.nbytes()) // mmap.PAGESIZE * mmap.PAGESIZE
    madvise(ctypes.c_void_p(start), ctypes.c_size_t(end - start), _ADVICE)  # only advice: may fail


@cache
def _madvise() -> Any:
    if not sys.platform.startswith("linux"):
        return None
    return getattr(ctypes.CDLL(None), "madvise", None)
