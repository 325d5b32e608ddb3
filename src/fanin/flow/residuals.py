"""Where a branch of a model is added to the stream that it was computed from."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from fanin.flow.roles import LINEAR_MAPS

if TYPE_CHECKING:
    from fanin.flow.graph import Operation, Trace, Value

__all__ = ["Residual", "residuals"]


@dataclass(frozen=True, slots=True, eq=False)
class Residual:
    """An addition of which one operand was computed from the other, with parameters.

    Args:
        operation: the addition.
        skip: the operand that the other was computed from.
        branch: the other.
        depth: how many such additions the stream has been through with this one, from 1; those
            within branches do not count.
        last: the parameter of the last linear map in the branch; None without one.
        parameters: all that the branch computes with, in order of use.
    """

    operation: Operation
    skip: Value
    branch: Value
    depth: int
    last: str | None
    parameters: tuple[str, ...]


def residuals(trace: Trace) -> tuple[Residual, ...]:
    """The residual additions of a trace, in order of execution."""
    depths: dict[Value, int] = {}
    found = []
    for operation in trace.operations:
        made = _residual(trace, operation, depths) if operation.name == "add" else None
        if made is not None:
            found.append(made)
            depth = made.depth
        else:
            depth = max((depths.get(value, 0) for value in operation.inputs), default=0)
        depths.update(dict.fromkeys(operation.outputs, depth))
    return tuple(found)


def _residual(trace: Trace, operation: Operation, depths: dict[Value, int]) -> Residual | None:
    roles = trace.roles
    signals = roles.signals_of(operation)
    if len(signals) != 2:
        return None
    for skip, branch in (signals, signals[::-1]):
        start = roles.origin(skip)
        if start is branch or not _is_from(trace, branch, start):
            continue
        inside = _between(trace, start, branch)
        parameters = dict.fromkeys(name for step in inside for name in weights_of(trace, step))
        if parameters:
            depth = depths.get(skip, 0) + 1
            last = _last_linear(trace, inside)
            return Residual(operation, skip, branch, depth, last, tuple(parameters))
    return None


def _is_from(trace: Trace, value: Value, other: Value) -> bool:
    """Whether a value was computed from another."""
    return bool(trace.roles.ancestors.get(value, 0) >> other.index & 1)


def _between(trace: Trace, start: Value, end: Value) -> list[Operation]:
    """The operations on the ways from one value to another, in order."""
    first, last = trace.producer(start), trace.producer(end)
    assert last is not None
    steps = trace.operations[first.index + 1 if first else 0 : last.index + 1]
    return [
        step
        for step in steps
        if any(
            _is_from(trace, end, value) and _is_from(trace, value, start) for value in step.outputs
        )
    ]


def weights_of(trace: Trace, operation: Operation) -> tuple[str, ...]:
    """The parameters that an operation computes with, seen through views and casts of them."""
    roles = trace.roles
    waiting = [value for value in reversed(operation.inputs) if value in roles.weights]
    found: dict[str, None] = {}
    while waiting:
        value = waiting.pop()
        if value.parameter is not None:
            found[value.parameter] = None
        elif (made := trace.producer(value)) is not None:
            waiting.extend(v for v in reversed(made.inputs) if v in roles.weights)
    return tuple(found)


def _last_linear(trace: Trace, inside: list[Operation]) -> str | None:
    for step in reversed(inside):
        if step.name in LINEAR_MAPS:
            for name in weights_of(trace, step):
                if len(trace.parameters[name].shape) > 1:
                    return name
    return None
