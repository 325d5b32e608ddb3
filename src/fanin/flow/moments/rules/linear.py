"""Layers: sums of many inputs with weights that were drawn independently of them."""

from __future__ import annotations

from dataclasses import dataclass, replace
from math import prod
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F

from fanin.flow.graph import Operation, Value
from fanin.flow.moments.axes import Axes, Role, count, of_role
from fanin.flow.moments.calling import argument
from fanin.flow.moments.expression import Expression, root
from fanin.flow.moments.gradients import Arrival, Gradients, Pullback, to_parameter
from fanin.flow.moments.measure import measured
from fanin.flow.moments.moments import Moments
from fanin.flow.moments.noise import Noise
from fanin.flow.moments.rules.registry import rule
from fanin.flow.moments.state import State, layer_output, settled

if TYPE_CHECKING:
    from fanin.flow.moments.forward import Forward

__all__ = ["Layer", "at_lag", "limited", "spread_of"]


@dataclass(frozen=True, slots=True)
class Layer:
    """One use of a weight: out = Σ w x + b, over ``terms`` products for each entry.

    Args:
        input: x.
        weight: w; independent of x, entries alike.
        bias: b, None without one.
        axes: of the result.
        terms: products in one sum, without padding.
        returns: products with one entry of x, over all entries of the result.
        stride: how far apart the inputs of adjacent positions lie.
        overlap: of the products that are no padding at one position, the share that is none at
            another one either.
        beside: likewise, at an adjacent one.
    """

    input: Value
    weight: Value
    bias: Value | None
    axes: Axes
    terms: float
    returns: float
    stride: int = 1
    overlap: float = 1.0
    beside: float = 1.0

    def run(self, forward: Forward, operation: Operation) -> Pullback:
        """Put the result."""
        output = operation.outputs[0]
        x = forward.state(self.input, operation)
        w = forward.state(self.weight, operation, meets=self.input, terms=self.terms).moments
        forward.note_use(self.weight, self.input, output)
        summed = self._summed(x.moments, w)
        noise = limited(forward, x, self.terms)
        moments = summed
        if self.bias is not None:
            b = forward.state(self.bias, operation, meets=self.input, terms=1.0).moments
            moments = summed.plus(Moments.shared(mean=b.mean, second=b.second))
            if moments.second > 0:
                noise = Noise.combined([(summed.second / moments.second, noise)])
        if x.is_parameter:
            forward.put(output, State(self.axes, root(moments), is_parameter=True))
        else:
            keeps = self._keeps_lengths(forward)
            forward.put(output, layer_output(moments, self.axes, noise=noise, normalized=keeps))
        return self._pullback(forward, output, x, w)

    def _keeps_lengths(self, forward: Forward) -> bool:
        drawn = forward.parameters.get(self.weight.parameter or "")
        is_matrix = len(self.weight.shape) == 2 and self.returns >= self.terms
        return drawn is not None and drawn.is_orthogonal and is_matrix

    def _summed(self, x: Moments, w: Moments) -> Moments:
        # What weights of a mean other than 0 add is the same for all outputs; features of x count
        # as uncorrelated but for their mean.
        def second(of_x: float) -> float:
            cross = self.terms * (self.terms - 1) * (w.mean * x.mean) ** 2
            return self.terms * w.second * of_x + max(cross, 0.0)

        return Moments(
            self.terms * w.mean * x.mean,
            second(x.second),
            second(at_lag(x, self.stride) * self.beside),
            second(x.positions * self.overlap),
            second(x.samples * self.overlap),
        )

    def _pullback(self, forward: Forward, output: Value, x: State, w: Moments) -> Pullback:
        def pull(gradients: Gradients) -> list[Arrival]:
            g = gradients[output]
            back = [Arrival(self.input, g.scaled(self.returns * w.second))]
            uses = prod(output.shape) * self.terms / max(prod(self.weight.shape), 1)
            back.append(Arrival(self.weight, to_parameter(g.times(x.moments), self.axes, uses)))
            if self.bias is not None:
                uses = prod(output.shape) / max(prod(self.bias.shape), 1)
                back.append(Arrival(self.bias, to_parameter(g, self.axes, uses)))
            return back

        return pull


def limited(forward: Forward, x: State, terms: float = 1.0) -> Noise:
    """The noise after one more sum over the features of ``x``, of which there are only so many.

    Args:
        x: what is summed over.
        terms: products in one sum: with a kernel, more than there are features.
    """
    samples, positions = count(x.axes, "sample"), count(x.axes, "position")
    features = max(count(x.axes, "feature"), 1)
    noise = x.expression.noise
    spread = spread_of(x.expression, samples, positions)
    if spread <= 0:
        return noise
    chance = x.expression.alignment
    aligned = chance + (1 - chance) / max(features, terms)
    if x.data is not None:
        return replace(noise, alignment=aligned)  # its size is what it is
    return noise.stepped(spread / features, forward.source(), alignment=aligned)


