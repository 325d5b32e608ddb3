"""What a trace says about a parameter: who computes with it, and what follows."""

from __future__ import annotations

import heapq
import re
from collections.abc import Iterable
from typing import TYPE_CHECKING

from fanin.flow.roles import ARRANGES, Roles, is_scaling

if TYPE_CHECKING:
    from fanin.flow.graph import Operation, Trace, Value

__all__ = ["followed_by", "following", "users"]


def users(trace: Trace, parameter: str) -> tuple[Operation, ...]:
    """The first operations that take more than weights, on every way from a parameter."""
    weights = trace.roles.weights
    found: dict[int, Operation] = {}
    waiting = [trace.parameters[parameter]] if parameter in trace.parameters else []
    seen = set(waiting)
    while waiting:
        for operation in trace.consumers(waiting.pop()):
            if all(value in weights for value in operation.outputs):
                waiting.extend(value for value in operation.outputs if value not in seen)
                seen.update(operation.outputs)
            else:
                found[operation.index] = operation
    return tuple(found[index] for index in sorted(found))


def followed_by(trace: Trace, parameter: str) -> tuple[str, ...]:
    """Names of the first operations that are not linear in the results of the users."""
    return following(trace, (value for user in users(trace, parameter) for value in user.outputs))


def following(trace: Trace, values: Iterable[Value]) -> tuple[str, ...]:
    """Names of the first operations that are not linear in these values."""
    roles = trace.roles
    linear = set(values)
    waiting = sorted({c.index for value in linear for c in trace.consumers(value)})
    seen = set(waiting)
    found: dict[str, None] = {}  # a set in order
    while waiting:
        operation = trace.operations[heapq.heappop(waiting)]
        if not _is_linear(operation, linear, roles):
            found[_step_name(operation, roles)] = None
            continue
        linear.update(operation.outputs)
        for value in operation.outputs:
            for consumer in trace.consumers(value):
                if consumer.index not in seen:
                    seen.add(consumer.index)
                    heapq.heappush(waiting, consumer.index)
    if not linear.isdisjoint(trace.outputs):
        found["output"] = None
    return tuple(found)


def _is_linear(operation: Operation, linear: set[Value], roles: Roles) -> bool:
    """Whether the result is what goes in, rearranged, scaled or shifted by what is no signal."""
    name = operation.name
    if name in ARRANGES or is_scaling(operation, roles):
        return True
    signals = roles.signals_of(operation)
    if name in ("add", "sub", "rsub"):
        return linear.issuperset(signals)
    return name == "where" and operation.args[0] not in signals and linear.issuperset(signals)


def _step_name(operation: Operation, roles: Roles) -> str:
    """The operation's name, or what its module says it is a step of."""
    kind = roles.kinds.get((operation.module, operation.call), "")
    if operation.name not in _ARITHMETIC:
        return operation.name
    for pattern, name in _WRITTEN_OUT:
        if pattern.search(kind):
            return name
    return operation.name


# Steps of functions that models write out, and the classes whose forward such a function is.
_ARITHMETIC = frozenset(
    (
        *("add", "sub", "rsub", "mul", "div", "pow", "square", "float_power", "exp", "rsqrt"),
        *("sqrt", "var", "std", "var_mean", "linalg_vector_norm", "norm"),
        *("tanh", "erf", "sigmoid"),
    )
)
_WRITTEN_OUT = tuple(
    (re.compile(pattern), name)
    for pattern, name in (
        ("RMSNorm(alization)?$", "rms_norm"),
        ("(?i)layer_?norm$", "layer_norm"),
        ("GELU(Activation|Tanh)?$", "gelu"),
        ("(Si|Swi)(LU|sh)(Activation)?$", "silu"),
        ("Mish(Activation)?$", "mish"),
    )
)
