"""`Finding`: something that is wrong with the start of a net."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeAlias

__all__ = ["Finding", "Kind"]

Kind: TypeAlias = Literal[
    "healthy", "explodes", "vanishes", "dead", "saturated", "symmetric", "not finite"
]


@dataclass(frozen=True, slots=True)
class Finding:
    """Something that is wrong: what, in words, and what to change."""

    kind: Kind
    lines: tuple[str, ...]
    suggestion: str