def spread_of(expression: Expression, samples: int, positions: int) -> float:
    """Of the mean square of one feature over a batch: its variance, relative."""
    own, _, along, across = expression.fluctuation
    chance = expression.alignment
    along += max(own - along, 0.0) * chance
    across += max(own - across, 0.0) * chance
    total = own + along * (positions - 1)
    return max(total / (samples * positions) + across * (samples - 1) / samples, 0.0)


def at_lag(x: Moments, lag: int) -> float:
    """E x x' at positions ``lag`` apart: from neighbours on, agreement falls geometrically."""
    if lag == 1 or x.second - x.positions <= 0:
        return x.neighbours
    ratio = min(max((x.neighbours - x.positions) / (x.second - x.positions), 0.0), 1.0)
    return x.positions + (x.second - x.positions) * ratio**lag


@rule("bilinear")
def _bilinear(forward: Forward, operation: Operation) -> Pullback:
    left, right, weight = (
        argument(operation, at, name) for at, name in enumerate(("input1", "input2", "weight"))
    )
    bias = argument(operation, 3, "bias")
    a, b = (forward.state(each, operation).moments for each in (left, right))
    terms = left.shape[-1] * right.shape[-1]
    w = forward.state(weight, operation, meets=left, terms=terms * b.second).moments
    axes = (*forward.state(left, operation).axes[:-1], of_role("feature", weight.shape[0]))
    summed = a.times(b).scaled(terms * w.second)
    if bias is not None:
        drawn = forward.state(bias, operation, meets=left).moments
        summed = summed.plus(Moments.shared(mean=drawn.mean, second=drawn.second))
    output = operation.outputs[0]
    forward.put(output, layer_output(summed, axes))

    def pull(gradients: Gradients) -> list[Arrival]:
        g = gradients[output]
        back = g.scaled(weight.shape[0] * w.second)
        uses = prod(output.shape) / max(weight.shape[0], 1)
        result = [
            Arrival(left, back.times(b).scaled(right.shape[-1])),
            Arrival(right, back.times(a).scaled(left.shape[-1])),
            Arrival(weight, to_parameter(g.times(a).times(b), axes, uses)),
        ]
        if bias is not None:
            result.append(Arrival(bias, to_parameter(g, axes, uses)))
        return result

    return pull


