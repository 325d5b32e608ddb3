"""Which engine draws: the choice, and the report of it.

Memory of the CPU is written by the native engine or the reference, memory of a GPU by the cuda
engine. Where that is not active, and for every other device, numbers are drawn on the CPU and
copied. ``FANIN_ENGINE=reference`` (or ``native``) asks for that engine, whatever the device, and
``FANIN_ISA=avx2`` for one build of the native one. Bits never depend on either.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from importlib import import_module
from types import ModuleType

import torch
from torch import Tensor

from fanin.errors import ArgumentError, EngineError, UnknownNameError, one_of
from fanin.geometry.region import Region
from fanin.stream import choice, native, reference
from fanin.stream.cuda import availability
from fanin.stream.key import Key
from fanin.stream.laws import Law
from fanin.stream.philox import VALUES

__all__ = [
    "Engine",
    "bits",
    "choose",
    "clear",
    "draws_on",
    "engines",
    "fill",
    "fill_together",
    "native_is_active",
]


@dataclass(frozen=True, slots=True)
class Engine:
    """One engine: whether it draws in this process, and why."""

    name: str
    active: bool
    why: str

    def __str__(self) -> str:
        return f"{'*' if self.active else ' '} {self.name}: {self.why}"


def engines() -> tuple[Engine, ...]:
    """Every engine, the active ones marked, each with the reason.

    Returns:
        One `Engine` each for ``native`` and ``reference``, one of which draws on the CPU, and for
        ``cuda``, which draws on GPUs if it is active.

    Example:
        >>> [engine.name for engine in engines()]
        ['native', 'reference', 'cuda']
    """
    active, why = _choice()
    if native.available:
        builds = ", ".join(native.builds())
        about = f"{native.active_build()} kernels; this machine runs {builds}"
    else:
        about = native.reason
    described = {"native": about, "reference": "torch operations, slow; the same bits"}
    on_cpu = (
        Engine(name, name == active, f"{text}; {why}" if name == active else text)
        for name, text in described.items()
    )
    why_not = _why_not_on_gpu()
    on_gpu = (
        f"{why_not}; tensors off the CPU are drawn on it and copied"
        if why_not
        else "Triton kernels for CUDA devices; tensors on other devices are drawn on the CPU and "
        "copied"
    )
    return (*on_cpu, Engine("cuda", not why_not, on_gpu))


def draws_on(device: torch.device) -> bool:
    """Whether an engine writes memory of this device: the CPU's, and a GPU's if ``cuda`` does."""
    if device.type == "cpu":
        return True
    return not _why_not_on_gpu() and availability.draws_on(device)


def fill(law: Law, key: int, region: Region, out: Tensor) -> None:
    """Write a region of the stream into ``out``, a tensor of the law's dtype.

    It is contiguous on the CPU, or on another device that `draws_on`, with any strides.
    """
    if region.numel:
        (_engine() if out.is_cpu else _kernels()).fill(law, key, region, out)


def fill_together(fills: Sequence[tuple[Law, int, Tensor]]) -> None:
    """`fill` for (law, key, whole contiguous tensor) of many, small and on devices of ``cuda``.

    Those that differ in their numbers only are one launch.
    """
    _kernels().fill_together(fills)


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
    """Zero ``zeros`` chosen places of each row of a strided matrix (`fanin.stream.choice`)."""
    if slices.numel():
        (_engine() if slices.is_cpu else choice).clear(key, first_slice, zeros, slices)


def native_is_active() -> bool:
    """Whether the native engine draws."""
    return _engine() is native


def _why_not_on_gpu() -> str:
    """Why the cuda engine is not active; empty when it is."""
    asked = os.environ.get("FANIN_ENGINE")
    return f"FANIN_ENGINE asks for {asked}" if asked else availability.reason()


def _kernels() -> ModuleType:
    """The cuda engine: imported where it draws, since Triton takes its time."""
    return import_module("fanin.stream.cuda.launching")


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
