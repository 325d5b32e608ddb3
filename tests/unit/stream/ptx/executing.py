"""A GPU that executes PTX with NumPy: all threads of all programs, an instruction at a time.

A register is an array of bits with a row for each program and a column for each thread, or one of
what all rows or all columns share. Threads that branch apart wait for each other where the code is
earliest, and so meet again.
"""

from __future__ import annotations

import ctypes
import re
from collections.abc import Iterable, Iterator, Sequence

import numpy as np
import torch

from ptx.family import DTYPES, UNSIGNED, Array
from ptx.operations import operation
from ptx.parsing import BITS, Address, Instruction, Kernel, Operand, PtxError

__all__ = ["Memory", "execute"]

_POISON = 0xDBDBDBDBDBDBDBDB  # in registers that a thread has not written
_MOST_BLOCKS = 10_000  # carried out in a launch; more is taken for a loop without end


class Memory:
    """The memory that one launch may touch: the storages of tensors on the CPU."""

    def __init__(self, tensors: Iterable[torch.Tensor]) -> None:
        storages = [tensor.untyped_storage() for tensor in tensors]
        sizes = {each.data_ptr(): each.nbytes() for each in storages if each.nbytes()}
        self._starts = np.array(sorted(sizes), np.uint64)
        self._sizes = np.array([sizes[start] for start in sorted(sizes)], np.uint64)
        self._bytes = [
            np.ctypeslib.as_array((ctypes.c_uint8 * sizes[start]).from_address(start))
            for start in sorted(sizes)
        ]
        self._written = [np.zeros(len(each), np.bool_) for each in self._bytes]

    def load(self, addresses: Array, dtype: np.dtype[np.unsignedinteger]) -> Array:
        """The unsigned integer at each address."""
        loaded = np.empty((addresses.size, dtype.itemsize), np.uint8)
        for number, chosen, places in self._split(addresses, dtype.itemsize):
            loaded[chosen] = self._bytes[number][places]
        return loaded.view(dtype).reshape(addresses.shape)

    def store(self, addresses: Array, values: Array) -> None:
        """One unsigned integer to each address; threads that share one must agree."""
        stored = np.ascontiguousarray(values).view(np.uint8).reshape(-1, values.itemsize)
        for number, chosen, places in self._split(addresses, values.itemsize):
            data, written = self._bytes[number], self._written[number]
            raced = bool((written[places] & (data[places] != stored[chosen])).any())
            data[places] = stored[chosen]
            if raced or (data[places] != stored[chosen]).any():
                raise PtxError("one place is written twice, with different bytes")
            written[places] = True

    def _split(self, addresses: Array, size: int) -> Iterator[tuple[int, Array, Array]]:
        """The number of each storage, which accesses go there, and the places of their bytes."""
        addresses = addresses.ravel()
        owner = np.searchsorted(self._starts, addresses, side="right").astype(np.int64) - 1
        offset = addresses - self._starts[owner]
        outside = (owner < 0) | (offset + np.uint64(size) > self._sizes[owner])
        if outside.any():
            raise PtxError(f"{size} bytes at {addresses[outside][0]:#x} are no tensor's")
        for number in np.unique(owner):
            chosen = owner == number
            places = offset[chosen, None] + np.arange(size, dtype=np.uint64)
            yield int(number), chosen, places


def execute(kernel: Kernel, programs: int, parameters: Sequence[bytes], memory: Memory) -> None:
    """Launch so many programs; ``parameters`` are the bytes of each, as a driver gets them.

    Raises:
        PtxError: for parameters of other sizes than the kernel's, an access outside of the memory
            or at an address that is not a multiple of its size, a race, an instruction not known.
    """
    if [*kernel.parameters.values()] != [*map(len, parameters)]:
        raise PtxError(f"parameters of {kernel.name}: other sizes than {kernel.parameters}")
    with np.errstate(all="ignore"):
        _Launch(kernel, programs, parameters, memory).run()


