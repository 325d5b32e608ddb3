"""Operations that only say something together with those that made what they take."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from torch import Tensor

from fanin.flow.graph import Operation, Value
from fanin.flow.moments.calling import filled, is_random

if TYPE_CHECKING:
    from fanin.flow.moments.forward import Forward

__all__ = ["compound"]

_MOST = 24  # operations in one


def compound(forward: Forward, operation: Operation) -> Operation:
    """The operation and those before it that have to be run with it, as one.

    An index is drawn with the numbers that it was found among, so that it is one, and fits what was
    found there. A tensor that is written part by part is drawn as its parts.
    """
    steps = {operation.index: operation}
    waiting = [operation]
    while waiting and len(steps) < _MOST:
        step = waiting.pop()
        for value in step.inputs:
            made = forward.trace.producer(value)
            if made is not None and made.index not in steps and _is_needed(forward, step, value):
                steps[made.index] = made
                waiting.append(made)
    if len(steps) == 1:
        return operation
    order = [steps[index] for index in sorted(steps)]
    own = {value for step in order for value in step.outputs}
    given = tuple(dict.fromkeys(v for step in order for v in step.inputs if v not in own))
    return replace(operation, function=_run(order, given), args=given, kwargs={})


def _is_needed(forward: Forward, step: Operation, value: Value) -> bool:
    """Whether a value's moments alone would not do."""
    state, made = forward.states.get(value), forward.trace.producer(value)
    if made is None or is_random(made) or (state is not None and state.data is not None):
        return False
    is_index = not (value.dtype.is_floating_point or value.dtype.is_complex)
    return is_index or (step.name == made.name == "setitem" and value is step.args[0])


def _run(steps: list[Operation], given: tuple[Value, ...]) -> Callable[..., Any]:
    def function(*tensors: Tensor) -> Any:
        known: dict[Value, Tensor | None] = dict(zip(given, tensors, strict=True))
        result: Any = None
        for step in steps:
            args = filled(step.args, known)
            result = step.function(*args, **filled(dict(step.kwargs), known))
            parts = (result,) if isinstance(result, Tensor) else result
            known.update(zip(step.outputs, parts, strict=True))
        return result

    return function
