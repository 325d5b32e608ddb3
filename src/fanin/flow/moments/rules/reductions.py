"""Means and sums over whole dims."""

from __future__ import annotations

from math import prod
from typing import TYPE_CHECKING, Any

from fanin.flow.graph import Operation, Value
from fanin.flow.moments.axes import Axes, count
from fanin.flow.moments.calling import argument
from fanin.flow.moments.expression import root
from fanin.flow.moments.gradients import Arrival, Gradients, Pullback
from fanin.flow.moments.moments import Moments
from fanin.flow.moments.rules.linear import limited
from fanin.flow.moments.rules.registry import rule
from fanin.flow.moments.state import State, settled

if TYPE_CHECKING:
    from fanin.flow.moments.forward import Forward

__all__ = ["mean_over"]


@rule("mean", "sum")
def _reduced(forward: Forward, operation: Operation) -> Pullback:
    x = argument(operation, 0, "input")
    dims = _dims(argument(operation, 1, "dim"), len(x.shape))
    keeps = bool(argument(operation, 2, "keepdim", default=False))
    state = forward.state(x, operation)
    axes = tuple(
        () if dim in dims else atoms
        for dim, atoms in enumerate(state.axes)
        if keeps or dim not in dims
    )
    gone: Axes = tuple(state.axes[dim] for dim in dims)
    return mean_over(forward, operation, x, gone, axes, is_sum=operation.name == "sum")


def mean_over(
    forward: Forward,
    operation: Operation,
    x: Value,
    gone: Axes,
    axes: Axes,
    *,
    is_sum: bool = False,
) -> Pullback:
    """The mean over whole dims."""
    state = forward.state(x, operation)
    total = prod(atom.size for dim in gone for atom in dim)
    positions, samples = count(gone, "position"), count(gone, "sample")
    features = max(total // (positions * samples), 1)
    factor = float(total**2) if is_sum else 1.0
    moments = _averaged(state.moments, features, positions, samples)
    noise = state.expression.noise if features == 1 else limited(forward, state)
    is_nearly_constant = moments.variance < 0.25 * moments.mean**2
    if features > 1 and is_nearly_constant:
        # The mean of many features (of squares, for a norm) hardly varies. Its size is kept as a
        # constant that follows the tensor's own, so that it divides out where it should.
        moments = Moments.constant(moments.mean)
        noise = state.expression.noise
    output = operation.outputs[0]
    expression = root(settled(moments.scaled(factor), axes), noise=noise)
    if state.is_parameter:
        expression = root(moments.scaled(factor))
    forward.put(output, State(axes, expression, is_parameter=state.is_parameter))

    def pull(gradients: Gradients) -> list[Arrival]:
        # Every entry that was averaged gets the same.
        g = gradients[output].scaled(factor / total**2)
        along = g.second if positions > 1 else g.positions
        across = along if samples > 1 else g.samples
        return [Arrival(x, Moments(0.0, g.second, along, along, across))]

    return pull


def _averaged(x: Moments, features: int, positions: int, samples: int) -> Moments:
    """Of means over positions, then samples, then features; features share their mean alone."""
    if positions > 1:
        second = (x.second + (positions - 1) * x.positions) / positions
        x = Moments(x.mean, second, second, second, x.samples)
    if samples > 1:
        second = (x.second + (samples - 1) * x.samples) / samples
        along = (x.positions + (samples - 1) * x.samples) / samples
        x = Moments(x.mean, second, along, along, second)
    if features > 1:

        def mixed(value: float) -> float:
            return (value + (features - 1) * x.mean**2) / features

        x = Moments(x.mean, mixed(x.second), *(mixed(pair) for pair in x.pairs))
    return x


def _dims(dim: Any, count_: int) -> tuple[int, ...]:
    if dim is None or dim == () or dim == []:
        return tuple(range(count_))
    if isinstance(dim, int):
        return (dim % count_,)
    return tuple(each % count_ for each in dim)