class _Launch:
    def __init__(
        self, kernel: Kernel, programs: int, parameters: Sequence[bytes], memory: Memory
    ) -> None:
        self._kernel = kernel
        self._memory = memory
        self._parameters = dict(zip(kernel.parameters, parameters, strict=True))
        self._shape = (programs, kernel.threads)
        thread = np.arange(kernel.threads, dtype=np.uint32)[None]
        self._registers: dict[str, Array] = {
            "%tid.x": thread,
            "%laneid": thread % np.uint32(32),
            "%warpid": thread // np.uint32(32),
            "%ntid.x": _one(kernel.threads, 32),
            "%ctaid.x": np.arange(programs, dtype=np.uint32)[:, None],
            "%nctaid.x": _one(programs, 32),
            **{f"%{name}.{dim}": _one(0, 32) for name in ("tid", "ctaid") for dim in "yz"},
            **{f"%{name}.{dim}": _one(1, 32) for name in ("ntid", "nctaid") for dim in "yz"},
        }

    def run(self) -> None:
        end = len(self._kernel.blocks)
        upcoming = np.zeros(self._shape, np.int64)  # the block that each thread goes on with
        for _ in range(_MOST_BLOCKS):
            block = int(upcoming.min())
            if block == end:
                return
            here = upcoming == block
            upcoming[here] += 1
            for instruction in self._kernel.blocks[block]:
                active = self._active(instruction, here)
                name, _, modifiers = instruction.opcode.partition(".")
                if name == "bra" and modifiers in ("", "uni"):
                    (label,) = instruction.operands
                    upcoming[active] = self._kernel.labels[str(label)]
                elif instruction.opcode in ("ret", "exit"):
                    upcoming[active] = end
                else:
                    self._carry_out(instruction, active)
        raise PtxError(f"{self._kernel.name}: no end after {_MOST_BLOCKS} blocks")

    def _active(self, instruction: Instruction, here: Array) -> Array:
        """The threads that take part."""
        if not instruction.guard:
            return here
        predicate = self._read(instruction.guard.lstrip("!"), "pred")
        return here & (~predicate if instruction.guard.startswith("!") else predicate)

    def _carry_out(self, instruction: Instruction, active: Array) -> None:
        access = re.fullmatch(
            r"(ld|st)\.(param|global)(?:\.nc|\.L[12]::\w+)*(?:\.v[248])?\.(\w+)", instruction.opcode
        )
        if access is None:
            known = operation(instruction.opcode)
            to, *sources = instruction.operands
            if len(sources) != len(known.sources):
                raise PtxError(f"another number of operands: {instruction}")
            result = known.compute(*map(self._read, sources, known.sources))
            self._write(to, result.astype(DTYPES[known.result], copy=False), active)
        elif access[1] == "st":
            address, value = instruction.operands
            self._store(address, value, access[3], active)
        else:
            to, address = instruction.operands
            self._load(to, address, access[2], access[3], active)

    def _load(self, to: Operand, at: Operand, space: str, kind: str, active: Array) -> None:
        assert isinstance(at, Address)
        size = BITS[kind] // 8
        parts = to if isinstance(to, tuple) else (to,)
        if space == "param":
            data = self._parameters[at.base][at.offset : at.offset + size * len(parts)]
            for part, value in zip(parts, np.frombuffer(data, DTYPES[kind]), strict=True):
                self._write(part, value.reshape(1, 1), active)
            return
        addresses = self._addresses(at, size * len(parts), active)
        for number, part in enumerate(parts):
            loaded: Array = np.broadcast_to(_one(_POISON, 8 * size), self._shape).copy()
            places = addresses + np.uint64(number * size)
            loaded[active] = self._memory.load(places, loaded.dtype)
            self._write(part, loaded.view(DTYPES[kind]), active)

    def _store(self, at: Operand, value: Operand, kind: str, active: Array) -> None:
        assert isinstance(at, Address)
        size = BITS[kind] // 8
        parts = value if isinstance(value, tuple) else (value,)
        addresses = self._addresses(at, size * len(parts), active)
        for number, part in enumerate(parts):
            values = np.broadcast_to(self._read(part, f"b{8 * size}"), self._shape)[active]
            self._memory.store(addresses + np.uint64(number * size), values)

    def _addresses(self, at: Address, size: int, active: Array) -> Array:
        """Of the active threads, one after another; ``size`` is what a thread accesses at once."""
        every = self._read(at.base, "u64") + np.uint64(at.offset % 2**64)
        addresses = np.broadcast_to(every, self._shape)[active]
        if (addresses % np.uint64(size)).any():
            raise PtxError(f"an address of {size} bytes is no multiple of {size}")
        return addresses

    def _read(self, operand: Operand, kind: str) -> Array:
        """The operand as an array of this type; of several, the first holds the lowest bits."""
        width = BITS[kind]
        if isinstance(operand, tuple):
            each = width // len(operand)
            bits: Array = _one(0, width)
            for number, part in enumerate(operand):
                bits = bits | self._read(part, f"b{each}").astype(bits.dtype) << number * each
        elif operand in self._registers:
            bits = self._registers[str(operand)].astype(UNSIGNED[width], copy=False)
        else:
            bits = _one(_literal(str(operand)), width)
        return bits.view(DTYPES[kind])

    def _write(self, to: Operand, value: Array, active: Array) -> None:
        """Bits of a typed value; a wider register takes signed numbers with their sign."""
        if isinstance(to, tuple):
            each = 8 * value.itemsize // len(to)
            bits: Array = value.view(UNSIGNED[8 * value.itemsize])
            for number, part in enumerate(to):
                self._write(part, (bits >> number * each).astype(UNSIGNED[each]), active)
        elif to != "_":
            assert isinstance(to, str)
            width = BITS[self._kernel.type_of(to)]
            if value.dtype.kind == "f":
                value = value.view(UNSIGNED[8 * value.itemsize])
            bits = value.astype(UNSIGNED[width], copy=False)
            if not active.all():
                bits = np.where(active, bits, self._registers.get(to, _one(_POISON, width)))
            self._registers[to] = bits


def _one(number: int, width: int) -> Array:
    """What all threads share."""
    return np.array([[number % 2**width]], UNSIGNED[width])


def _literal(text: str) -> int:
    """The bits of a number, or the number itself."""
    if re.fullmatch(r"0[fFdD][\da-fA-F]+", text):
        return int(text[2:], 16)
    if re.fullmatch(r"-?\d+|0x[\da-fA-F]+", text):
        return int(text, 0)
    raise PtxError(f"{text} is read before it is written, or is not known")
