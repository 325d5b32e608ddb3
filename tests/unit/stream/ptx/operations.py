"""What each PTX instruction computes, on arrays; the manual is "PTX ISA", chapter 9.7.

Those that the kernels consist of. An instruction that is not listed with exactly these modifiers is
refused: ``.ftz`` and ``.approx`` mean other bits, and so may a multiply or an add that does not say
``.rn``, which an assembler is free to fuse.
"""

from __future__ import annotations

from functools import cache

from ptx.conversions import conversions
from ptx.family import Operation
from ptx.floats import floats
from ptx.integers import integers
from ptx.parsing import PtxError

__all__ = ["operation"]


@cache
def operation(opcode: str) -> Operation:
    """What an instruction computes.

    Raises:
        PtxError: when it is not known.
    """
    for family in (floats, integers, conversions):
        if found := family.find(opcode):
            return found
    raise PtxError(f"instruction not known: {opcode}")
