"""Dropout: what is left is larger."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from fanin.flow.graph import Operation
from fanin.flow.moments.calling import argument
from fanin.flow.moments.expression import Expression, root
from fanin.flow.moments.gradients import Arrival, Gradients, Pullback
from fanin.flow.moments.moments import Moments
from fanin.flow.moments.rules.registry import rule
from fanin.flow.moments.rules.views import same
from fanin.flow.moments.state import settled

if TYPE_CHECKING:
    from fanin.flow.moments.forward import Forward

__all__: list[str] = []


@rule("dropout", "dropout1d", "dropout2d", "dropout3d", "feature_dropout", "alpha_dropout")
def _dropout(forward: Forward, operation: Operation) -> Pullback | None:
    x = argument(operation, 0, "input")
    rate = float(argument(operation, 1, "p", default=0.5))
    is_training = argument(operation, 2, "training", default=True)
    state, output = forward.state(x, operation), operation.outputs[0]
    is_alpha = operation.name == "alpha_dropout"  # keeps mean and variance by itself
    if not is_training or rate == 0 or is_alpha:
        expression = Expression(function=same, inputs=(state.expression,))
        forward.put(output, replace(state, expression=expression, data=None))
        return None
    kept = 1 - rate
    if kept <= 0:
        zero = root(Moments.constant(0.0))
        forward.put(output, replace(state, expression=zero, data=None))
        return None
    before = state.moments
    shares_mask = operation.name in ("dropout1d", "dropout2d", "dropout3d", "feature_dropout")
    along = 1 / kept if shares_mask else 1.0
    moments = Moments(
        before.mean,
        before.second / kept,
        before.neighbours * along,
        before.positions * along,
        before.samples,
    )
    queries = state.queries
    # Half zeros, half not is no bell; sums over many entries see the moments alone.
    expression = root(settled(moments, state.axes), noise=state.expression.noise)
    forward.put(output, replace(state, expression=expression, data=None, queries=queries))

    def pull(gradients: Gradients) -> list[Arrival]:
        g = gradients[output]
        back = Moments(0.0, g.second / kept, g.neighbours * along, g.positions * along, g.samples)
        return [Arrival(x, back)]

    return pull
