"""Every error fanin raises, and how its messages name the nearest valid choice.

A message reads ``<what was asked>: <the rule>. Got <value> for <where>. <How to fix it>.``
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable

__all__ = [
    "ArgumentError",
    "DtypeError",
    "EngineError",
    "FaninError",
    "LayoutError",
    "PlanError",
    "ProbeError",
    "TraceError",
    "UnknownNameError",
    "one_of",
]


class FaninError(Exception):
    """The base of every error that fanin raises on purpose."""


class ArgumentError(FaninError, ValueError):
    """A number or an option is outside what the operation accepts."""


class UnknownNameError(ArgumentError):
    """A name is not among a closed set of choices; the message lists them."""


class EngineError(FaninError, RuntimeError):
    """The engine that was asked for does not run here."""


class LayoutError(FaninError, ValueError):
    """A parameter lacks the axes that were asked for (a fan, a matrix, a kernel)."""


class DtypeError(FaninError, TypeError):
    """A tensor's dtype cannot hold what was asked for."""


class PlanError(FaninError, RuntimeError):
    """A plan cannot be made for this model, or cannot be applied to it."""


class ProbeError(FaninError, RuntimeError):
    """A forward or backward pass that was to be measured raised; the cause is chained."""


class TraceError(FaninError, RuntimeError):
    """A forward pass does not run on tensors without values; the cause is chained."""


def one_of(name: str, choices: Iterable[str]) -> str:
    """The end of a message about an unknown name: the nearest spelling, then all of them."""
    known = sorted(choices)
    near = difflib.get_close_matches(name, known, n=3, cutoff=0.6)
    hint = f"Did you mean {' or '.join(near)}? " if near else ""
    return f"{hint}Known: {', '.join(known)}."
