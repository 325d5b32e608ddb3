"""PTX as data: the parameters of a kernel, its registers, and its instructions in blocks."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache

__all__ = ["BITS", "Address", "Instruction", "Kernel", "Operand", "PtxError", "parse"]

# Width of each type that an instruction may name.
BITS = {
    **{f"{kind}{bits}": bits for kind in "bus" for bits in (8, 16, 32, 64)},
    **{"pred": 1, "f32": 32, "f64": 64, "f32x2": 64},
}


class PtxError(RuntimeError):
    """What a GPU, its driver or its assembler would refuse, or what is not understood here."""


@dataclass(frozen=True, slots=True)
class Address:
    """Somewhere in memory: what a register or a name says, and so many bytes further."""

    base: str
    offset: int


# A register, a number or a name; several of them between braces; an address.
Operand = str | tuple[str, ...] | Address


@dataclass(frozen=True, slots=True)
class Instruction:
    """``guard`` names the predicate of the threads that take part: ``!%p1``; all do if empty."""

    guard: str
    opcode: str
    operands: tuple[Operand, ...]

    def __str__(self) -> str:
        return f"{self.guard} {self.opcode} {', '.join(map(str, self.operands))}".strip()


@dataclass(frozen=True, slots=True)
class Kernel:
    """One entry of a module.

    Args:
        parameters: bytes of each, in order.
        threads: of a program.
        registers: the type of those of each name without its number.
        blocks: instructions of which only the last may branch; control falls from one to the next.
        labels: the block that each label stands before.
    """

    name: str
    parameters: dict[str, int]
    threads: int
    registers: dict[str, str]
    blocks: tuple[tuple[Instruction, ...], ...]
    labels: dict[str, int]

    def type_of(self, register: str) -> str:
        """``b32`` for ``%r17``."""
        return self.registers[register.rstrip("0123456789")]


@lru_cache(maxsize=256)
def parse(text: str) -> Kernel:
    """The one kernel of a module.

    Raises:
        PtxError: for another number of kernels, for functions, and what is no instruction.
    """
    text = re.sub(r"//.*", "", text)
    entries = re.findall(
        r"\.entry\s+(\w+)\s*\((.*?)\)\s*\.reqntid\s+(\d+)\s*\{(.*?)^\}", text, re.DOTALL | re.M
    )
    if len(entries) != 1 or re.search(r"\.func\b|\bcall\b", text):
        raise PtxError(f"a module is one kernel without functions, and this has {len(entries)}")
    ((name, parameters, threads, body),) = entries
    blocks, labels = _blocks(body)
    return Kernel(
        name=name,
        parameters={
            parameter: BITS[type_] // 8
            for type_, parameter in re.findall(
                r"\.param\s+\.(\w+)[^,]*?(\w+)\s*(?:,|$)", parameters
            )
        },
        threads=int(threads),
        registers={
            prefix: type_ for type_, prefix in re.findall(r"\.reg\s+\.(\w+)\s+([%\w]+)", body)
        },
        blocks=blocks,
        labels=labels,
    )


def _blocks(body: str) -> tuple[tuple[tuple[Instruction, ...], ...], dict[str, int]]:
    blocks: list[list[Instruction]] = [[]]
    labels: dict[str, int] = {}
    for label, statement in _statements(body):
        if label:
            blocks.append([])
            labels[label] = len(blocks) - 1
        elif not statement.startswith("."):
            blocks[-1].append(_instruction(statement))
            if blocks[-1][-1].opcode.split(".")[0] in ("bra", "ret", "exit"):
                blocks.append([])
    return tuple(map(tuple, blocks)), labels


def _statements(body: str) -> Iterator[tuple[str, str]]:
    """Each label, or each statement without its semicolon; braces of scopes say nothing here."""
    body = re.sub(r"^\s*(?:\.loc\b.*|[{}])\s*$", "", body, flags=re.MULTILINE)
    return ((m[1] or "", m[2] or "") for m in re.finditer(r"\s*(?:([$\w]+):|([^;]+);)", body))


def _instruction(statement: str) -> Instruction:
    found = re.fullmatch(r"(?:@(!?[%\w]+)\s+)?([a-z][\w.:]*)\s*(.*)", statement, re.DOTALL)
    if found is None:
        raise PtxError(f"no instruction: {statement!r}")
    guard, opcode, operands = found.groups()
    each = re.findall(r"\{[^}]*\}|\[[^]]*\]|[^\s,]+", operands)
    return Instruction(guard or "", opcode, tuple(map(_operand, each)))


def _operand(text: str) -> Operand:
    if text.startswith("{"):
        return tuple(part.strip() for part in text[1:-1].split(","))
    if text.startswith("["):
        base, _, offset = re.sub(r"\s", "", text[1:-1]).partition("+")
        return Address(base, int(offset or 0))
    return text
