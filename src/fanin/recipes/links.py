"""The functions between a model's layers, and what they do to small deviations."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import NamedTuple

import torch

from fanin.flow import Operation, Trace, Value
from fanin.flow.moments import Forward
from fanin.flow.moments.expression import Expression
from fanin.flow.residuals import weights_of
from fanin.flow.roles import ARRANGES, LINEAR_MAPS

__all__ = ["Curve", "Growth", "Link", "links", "sources", "weight_of"]


class Growth(NamedTuple):
    """What one function and the layer after it make of deviations, as logarithms.

    Args:
        length: of d log E f² / d log q: what becomes of a deviation of the second moment. That a
            layer's weights are solved for at one q keeps that q, but only where this is no more
            than 0 does it draw others towards it.
        gradient: of q E f'² / E f²: what becomes of the gradient's second moment, and of the angle
            between two inputs that differ little.
    """

    length: float
    gradient: float


@dataclass(frozen=True, eq=False)
class Curve:
    """The growth by functions in a row, for any second moment of what goes into them.

    Args:
        functions: of normal variables, the last first. Pooling between them counts as linear.
    """

    functions: tuple[Expression, ...]
    _known: dict[float, Growth] = field(default_factory=dict)

    def at(self, second: float) -> Growth:
        """At a second moment of this times what the functions now get."""
        if second not in self._known:
            found = [_growth(each, second) for each in self.functions]
            self._known[second] = Growth(*map(sum, zip(*found, strict=True)))
        return self._known[second]


@dataclass(frozen=True, slots=True, eq=False)
class Link:
    """One layer's result goes into another layer, with nothing between that sets its size.

    Args:
        before: the first layer.
        after: the second.
        curve: of the functions between them; None where there are none.
    """

    before: Operation
    after: Operation
    curve: Curve | None


def links(forward: Forward) -> tuple[Link, ...]:
    """All links of a model, in the order of what they lead to.

    Norms and softmax set sizes anew; where a branch joins a residual stream, the stream does.

    Args:
        forward: a finished pass over the model's trace.
    """
    trace = forward.trace
    curves: dict[tuple[float, ...], Curve] = {}
    found = []
    for after in trace.operations:
        if weight_of(trace, after) is None:
            continue
        for value in trace.roles.signals_of(after):
            for before, functions in sources(forward, value):
                curve = _shared(Curve(functions), curves) if functions else None
                found.append(Link(before, after, curve))
    return tuple(found)


def sources(forward: Forward, value: Value) -> Iterator[tuple[Operation, tuple[Expression, ...]]]:
    """The layers that a value comes from, each with the functions on the way, the last first."""
    ends = {each.operation for each in forward.trace.residuals()}
    yield from _Search(forward, ends).back(value, ())


def weight_of(trace: Trace, operation: Operation) -> str | None:
    """The weight of a layer: a linear map, but no recurrent one."""
    if operation.name in LINEAR_MAPS and not operation.name.startswith(_RECURRENT):
        for name in weights_of(trace, operation):
            if len(trace.parameters[name].shape) > 1:
                return name
    return None


class _Search:
    """Walks back from a value to the layers it comes from."""

    def __init__(self, forward: Forward, ends: set[Operation]) -> None:
        self._forward = forward
        self._ends = ends
        self._seen: set[Value] = set()

    def back(
        self, value: Value, functions: tuple[Expression, ...]
    ) -> Iterator[tuple[Operation, tuple[Expression, ...]]]:
        trace = self._forward.trace
        made = trace.producer(value)
        if made is None or made in self._ends or value in self._seen:
            return
        self._seen.add(value)
        if weight_of(trace, made) is not None:
            yield made, functions
            return
        expression = self._forward.states[value].expression
        if not expression.is_root:
            owners = {self._forward.owners.get(root): root for root in expression.varying}
            passed = (*functions, expression) if _changes(expression) else functions
            for owner in owners:
                if owner is not None and owner is not value:
                    yield from self.back(owner, passed)
        elif made.name in ARRANGES:
            for each in trace.roles.signals_of(made):
                yield from self.back(each, functions)


def _changes(expression: Expression) -> bool:
    """Whether it is more than a view."""
    growth = _growth(expression, 1.0)
    return abs(growth.length) + abs(growth.gradient) > 1e-9


def _shared(curve: Curve, known: dict[tuple[float, ...], Curve]) -> Curve:
    """One curve for functions that are alike, so that each is integrated once."""
    key = tuple(round(each, 9) for scale in (1.0, 0.5) for each in curve.at(scale))
    return known.setdefault(key, curve)


def _growth(function: Expression, scale: float) -> Growth:
    if not function.varying:
        return Growth(0.0, 0.0)
    rule, root = function.grid, math.sqrt(scale)
    points = {
        each: root * values if each.moments.variance > 0 else values
        for each, values in function.on_grid().items()
    }
    leaves = {each: values.requires_grad_() for each, values in points.items()}
    with torch.enable_grad():
        values = function.values(leaves)
        asked = [leaves[each] for each in function.varying]
        slopes = [torch.zeros_like(each) for each in asked]  # of steps, such as comparisons
        if values.requires_grad:
            slopes = list(torch.autograd.grad(values.sum(), asked, materialize_grads=True))
    values = values.detach()
    second = rule.mean(values.square())
    if second <= 0:
        return Growth(0.0, 0.0)
    length = gradient = 0.0
    for each, slope in zip(asked, slopes, strict=True):
        x, slope = each.detach(), torch.nan_to_num(slope)
        length += rule.mean(values * slope * x) / second
        gradient += rule.mean(x.square()) * rule.mean(slope.square()) / second
    return Growth(_log(length), _log(gradient))


def _log(number: float) -> float:
    return math.log(number) if number > _FLAT else math.log(_FLAT)


_RECURRENT = ("lstm", "gru", "rnn")
_FLAT = 1e-6  # of a step function no deviation is left, nor any gradient
