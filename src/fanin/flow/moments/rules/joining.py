"""Tensors side by side."""

from __future__ import annotations

from dataclasses import replace
from math import prod
from typing import TYPE_CHECKING

from fanin.flow.graph import Operation, Value
from fanin.flow.moments.axes import Axes, Role, count, of_role, reshaped
from fanin.flow.moments.expression import Expression, root
from fanin.flow.moments.gradients import Arrival, Gradients, Pullback
from fanin.flow.moments.moments import Moments
from fanin.flow.moments.noise import Noise
from fanin.flow.moments.rules.registry import rule
from fanin.flow.moments.rules.views import same
from fanin.flow.moments.state import State, settled

if TYPE_CHECKING:
    from fanin.flow.moments.forward import Forward

__all__: list[str] = []


@rule("cat", "concat", "concatenate", "stack", "hstack", "vstack", "dstack")
def _joined(forward: Forward, operation: Operation) -> Pullback | None:
    output = operation.outputs[0]
    values = operation.inputs
    sizes = [prod(value.shape) for value in values]
    total = max(sum(sizes), 1)
    met = next(
        (v for v, size in zip(values, sizes, strict=True) if size and not forward.is_weight(v)),
        None,
    )
    states = [forward.state(value, operation, meets=met) for value in values]
    live_values = [value for value, size in zip(values, sizes, strict=True) if size]
    live = [(state, size) for state, size in zip(states, sizes, strict=True) if size]
    if len(live) == 1 and live[0][1] == prod(output.shape):
        axes = reshaped(live[0][0].axes, output.shape)
        expression = Expression(function=same, inputs=(live[0][0].expression,))
        forward.put(output, replace(live[0][0], axes=axes, expression=expression, data=None))
        return None
    shares = [size / total for _, size in live]
    axes = _joined_axes([state.axes for state, _ in live], output.shape)
    axes = _with_profile(axes, output.shape, live_values, [state for state, _ in live])
    is_parameter = all(state.is_parameter for state, _ in live)
    # Parts may differ: the whole has their moments on average and counts as normal from here on.
    # A part along the positions (a class token) agrees with the others as they agree in it.
    moments = Moments.mixture(
        [
            settled(_against(state, axes), axes) if not is_parameter else state.moments
            for state, _ in live
        ],
        shares,
    )
    noise = Noise.combined(
        (
            share * state.moments.second / moments.second if moments.second > 0 else 0.0,
            state.expression.noise,
        )
        for (state, _), share in zip(live, shares, strict=True)
    )
    normalized = all(state.expression.normalized for state, _ in live)
    expression = root(moments, noise=noise, normalized=normalized)
    forward.put(output, State(axes, expression, is_parameter=is_parameter))

    def pull(gradients: Gradients) -> list[Arrival]:
        return [Arrival(value, gradients[output]) for value in values]

    return pull


def _with_profile(
    axes: Axes, shape: tuple[int, ...], values: list[Value], states: list[State]
) -> Axes:
    """Parts side by side along positions may be louder or quieter than each other."""
    if any(len(value.shape) != len(shape) for value in values):
        return axes
    result = list(axes)
    for dim, atoms in enumerate(axes):
        sizes = [value.shape[dim] for value in values]
        is_joined = len(values) > 1 and sum(sizes) == shape[dim]
        if is_joined and len(atoms) == 1 and atoms[0].role == "position":
            loudness = [
                state.moments.second
                for state, size in zip(states, sizes, strict=True)
                for _ in range(size)
            ]
            mean = sum(loudness) / len(loudness)
            if mean > 0:
                result[dim] = of_role("position", shape[dim], tuple(x / mean for x in loudness))
    return tuple(result)


def _against(state: State, axes: Axes) -> Moments:
    """The moments of a part; a parameter is the same for all samples."""
    moments = state.moments
    if not state.is_parameter:
        return moments
    along = moments.mean**2 if count(axes, "position") > 1 else moments.second
    return replace(moments, neighbours=along, positions=along, samples=along)


def _joined_axes(sources: list[Axes], shape: tuple[int, ...]) -> Axes:
    known = next(
        (
            axes
            for axes in sources
            if any(a.role not in ("entry", "copy") for dim in axes for a in dim)
        ),
        sources[0],
    )
    if len(known) == len(shape):
        return tuple(
            atoms if prod(a.size for a in atoms) == size else of_role(_role(known, dim), size)
            for dim, (atoms, size) in enumerate(zip(known, shape, strict=True))
        )
    return reshaped(known, shape)


def _role(axes: Axes, dim: int) -> Role:
    """Of a dim; one without indices of its own is what the others leave."""
    if axes[dim]:
        return axes[dim][0].role
    present = {atom.role for atoms in axes for atom in atoms}
    return "position" if "feature" in present else "feature"
