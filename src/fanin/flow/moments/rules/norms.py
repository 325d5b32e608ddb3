"""Norms: what they take away, and the scale that they set."""

from __future__ import annotations

from dataclasses import dataclass, replace
from math import prod
from typing import TYPE_CHECKING

from fanin.flow.graph import Operation, Value
from fanin.flow.moments.axes import Axes, count, even
from fanin.flow.moments.calling import argument
from fanin.flow.moments.expression import root
from fanin.flow.moments.gradients import Arrival, Gradients, Pullback, to_parameter
from fanin.flow.moments.moments import Moments
from fanin.flow.moments.noise import Noise
from fanin.flow.moments.rules.registry import rule
from fanin.flow.moments.rules.sampled import sampled
from fanin.flow.moments.state import State, settled

if TYPE_CHECKING:
    from fanin.flow.moments.forward import Forward

__all__: list[str] = []


@dataclass(frozen=True, slots=True)
class _Group:
    """What is normalized together: how many features, positions and samples of each."""

    features: int = 1
    positions: int = 1
    samples: int = 1

    @property
    def entries(self) -> int:
        return self.features * self.positions * self.samples

    def agreement(self, x: Moments) -> float:
        """E x x' over all pairs in the group, an entry with itself included: the mean's square."""
        along = (x.second + (self.positions - 1) * x.positions) / self.positions
        across = (along + (self.samples - 1) * x.samples) / self.samples
        return (across + (self.features - 1) * x.mean**2) / self.features

    @property
    def holds(self) -> tuple[bool, bool, bool]:
        """Whether both entries of a pair are in one group: of neighbours, positions, samples."""
        return self.positions > 1, self.positions > 1, self.samples > 1

    def agreement_apart(self, x: Moments, pair: float, *, inside: bool) -> float:
        """E of the product of the means that two entries of a pair lose."""
        if inside:
            return self.agreement(x)
        return (pair + (self.features - 1) * x.mean**2) / self.features


def _normalize(
    forward: Forward,
    operation: Operation,
    x: Value,
    group: _Group,
    *,
    weight: Value | None,
    bias: Value | None,
    epsilon: float,
    is_centred: bool = True,
) -> Pullback:
    """(x - mean) / √(variance + ε) · weight + bias; without the mean for rms norms."""
    state = forward.state(x, operation)
    before = state.moments
    shared = group.agreement(before) if is_centred else 0.0
    left = max(before.second - shared, 0.0)
    scale = 1 / (left + epsilon) if left + epsilon > 0 else 0.0
    # An rms norm divides a mean by what is partly that mean, so the mean stays in proportion.
    mean = 0.0 if is_centred else before.mean * scale**0.5
    pairs = (
        scale * (pair - (group.agreement_apart(before, pair, inside=inside) if is_centred else 0.0))
        for pair, inside in zip(before.pairs, group.holds, strict=True)
    )
    moments = settled(Moments(mean, scale * left, *pairs), state.axes)
    gain = Moments.constant(1.0)
    if weight is not None:
        drawn = forward.state(weight, operation, meets=x).moments
        gain = Moments.shared(mean=drawn.mean, second=drawn.second)
    after = moments.times(gain)
    if bias is not None:
        drawn = forward.state(bias, operation, meets=x).moments
        after = after.plus(Moments.shared(mean=drawn.mean, second=drawn.second))
    output = operation.outputs[0]
    after_axes = even(state.axes) if group.positions == 1 else state.axes
    # What the norm divides by follows every fluctuation; a value below ε keeps its own.
    share = epsilon * scale
    noise = replace(
        Noise.combined([(share, state.expression.noise)]),
        alignment=state.expression.alignment,
    )
    expression = root(settled(after, after_axes), noise=noise, normalized=group.entries > 1)
    forward.put(output, State(after_axes, expression))

    def pull(gradients: Gradients) -> list[Arrival]:
        g = gradients[output]
        # Quiet positions are amplified, and their gradients with them.
        alone = group.positions == 1
        inverse = _mean_inverse(state.axes, left, epsilon) if alone else scale
        back = g.times(gain).scaled(inverse)
        # The part of a gradient along the mean and along x itself does not come through.
        common = group.agreement(back) if is_centred else 0.0
        removed = common + back.second / group.entries
        kept = Moments(
            0.0,
            max(back.second - removed, 0.0),
            back.neighbours - (common if group.positions > 1 else 0.0),
            back.positions - (common if group.positions > 1 else 0.0),
            back.samples - (common if group.samples > 1 else 0.0),
        )
        result = [Arrival(x, kept)]
        if weight is not None:
            uses = prod(output.shape) / prod(weight.shape)
            result.append(Arrival(weight, to_parameter(g.times(moments), state.axes, uses)))
        if bias is not None:
            uses = prod(output.shape) / prod(bias.shape)
            result.append(Arrival(bias, to_parameter(g, state.axes, uses)))
        return result

    return pull


def _mean_inverse(axes: Axes, variance: float, epsilon: float) -> float:
    """E 1 / (variance + ε) over positions."""
    factors = [1.0]
    for atoms in axes:
        for atom in atoms:
            if atom.profile is not None and len(factors) * len(atom.profile) <= 1 << 16:
                factors = [one * other for one in factors for other in atom.profile]
    inverses = [1 / (variance * each + epsilon) for each in factors if variance * each + epsilon]
    return sum(inverses) / len(inverses) if inverses else 0.0


