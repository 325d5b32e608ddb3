"""Which rule moves moments through which operation."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, TypeAlias

from fanin.flow.graph import Operation

if TYPE_CHECKING:
    from fanin.flow.moments.forward import Forward
    from fanin.flow.moments.gradients import Pullback

__all__ = ["Rule", "registered", "rule"]

# Puts the operation's outputs, and returns how gradients come back through it.
Rule: TypeAlias = "Callable[[Forward, Operation], Pullback | None]"

_RULES: dict[str, Rule] = {}


def rule(*names: str) -> Callable[[Rule], Rule]:
    """Register a rule for the operations of these names."""

    def register(function: Rule) -> Rule:
        for name in names:
            _RULES[name] = function
        return function

    return register


def registered(operation: Operation) -> Rule | None:
    """The rule for an operation, None where no file has one."""
    return _RULES.get(operation.name)
