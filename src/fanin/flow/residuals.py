"""Where branches of a model are added to the stream that they were computed from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

from fanin.flow.roles import ARRANGES, LINEAR_MAPS, NORMS, PIECES, is_scaling

if TYPE_CHECKING:
    from fanin.flow.graph import Operation, Trace, Value

__all__ = ["Residual", "residuals", "scaled_end", "weights_of"]


@dataclass(frozen=True, slots=True, eq=False)
class Residual:
    """One branch of a sum, computed with parameters from what another operand is or projects.

    Args:
        operation: the addition; of a sum of several branches, the last one.
        skip: the operand that the branch was computed from, or one linear map of what the branch
            was computed from, as in a shortcut to another width.
        branch: the operand.
        depth: how many branches the stream has taken up with this one, from 1; those within
            branches do not count.
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
    """The residual branches of a trace, in order of execution."""
    depths: dict[Value, int] = {}
    found = []
    for operation in trace.operations:
        depth = max((depths.get(value, 0) for value in operation.inputs), default=0)
        if operation.name in _SUMS and not _is_part(trace, operation):
            branches = _branches(trace, _summands(trace, operation))
            for i, (skip, branch, inside) in enumerate(branches, 1):
                depth = depths.get(skip, 0) + i
                last, names = _last_linear(trace, inside), _parameters(trace, inside)
                found.append(Residual(operation, skip, branch, depth, last, names))
        depths.update(dict.fromkeys(operation.outputs, depth))
    return tuple(found)


def scaled_end(trace: Trace, value: Value) -> Value:
    """What becomes of a value by factors alone, which all that takes it has in common."""
    while value not in trace.outputs:
        takers = trace.consumers(value)
        if len(takers) != 1 or not is_scaling(takers[0], trace.roles):
            break
        value = takers[0].outputs[0]
    return value


def _is_part(trace: Trace, operation: Operation) -> bool:
    """Whether a sum is no more than an operand of another one."""
    takers = trace.consumers(operation.outputs[0])
    return (
        len(takers) == 1 and takers[0].name in _SUMS and operation.outputs[0] not in trace.outputs
    )


def _summands(trace: Trace, operation: Operation) -> list[Value]:
    """The signals that a sum, and those that are parts of it, add up."""
    found: dict[Value, None] = {}
    waiting = trace.roles.signals_of(operation)[::-1]
    while waiting:
        value = waiting.pop()
        made = trace.producer(value)
        if made is not None and made.name in _SUMS and _is_part(trace, made):
            waiting += trace.roles.signals_of(made)[::-1]
        else:
            found[value] = None
    return list(found)


_Branch: TypeAlias = "tuple[Value, Value, list[Operation]]"  # its skip, itself, what computed it


def _branches(trace: Trace, summands: Sequence[Value]) -> list[_Branch]:
    """The operands that were computed from another one, the same for all, or from its source."""
    ways = [_computed_from(trace, [*trace.roles.origins(x)], x, summands) for x in summands]
    most = max(ways, key=len, default=[])
    if most:
        return most
    starts = {value: _projected(trace, value) for value in summands}
    for skip, start in starts.items():
        deeper = [value for value in summands if starts[value] is not start]
        if start is not None and deeper:
            found = [
                each
                for each in _computed_from(trace, [start], skip, deeper)
                if sum(_is_map(trace, step) for step in each[2]) > 1
                and _is_all_from(trace, each[1], start)
            ]
            if found:
                return found
    return []


def _computed_from(
    trace: Trace, starts: Sequence[Value], skip: Value, summands: Sequence[Value]
) -> list[_Branch]:
    """The summands beside ``skip`` that were computed, with parameters, from the first start."""
    found = []
    for branch in summands:
        start = next((each for each in starts if _is_from(trace, branch, each)), branch)
        if branch is not skip and branch is not start:
            inside = _between(trace, start, branch)
            if _parameters(trace, inside):
                found.append((skip, branch, inside))
    return found


def _projected(trace: Trace, value: Value) -> Value | None:
    """What a value is one linear map of, but for norms, dropout, pooling and factors."""
    is_mapped = False
    while (made := trace.producer(value)) is not None:
        signals = trace.roles.signals_of(made)
        is_new_map = _is_map(trace, made) and not is_mapped
        passes = made.name in _PASSES or is_scaling(made, trace.roles)
        if len(signals) != 1 or not (is_new_map or passes):
            break
        is_mapped = is_mapped or is_new_map
        value = signals[0]
    return value if is_mapped else None


def _is_all_from(trace: Trace, value: Value, start: Value) -> bool:
    """Whether every signal that a value was computed from came through another."""
    waiting, seen = [value], {value, start}
    while waiting:
        made = trace.producer(waiting.pop())
        signals = trace.roles.signals_of(made) if made is not None else []
        if not signals:
            return False
        waiting += [each for each in signals if each not in seen]
        seen.update(signals)
    return True


def _is_map(trace: Trace, step: Operation) -> bool:
    return step.name in LINEAR_MAPS and bool(weights_of(trace, step))


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


def _parameters(trace: Trace, inside: list[Operation]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(name for step in inside for name in weights_of(trace, step)))


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


_SUMS = frozenset(("add", "sub"))
_PASSES = (ARRANGES | NORMS) - PIECES
