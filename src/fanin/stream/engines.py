"""Which engine draws: the choice, and the report of it.

``FANIN_ENGINE=reference`` asks for the reference engine, ``FANIN_ISA=avx2`` for one build of the
native one. Bits never depend on either.
"""

from __future__ import annotations

import os
import warnings
from dataclasses import dataclass
from functools import cache
from types import ModuleType

import torch
from torch import Tensor

from fanin.errors import ArgumentError, EngineError, UnknownNameError, one_of
from fanin.geometry.region import Region
from fanin.stream import native, reference
from fanin.stream.key import Key
from fanin.stream.laws import Law
from fanin.stream.philox import VALUES

__all__ = ["Engine", "bits", "choose", "clear", "engines", "fill", "native_is_active"]


@dataclass(frozen=True, slots=True)
class Engine:
    """One engine: whether it draws in this process, and why."""

    name: str
    active: bool
    why: str

    def __str__(self) -> str:
        return f"{'*' if self.active else ' '} {self.name}: {self.why}"


def engines() -> tuple[Engine, ...]:
    """Every engine, the active one marked, each with the reason.

    Returns:
        One `Engine` each for ``native`` and ``reference``.

    Example:
        >>> sum(engine.active for engine in engines())
        1
    """
    active, why = _choice()
    if native.available:
        builds = ", ".join(native.builds())
        about = f"{native.active_build()} kernels; this machine runs {builds}"
    else:
        about = native.reason
    described = {"native": about, "reference": "torch operations, slow; the same bits"}
    return tuple(
        Engine(name, name == active, f"{text}; {why}" if name == active else text)
        for name, text in described.items()
    )


def fill(law: Law, key: int, region: Region, out: Tensor) -> None:
    """Write a region of the stream into ``out``, a contiguous CPU tensor of the law's dtype."""
    if region.numel:
        _engine().fill(law, key, region, out)


def bits(key: Key, start: int, count: int) -> Tensor:
    """The stream's raw words ``w32(start) … w32(start + count − 1)``, for statistical batteries.

    Args:
        key: which stream.
        start: index of the first word.
        count: how many.

    Returns:
        A uint32 tensor of shape ``(count,)``.

    Raises:
        ArgumentError: when the words lie outside the stream.

    Example:
        >>> bits(Key(0, "weight"), 5, 2).tolist() == bits(Key(0, "weight"), 0, 7).tolist()[5:]
        True

    Source: STREAM_VERSION 1, "Index"; Salmon et al. 2011.
    """
    if min(start, count) < 0 or start + count >= 2**63:
        raise ArgumentError(
            f"bits: start and count are not negative, and indices stay below 2**63 - 1. "
            f"Got start={start}, count={count}."
        )
    out = torch.empty(count, dtype=torch.int32, device="cpu")
    _engine().bits(key.value, VALUES, start, out)
    return out.view(torch.uint32)


def choose(key: int, first_slice: int, num_slices: int, length: int, k: int) -> Tensor:
    """``k`` of ``length`` places for each slice (`fanin.stream.choice`): int64 (num_slices, k)."""
    out = torch.empty(num_slices, k, dtype=torch.int64, device="cpu")
    _engine().choose(key, first_slice, length, out)
    return out


def clear(key: int, first_slice: int, zeros: int, slices: Tensor) -> None:
    """Zero ``zeros`` chosen places of each row of a strided CPU matrix (`fanin.stream.choice`)."""
    if slices.numel():
        _engine().clear(key, first_slice, zeros, slices)


def native_is_active() -> bool:
    """Whether the native engine draws."""
    return _engine() is native


@cache
def _choice() -> tuple[str, str]:
    """The active engine's name and why it is active."""
    asked = os.environ.get("FANIN_ENGINE", "")
    if asked not in ("", "native", "reference"):
        raise UnknownNameError(
            f"FANIN_ENGINE: the name of an engine. Got {asked!r}. "
            f"{one_of(asked, ('native', 'reference'))}"
        )
    if asked == "native" and not native.available:
        raise EngineError(
            f"FANIN_ENGINE=native: {native.reason}. Reinstall fanin with a C++ compiler."
        )
    if asked:
        return asked, "FANIN_ENGINE asks for it"
    if native.available:
        return "native", "the fastest engine here"
    return "reference", native.reason


@cache
def _engine() -> ModuleType:
    name, why = _choice()
    if name == "reference" and not os.environ.get("FANIN_ENGINE"):
        warnings.warn(
            f"fanin draws with its reference engine, up to 100 times slower than the native one: "
            f"{why}. The bits are the same. Reinstall fanin where a C++ compiler is at hand, or "
            f"set FANIN_ENGINE=reference to accept it.",
            RuntimeWarning,
            stacklevel=3,
        )
    return native if name == "native" else reference
