"""Operations without a formula: run as they are, on tensors drawn with the right moments."""

from __future__ import annotations

import math
from dataclasses import dataclass
from math import prod
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from fanin.flow.graph import Operation, Value
from fanin.flow.moments.axes import Axes, Role, broadcast, of_role, reshaped
from fanin.flow.moments.calling import filled
from fanin.flow.moments.expression import Expression
from fanin.flow.moments.gradients import Arrival, Gradients, Pullback, gathered
from fanin.flow.moments.measure import measured
from fanin.flow.moments.moments import Moments
from fanin.flow.moments.noise import Noise
from fanin.flow.moments.rules.compound import compound
from fanin.flow.moments.rules.registry import rule
from fanin.flow.moments.state import State, layer_output, settled

if TYPE_CHECKING:
    from fanin.flow.moments.forward import Forward

__all__ = ["field", "sampled"]

_ENTRIES = 1 << 18  # drawn in all, over several runs where the tensors are small: 0.3 % of noise
_FEW = 16  # numbers: of fewer, quantiles are too regular
_LIMIT = 1 << 24  # larger tensors are not drawn at all


def sampled(forward: Forward, operation: Operation) -> Pullback | None:
    """A small Monte Carlo on the real operation; its generator is its own."""
    if not operation.outputs:
        return None
    has_numbers = any(value.dtype.is_floating_point for value in operation.outputs)
    try:
        operation = compound(forward, operation)
        runs = _Runs(forward, operation)
    except Exception as error:
        if has_numbers:
            forward.note(
                f"{operation.name}: neither known nor to be sampled ({type(error).__name__}); its "
                "output is taken to be like its first input"
            )
        return _passed(forward, operation)
    if has_numbers:
        forward.note(f"{operation.name}: sampled, from normal inputs of the predicted moments")
    noise = _mixed_noise(forward, operation)
    for output, moments, axes in zip(operation.outputs, runs.moments, runs.axes, strict=True):
        forward.put(output, layer_output(moments, axes, noise=noise))
    return runs.pull


@rule("max_pool1d", "max_pool2d", "max_pool3d", "adaptive_max_pool1d", "adaptive_max_pool2d")
def _max_pool(forward: Forward, operation: Operation) -> Pullback | None:
    noted = dict(forward.notes)
    pullback = sampled(forward, operation)
    forward.notes = noted  # the stated way for these, nothing to warn of
    return pullback


