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
    """Something that is wrong.

    Args:
        kind: what it is.
        lines: it in words, the headline first.
        suggestion: what to change.
        where: names of modules, or of parameters for ``"symmetric"``: the one to look at first.
    """

    kind: Kind
    lines: tuple[str, ...]
    suggestion: str
    where: tuple[str, ...] = ()
