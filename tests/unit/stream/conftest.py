"""Tests of the Triton kernels are for where there is the Triton that fanin's GPU extra asks for.

It has wheels for Linux only, and a CUDA build of torch comes with the one of its time.
"""

from __future__ import annotations

from importlib.metadata import distributions

_KERNELS = [
    "test_cuda_choice.py",
    *("test_cuda_compiled.py", "test_cuda_executed.py"),
    *("test_cuda_interpreted.py", "test_cuda_launching.py", "test_cuda_models.py"),
]

_VERSIONS = [
    tuple(map(int, found.version.split(".")[:2])) for found in distributions(name="triton")
]
collect_ignore = [] if _VERSIONS and max(_VERSIONS) >= (3, 7) else _KERNELS