class _Runs:
    """The operation on drawn tensors: what comes out, and how gradients come back."""

    def __init__(self, forward: Forward, operation: Operation) -> None:
        self._forward = forward
        self._operation = operation
        self._values = tuple(dict.fromkeys(operation.inputs))
        met = next((v for v in self._values if not forward.is_weight(v)), None)
        self._states = {
            value: forward.state(value, operation, meets=met, terms=prod(value.shape[1:]))
            for value in self._values
        }
        largest = max(
            [prod(value.shape) for value in (*self._values, *operation.outputs)], default=1
        )
        if largest > _LIMIT:
            raise ValueError("too large")
        self._count = max(1, min(64, _ENTRIES // max(largest, 1)))
        sources = [state.axes for state in self._states.values()]
        self.axes = [_axes(sources, output.shape) for output in operation.outputs]
        with torch.no_grad():
            results = [self._results(self._drawn(s).values(), s) for s in range(self._count)]
        self.moments = [
            _mean([settled(measured(result[at], axes), axes) for result in results])
            for at, axes in enumerate(self.axes)
        ]

    def pull(self, gradients: Gradients) -> list[Arrival]:
        """Through the operation and the functions before it at once.

        A maximum prefers entries where a ReLU before it lets gradients through.
        """
        found: dict[tuple[Value, bool], list[Moments]] = {}
        for seed in range(self._count):
            with torch.enable_grad():
                tensors = self._drawn(seed)
                for root in tensors.leaves.values():
                    root.requires_grad_()
                inputs = tensors.values()
                results = self._results(inputs, seed)
                asked = tensors.parts(self._forward)
            chosen = [
                (result, gradients[value], axes)
                for value, result, axes in zip(
                    self._operation.outputs, results, self.axes, strict=True
                )
                if result.requires_grad
            ]
            if not chosen or not asked:
                return []
            generator = torch.Generator().manual_seed(seed + 1_000_003)
            arriving = [field(g, axes, y.shape, generator) for y, g, axes in chosen]
            back = torch.autograd.grad(
                [each[0] for each in chosen],
                [part.tensor for part in asked],
                arriving,
                materialize_grads=True,
            )
            for part, gradient in zip(asked, back, strict=True):
                of_part = gathered(
                    measured(gradient, part.axes),
                    part.axes,
                    self._forward.states[part.owner].axes,
                )
                found.setdefault((part.owner, part.is_passed_on), []).append(of_part)
        return [
            Arrival(value, _mean(moments), is_passed_on)
            for (value, is_passed_on), moments in found.items()
        ]

    def _drawn(self, seed: int) -> _Tensors:
        return _Tensors.drawn(self._states, torch.Generator().manual_seed(seed))

    def _results(self, inputs: dict[Value, Tensor], seed: int) -> list[Tensor]:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            args = filled(self._operation.args, inputs)
            kwargs = {key: filled(each, inputs) for key, each in self._operation.kwargs.items()}
            results = _tensors(self._operation.function(*args, **kwargs))
        if len(results) != len(self._operation.outputs):
            raise ValueError("another number of results")
        return results


@dataclass(frozen=True, slots=True)
class _Part:
    """A tensor between the variables that were drawn and the operation."""

    owner: Value
    tensor: Tensor
    axes: Axes
    is_passed_on: bool


@dataclass(frozen=True, slots=True)
class _Tensors:
    """Inputs with the moments of their states; what they have in common is common to them."""

    states: dict[Value, State]
    leaves: dict[tuple[Expression, tuple[int, ...]], Tensor]
    known: dict[Value, dict[Expression, Tensor]]

    @classmethod
    def drawn(cls, states: dict[Value, State], generator: torch.Generator) -> _Tensors:
        leaves: dict[tuple[Expression, tuple[int, ...]], Tensor] = {}
        for value, state in states.items():
            for each in state.expression.roots if state.data is None else ():
                if (each, value.shape) not in leaves:
                    leaves[each, value.shape] = field(
                        each.moments, state.axes, value.shape, generator
                    )
        return cls(states, leaves, {})

    def values(self) -> dict[Value, Tensor]:
        """Of the inputs."""
        result = {}
        for value, state in self.states.items():
            if state.data is not None:
                is_float = state.data.is_floating_point()
                result[value] = state.data.double() if is_float else state.data
                continue
            leaves = {each: self.leaves[each, value.shape] for each in state.expression.roots}
            self.known[value] = state.expression.all_values(leaves)
            tensor = self.known[value][state.expression].expand(value.shape)
            result[value] = _typed(tensor, value.dtype)
        return result

    def parts(self, forward: Forward) -> list[_Part]:
        """The values that gradients come to."""
        result = []
        for value, known in self.known.items():
            expression = self.states[value].expression
            inner = [] if forward.ends_at(expression, value) else forward.parts(expression)
            for part, owner in [(expression, value), *inner]:
                if known[part].requires_grad and known[part].shape == value.shape:
                    ends = forward.ends_at(part, owner)
                    axes = self.states[value].axes
                    result.append(_Part(owner, known[part], axes, not ends))
        return result


def field(
    moments: Moments, axes: Axes, shape: tuple[int, ...], generator: torch.Generator
) -> Tensor:
    """A normal tensor whose pairs of positions and samples correlate as they should."""

    def noise(*shared: Role) -> Tensor:
        size = [
            1 if atoms and atoms[0].role in shared else length
            for atoms, length in zip(axes, shape, strict=True)
        ]
        if shared and prod(size) >= _FEW:
            return _stratified(prod(size), generator).reshape(size)
        return torch.randn(size, generator=generator, dtype=torch.float64)

    neighbours, positions, samples = (max(rho, 0.0) for rho in moments.correlations)
    everywhere = min(samples, positions)
    x = noise()
    if neighbours > positions:
        x = _smoothed(x, axes, (neighbours - positions) / max(1 - positions, 1e-12))
    x = x * math.sqrt(max(1 - positions, 0.0))
    x = x + noise("position") * math.sqrt(max(positions - everywhere, 0.0))
    x = x + noise("position", "sample") * math.sqrt(everywhere)
    for dim, atoms in enumerate(axes):
        if len(atoms) == 1 and atoms[0].profile is not None:
            profile = torch.tensor(atoms[0].profile, dtype=torch.float64).sqrt()
            x = x * profile.reshape([-1 if at == dim else 1 for at in range(len(shape))])
    return moments.mean + moments.std * x


def _stratified(count: int, generator: torch.Generator) -> Tensor:
    """Normal quantiles in random order: what many entries share is drawn too seldom for chance."""
    order = torch.randperm(count, generator=generator)
    points: Tensor = torch.special.ndtri((order.double() + 0.5) / count)
    return points / points.square().mean().sqrt()


def _smoothed(x: Tensor, axes: Axes, ratio: float) -> Tensor:
    """Along positions, each a share of the one before: agreement falls geometrically."""
    ratio = min(ratio, 0.999)
    for dim, atoms in enumerate(axes):
        if atoms and atoms[0].role == "position":
            slices = list(x.unbind(dim))
            for at in range(1, len(slices)):
                slices[at] = ratio * slices[at - 1] + math.sqrt(1 - ratio**2) * slices[at]
            x = torch.stack(slices, dim)
    return x


def _axes(sources: list[Axes], shape: tuple[int, ...]) -> Axes:
    """Of the result of an unknown operation: dims keep their places where their number is kept."""
    for axes in sources:
        if len(axes) == len(shape):
            return tuple(
                of_role(atoms[0].role if atoms else "entry", size)
                if prod(atom.size for atom in atoms) != size
                else atoms
                for atoms, size in zip(axes, shape, strict=True)
            )
    return reshaped(sources[0], shape) if sources else broadcast([], shape)


def _mean(every: list[Moments]) -> Moments:
    return Moments.mixture(every, [1 / len(every)] * len(every))


def _mixed_noise(forward: Forward, operation: Operation) -> Noise:
    """That of the largest input: what the operation does to it is not known."""
    states = [forward.states[value] for value in operation.inputs if value in forward.states]
    largest = max(states, key=lambda state: state.moments.second, default=None)
    return largest.expression.noise if largest is not None else Noise.none()


def _passed(forward: Forward, operation: Operation) -> Pullback:
    sources = [forward.state(value, operation) for value in operation.inputs]
    floats = [value for value in operation.inputs if value.dtype.is_floating_point]
    first = forward.states[floats[0]].moments if floats else Moments.constant(0.0)
    for output in operation.outputs:
        axes = _axes([state.axes for state in sources], output.shape)
        forward.put(output, layer_output(first, axes))

    def pull(gradients: Gradients) -> list[Arrival]:
        return [Arrival(floats[0], g) for g in gradients.values()] if floats else []

    return pull


def _typed(tensor: Tensor, dtype: torch.dtype) -> Tensor:
    if dtype.is_floating_point:
        return tensor
    return tensor > 0.5 if dtype == torch.bool else tensor.to(dtype)


def _tensors(nested: Any) -> list[Tensor]:
    if isinstance(nested, Tensor):
        return [nested]
    if isinstance(nested, (list, tuple)):
        return [tensor for each in nested for tensor in _tensors(each)]
    if isinstance(nested, dict):
        return [tensor for each in nested.values() for tensor in _tensors(each)]
    return []
