"""A device for Triton whose machine code is PTX: kernels are compiled, and executed on the CPU."""

from __future__ import annotations

import itertools
import struct
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import torch
import triton
from triton.backends.compiler import GPUTarget
from triton.backends.nvidia.compiler import CUDABackend

from ptx.executing import Memory, execute
from ptx.parsing import Kernel, parse

__all__ = ["Device", "device"]

_numbers = itertools.count(1)
_FORMATS = {"i32": "<i", "u32": "<I", "i64": "<q", "u64": "<Q"}


class Device:
    """What Triton asks of a driver, to compile for an architecture and to launch.

    Args:
        arch: compute capability times ten.
        edit: what is done to the text of a kernel when it is loaded.

    Attributes:
        launched: the name of each kernel so far.
        lent: memory that launches may touch besides that of their arguments.
    """

    def __init__(self, arch: int, edit: Callable[[str], str]) -> None:
        self.launched: list[str] = []
        self.lent: list[torch.Tensor] = []
        self.utils = self
        self.launcher_cls = self._launcher
        self._target = GPUTarget("cuda", arch, 32)
        self._number = next(_numbers)  # Triton keeps kernels by device, each with its own edit
        self._edit = edit

    def get_current_target(self) -> GPUTarget:
        return self._target

    def get_current_device(self) -> int:
        return self._number

    def get_current_stream(self, device: int) -> int:
        return 0

    def get_device_properties(self, device: int) -> dict[str, int]:
        return {"max_shared_mem": 0}

    def load_binary(self, name: str, code: bytes, shared: int, device: int) -> tuple[Any, ...]:
        """Module, function, registers and spills of a thread, and the most threads."""
        return code, parse(self._edit(code.decode())), 0, 0, 1024

    def _launcher(self, source: Any, metadata: Any) -> Callable[..., None]:
        """What launches a kernel of this signature; its last two parameters are scratch memory."""
        types = list(source.signature.values())

        def launch(x: int, y: int, z: int, stream: int, kernel: Kernel, *rest: Any) -> None:
            assert (y, z, kernel.threads) == (1, 1, 32 * metadata.num_warps)
            arguments = rest[-len(types) :]
            packed = [
                _packed(type_, argument)
                for type_, argument in zip(types, arguments, strict=True)
                if type_ != "constexpr"
            ]
            tensors = [each for each in arguments if isinstance(each, torch.Tensor)]
            execute(kernel, x, [*packed, bytes(8), bytes(8)], Memory([*self.lent, *tensors]))
            self.launched.append(kernel.name)

        return launch


@contextmanager
def device(arch: int, kernels: Iterable[Any], edit: Callable[[str], str] = str) -> Iterator[Device]:
    """Make one the current device of Triton, and let the kernels forget it afterwards."""
    before = triton.runtime.driver._active
    made = Device(arch, edit)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(CUDABackend, "make_cubin", lambda self, ptx, *_: ptx.encode())
        triton.runtime.driver.set_active(made)
        try:
            yield made
        finally:
            triton.runtime.driver.set_active(before)
            for kernel in kernels:
                kernel.device_caches.pop(made.get_current_device(), None)


def _packed(type_: str, argument: Any) -> bytes:
    if type_.startswith("*"):
        return struct.pack("<Q", argument.data_ptr())
    return struct.pack(_FORMATS[type_], argument)
