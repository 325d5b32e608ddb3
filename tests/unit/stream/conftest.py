"""Tests of the Triton kernels are for where there is Triton: it has wheels for Linux only."""

from __future__ import annotations

from importlib.util import find_spec

_KERNELS = [
    *("test_cuda_compiled.py", "test_cuda_executed.py"),
    *("test_cuda_interpreted.py", "test_cuda_launching.py"),
]

collect_ignore = [] if find_spec("triton") else _KERNELS