@rule("layer_norm", "rms_norm")
def _layer_norm(forward: Forward, operation: Operation) -> Pullback:
    x = argument(operation, 0, "input")
    state = forward.state(x, operation)
    dims = len(argument(operation, 1, "normalized_shape"))
    inside = state.axes[len(state.axes) - dims :]
    group = _Group(
        prod(atom.size for dim in inside for atom in dim)
        // (count(inside, "position") * count(inside, "sample")),
        count(inside, "position"),
        count(inside, "sample"),
    )
    is_centred = operation.name == "layer_norm"
    default = 1e-5 if is_centred else 1.2e-7
    weight = argument(operation, 2, "weight")
    bias = argument(operation, 3, "bias") if is_centred else None
    epsilon = argument(operation, 4 if is_centred else 3, "eps")
    return _normalize(
        forward,
        operation,
        x,
        group,
        weight=weight,
        bias=bias,
        epsilon=default if epsilon is None else epsilon,
        is_centred=is_centred,
    )


@rule("group_norm")
def _group_norm(forward: Forward, operation: Operation) -> Pullback:
    x, groups = argument(operation, 0, "input"), argument(operation, 1, "num_groups")
    axes = forward.state(x, operation).axes
    return _normalize(
        forward,
        operation,
        x,
        _Group(x.shape[1] // groups, count(axes, "position")),
        weight=argument(operation, 2, "weight"),
        bias=argument(operation, 3, "bias"),
        epsilon=argument(operation, 4, "eps", default=1e-5),
    )


@rule("batch_norm", "instance_norm")
def _batch_norm(forward: Forward, operation: Operation) -> Pullback | None:
    x, running_mean, running_var = (
        argument(operation, at, name)
        for at, name in enumerate(("input", "running_mean", "running_var"))
    )
    axes = forward.state(x, operation).axes
    is_batch = operation.name == "batch_norm"
    uses_batch = argument(operation, 5, "training", "use_input_stats", default=not is_batch)
    weight, bias = argument(operation, 3, "weight"), argument(operation, 4, "bias")
    epsilon = argument(operation, 7, "eps", default=1e-5)
    if uses_batch or running_var is None:
        group = _Group(1, count(axes, "position"), count(axes, "sample") if is_batch else 1)
        return _normalize(forward, operation, x, group, weight=weight, bias=bias, epsilon=epsilon)
    return _by_running(forward, operation, x, (running_mean, running_var, weight, bias), epsilon)


def _by_running(
    forward: Forward,
    operation: Operation,
    x: Value,
    of_channel: tuple[Value, Value, Value | None, Value | None],
    epsilon: float,
) -> Pullback:
    """(x - running mean) / √(running variance + ε) · weight + bias: a fixed map of each channel."""
    state = forward.state(x, operation)
    mean, variance, drawn_weight, drawn_bias = (
        forward.state(each, operation, meets=x).moments if each is not None else None
        for each in of_channel
    )
    weight, bias = of_channel[2:]
    assert mean is not None
    assert variance is not None
    shift = Moments.shared(mean=-mean.mean, second=mean.second)
    factor = 1 / (max(variance.mean, 0.0) + epsilon)
    gain = Moments.constant(factor**0.5)
    if drawn_weight is not None:
        gain = gain.times(Moments.shared(mean=drawn_weight.mean, second=drawn_weight.second))
    normal = state.moments.plus(shift).scaled(factor)
    moments = state.moments.plus(shift).times(gain)
    if drawn_bias is not None:
        moments = moments.plus(Moments.shared(mean=drawn_bias.mean, second=drawn_bias.second))
    output = operation.outputs[0]
    forward.put(
        output,
        State(state.axes, root(settled(moments, state.axes), noise=state.expression.noise)),
    )

    def pull(gradients: Gradients) -> list[Arrival]:
        g = gradients[output]
        result = [Arrival(x, g.times(Moments.shared(mean=0.0, second=gain.second)))]
        for value, met in ((weight, g.times(normal)), (bias, g)):
            if value is not None:
                uses = prod(output.shape) / max(prod(value.shape), 1)
                result.append(Arrival(value, to_parameter(met, state.axes, uses)))
        return result

    return pull


@rule("normalize")
def _unit_length(forward: Forward, operation: Operation) -> Pullback | None:
    """x / ‖x‖ along one dim, for the Euclidean norm."""
    x = argument(operation, 0, "input")
    if argument(operation, 1, "p", default=2.0) != 2:
        return sampled(forward, operation)
    dim = argument(operation, 2, "dim", default=1)
    state = forward.state(x, operation)
    length = x.shape[dim]
    second = state.moments.second * length
    factor = 1 / second if second > 0 else 0.0
    moments = state.moments.scaled(factor)
    output = operation.outputs[0]
    forward.put(output, State(state.axes, root(moments, normalized=True)))

    def pull(gradients: Gradients) -> list[Arrival]:
        return [Arrival(x, gradients[output].scaled(factor * (1 - 1 / length)))]

    return pull