@rule("conv1d", "conv2d", "conv3d")
def _convolution(forward: Forward, operation: Operation) -> Pullback:
    x, weight, bias = (argument(operation, at, name) for at, name in enumerate(_LAYER))
    kernel = weight.shape[2:]
    dims = len(kernel)
    stride = _each(argument(operation, 3, "stride", default=1), dims)
    padding = argument(operation, 4, "padding", default=0)
    dilation = _each(argument(operation, 5, "dilation", default=1), dims)
    before = _channels_first(forward, operation, x, dims)
    profiles, share, shared, adjacent = [], 1.0, 1.0, []
    for d in range(dims):
        reach = dilation[d] * (kernel[d] - 1)
        pads = (reach // 2, reach - reach // 2)
        if not isinstance(padding, str):
            pads = (_each(padding, dims)[d],) * 2
        elif padding == "valid":
            pads = (0, 0)
        profile, part, of_pairs, beside = _through_kernel(
            _profile(before, d - dims, x.shape[d - dims]), kernel[d], stride[d], pads, dilation[d]
        )
        profiles.append(profile)
        share *= part
        shared *= of_pairs
        adjacent += [beside] if beside is not None else []
    axes = _after(before, operation.outputs[0].shape, weight.shape[0], profiles)
    terms = prod(weight.shape[1:]) * share
    ratio = prod(operation.outputs[0].shape[-dims:]) / prod(x.shape[-dims:])
    groups = argument(operation, 6, "groups", default=1)
    returns = weight.shape[0] / groups * prod(kernel) * share * ratio
    overlap = shared / share if share else 1.0
    beside = sum(adjacent) / len(adjacent) if adjacent else 1.0
    layer = Layer(x, weight, bias, axes, terms, returns, max(stride), overlap, beside)
    return layer.run(forward, operation)


@rule("conv_transpose1d", "conv_transpose2d", "conv_transpose3d")
def _transposed(forward: Forward, operation: Operation) -> Pullback:
    x, weight, bias = (argument(operation, at, name) for at, name in enumerate(_LAYER))
    kernel = weight.shape[2:]
    dims = len(kernel)
    stride = _each(argument(operation, 3, "stride", default=1), dims)
    padding = _each(argument(operation, 4, "padding", default=0), dims)
    groups = argument(operation, 6, "groups", default=1)
    dilation = _each(argument(operation, 7, "dilation", default=1), dims)
    before = _channels_first(forward, operation, x, dims)
    shape = operation.outputs[0].shape
    profiles, share = [], 1.0
    for d in range(dims):
        given = torch.tensor(_profile(before, d - dims, x.shape[d - dims]), dtype=torch.float64)
        reached = F.conv_transpose1d(
            given[None, None],
            torch.ones(1, 1, kernel[d], dtype=torch.float64),
            stride=stride[d],
            dilation=dilation[d],
        )[0, 0]
        reached = F.pad(reached, (0, max(0, shape[d - dims] + padding[d] - len(reached))))
        reached = reached[padding[d] : padding[d] + shape[d - dims]]
        mean = float(reached.mean())
        profiles.append(tuple((reached / mean).tolist()))
        share *= mean / kernel[d]
    axes = _after(before, shape, weight.shape[1] * groups, profiles)
    terms = x.shape[-dims - 1] / groups * prod(kernel) * share
    ratio = prod(shape[-dims:]) / prod(x.shape[-dims:])
    returns = weight.shape[1] * prod(kernel) * share * ratio
    return Layer(x, weight, bias, axes, terms, returns).run(forward, operation)


_LAYER = ("input", "weight", "bias")


def _channels_first(forward: Forward, operation: Operation, x: Value, dims: int) -> Axes:
    """The axes of a convolution's input, which it reads in its own way."""
    state = forward.state(x, operation)
    axes = list(state.axes)
    channel = len(axes) - dims - 1
    wanted: list[Role] = ["position"] * len(axes)
    for dim in range(channel):
        wanted[dim] = "sample"
    wanted[channel] = "feature"
    for dim, role in enumerate(wanted):
        if [atom.role for atom in axes[dim]] not in ([role], []):
            axes[dim] = of_role(role, x.shape[dim])
    if tuple(axes) != state.axes:
        known = state.data
        moments = measured(known, tuple(axes)) if known is not None else state.moments
        if known is None and count(state.axes, "position") == 1:
            # Features that are read as positions have their mean in common, as a raw wave.
            square = moments.mean**2
            moments = replace(moments, neighbours=square, positions=square)
        expression = root(settled(moments, tuple(axes)), noise=state.expression.noise)
        forward.put(x, State(tuple(axes), expression, data=known))
    return tuple(axes)


def _profile(axes: Axes, dim: int, size: int) -> tuple[float, ...]:
    atoms = axes[dim]
    found = atoms[0].profile if len(atoms) == 1 else None
    return found if found is not None else (1.0,) * size


def _through_kernel(
    profile: tuple[float, ...], kernel: int, stride: int, pads: tuple[int, int], dilation: int
) -> tuple[tuple[float, ...], float, float, float | None]:
    """Second moments along one dim after a sum over a kernel: profile, mean, mean of pairs.

    Last, what adjacent positions have in common, as a share of the mean; None without any.
    """
    given = F.pad(torch.tensor(profile, dtype=torch.float64), pads)
    span = dilation * (kernel - 1)
    taps = [given[k * dilation : len(given) - span + k * dilation : stride] for k in range(kernel)]
    reached = torch.stack(taps)
    mean = float(reached.mean())
    if mean <= 0:
        return (1.0,) * reached.shape[1], 0.0, 0.0, None
    # Pairs had less in common than single entries where the profile was uneven before.
    before, roots = torch.tensor(profile, dtype=torch.float64).sqrt(), reached.sqrt()
    of_pairs = float(roots.mean(1).square().mean() / before.mean().square())
    beside = None
    if roots.shape[1] > 1 and len(before) > 1:
        adjacent = (roots[:, 1:] * roots[:, :-1]).mean() / mean
        beside = float(adjacent / (before[1:] * before[:-1]).mean())
    return tuple((reached.mean(0) / mean).tolist()), mean, of_pairs, beside


def _after(
    before: Axes, shape: tuple[int, ...], features: int, profiles: list[tuple[float, ...]]
) -> Axes:
    dims = len(profiles)
    spatial = (
        of_role("position", size, profile)
        for size, profile in zip(shape[-dims:], profiles, strict=True)
    )
    return (*before[: len(shape) - dims - 1], of_role("feature", features), *spatial)


def _each(value: int | tuple[int, ...] | list[int], dims: int) -> tuple[int, ...]:
    if isinstance(value, int):
        return (value,) * dims
    return tuple(value) * dims if len(value) == 1 else tuple(value)
