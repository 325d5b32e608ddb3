"""The rule for an operation, known or not."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fanin.flow.graph import Operation
from fanin.flow.moments.rules.elementwise import elementwise, is_elementwise
from fanin.flow.moments.rules.registry import Rule, registered
from fanin.flow.moments.rules.sampled import sampled

if TYPE_CHECKING:
    from fanin.flow.moments.forward import Forward

__all__ = ["rule_for"]


def rule_for(operation: Operation, forward: Forward) -> Rule:
    """Its own, quadrature on the function itself, or sampling of the function itself."""
    known = registered(operation)
    if known is not None:
        return known
    if is_elementwise(operation):
        if operation.outputs[0].dtype.is_floating_point:
            forward.note(f"{operation.name}: integrated as an elementwise function")
        return elementwise
    return sampled
