"""Instructions by name: each is an operation on arrays of the types that the name says."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ptx.parsing import BITS

__all__ = ["DTYPES", "UNSIGNED", "Array", "Family", "Operation"]

Array = NDArray[Any]

UNSIGNED = {1: np.bool_, 8: np.uint8, 16: np.uint16, 32: np.uint32, 64: np.uint64}
_SIGNED = {8: np.int8, 16: np.int16, 32: np.int32, 64: np.int64}
_FLOATS = {"f32": np.float32, "f64": np.float64}
# What an array of each type is; bits where NumPy has no such number.
DTYPES: dict[str, np.dtype[Any]] = {
    name: np.dtype(_FLOATS.get(name, (_SIGNED if name[0] == "s" else UNSIGNED)[bits]))
    for name, bits in BITS.items()
}


@dataclass(frozen=True, slots=True)
class Operation:
    """``compute`` takes an array of each source's type and gives one of the result's."""

    compute: Callable[..., Any]
    sources: tuple[str, ...]
    result: str


class Family:
    """Operations that are told from what follows a pattern in their names."""

    def __init__(self) -> None:
        self._members: dict[str, Callable[..., Operation]] = {}

    def __call__(
        self, pattern: str
    ) -> Callable[[Callable[..., Operation]], Callable[..., Operation]]:
        """Decorate what makes an operation of all that the pattern captures in a name."""

        def register(member: Callable[..., Operation]) -> Callable[..., Operation]:
            self._members[pattern] = member
            return member

        return register

    def find(self, opcode: str) -> Operation | None:
        """The operation of this name."""
        for pattern, member in self._members.items():
            if found := re.fullmatch(pattern, opcode):
                return member(*found.groups())
        return None
