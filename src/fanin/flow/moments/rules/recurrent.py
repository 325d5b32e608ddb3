"""Recurrent layers: a small one of the same kind is run, since steps share their weights."""

from __future__ import annotations

import math
from dataclasses import dataclass
from math import prod
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from fanin.flow.graph import Operation, Value
from fanin.flow.moments.axes import Axes, of_role
from fanin.flow.moments.gradients import Arrival, Gradients, Pullback
from fanin.flow.moments.measure import measured
from fanin.flow.moments.moments import Moments
from fanin.flow.moments.rules.linear import limited
from fanin.flow.moments.rules.registry import rule
from fanin.flow.moments.rules.sampled import field, sampled
from fanin.flow.moments.state import layer_output

if TYPE_CHECKING:
    from fanin.flow.moments.forward import Forward

__all__: list[str] = []

_GATES = {"lstm": 4, "gru": 3, "rnn_tanh": 1, "rnn_relu": 1}
_WIDTH, _STEPS, _BATCH, _RUNS = 128, 64, 8, 4


@rule(*_GATES)
def _recurrent(forward: Forward, operation: Operation) -> Pullback | None:
    """A layer of at most 128 units, 64 steps and 8 samples, with weights of the same gains.

    Narrower, shorter and fewer than the real one: the states have settled after 64 steps, or grow
    in any case.
    """
    args = operation.args
    is_plain = isinstance(args[0], Value) and isinstance(args[2], (list, tuple))
    if not is_plain or len(args[0].shape) != 3:
        return sampled(forward, operation)
    layer = _Recurrent(forward, operation)
    state = forward.state(layer.input, operation)
    noise = limited(forward, state)
    found = [layer.run(seed) for seed in range(_RUNS)]
    for at, output in enumerate(operation.outputs):
        axes = layer.axes(at, output.shape)
        every = [measured(run.outputs[at], axes) for run in found]
        moments = Moments.mixture(every, [1 / _RUNS] * _RUNS)
        forward.put(output, layer_output(moments, axes, noise=noise))

    def pull(gradients: Gradients) -> list[Arrival]:
        back = [layer.back(seed, gradients) for seed in range(_RUNS)]
        return [
            Arrival(value, Moments.mixture([each[value] for each in back], [1 / _RUNS] * _RUNS))
            for value in back[0]
        ]

    return pull


@dataclass(frozen=True, slots=True)
class _Run:
    input: Tensor
    weights: list[Tensor]
    outputs: list[Tensor]


class _Recurrent:
    """The call, cut down."""

    def __init__(self, forward: Forward, operation: Operation) -> None:
        self._operation = operation
        self.input: Value = operation.args[0]
        self._weights: list[Value] = list(operation.args[2])
        self._is_batch_first = bool(operation.args[8])
        recurrent = self._weights[1]
        self._hidden = recurrent.shape[0] // _GATES[operation.name]
        # With a projection the widths are two; such a layer keeps its own.
        has_projection = recurrent.shape[1] != self._hidden
        self._scale = 1.0 if has_projection else min(1.0, _WIDTH / self._hidden)
        hidden = forward.state(self.input, operation)
        self._moments = hidden.moments
        self._drawn = {
            value: forward.state(
                value, operation, meets=self.input, terms=prod(value.shape[1:])
            ).moments
            for value in self._weights
        }
        self._parts = {
            value: forward.parameters[value.parameter].parts
            for value in self._weights
            if value.parameter in forward.parameters
        }

    def axes(self, at: int, shape: tuple[int, ...]) -> Axes:
        """Of the outputs: all steps of the last layer, then the last step of all layers."""
        first, second = shape[:2]
        if at == 0 and self._is_batch_first:
            leading = (of_role("sample", first), of_role("position", second))
        elif at == 0:
            leading = (of_role("position", first), of_role("sample", second))
        else:
            leading = (of_role("feature", first), of_role("sample", second))
        return (*leading, of_role("feature", shape[2]))

    def run(self, seed: int) -> _Run:
        """One draw of weights and inputs."""
        generator = torch.Generator().manual_seed(seed)
        shape = self.input.shape
        steps, batch = shape[1::-1] if self._is_batch_first else shape[:2]
        steps, batch = min(steps, _STEPS), min(batch, _BATCH)
        size = (batch, steps) if self._is_batch_first else (steps, batch)
        inner = self._cut(shape[2])
        axes = self.axes(0, (*size, inner))
        x = field(self._moments, axes, (*size, inner), generator)
        weights = [self._weight(value, generator) for value in self._weights]
        states = self._operation.args[1]
        zeros = [
            torch.zeros(each.shape[0], batch, self._cut(each.shape[2]), dtype=torch.float64)
            for each in (states if isinstance(states, (list, tuple)) else [states])
        ]
        start = tuple(zeros) if isinstance(states, (list, tuple)) else zeros[0]
        with torch.enable_grad(), torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            x.requires_grad_()
            for weight in weights:
                weight.requires_grad_()
            rest = self._operation.args[3:]
            outputs = self._operation.function(x, start, weights, *rest)
        return _Run(x, weights, list(outputs))

    def back(self, seed: int, gradients: Gradients) -> dict[Value, Moments]:
        """Gradients of one run, from normal ones at its outputs."""
        run = self.run(seed)
        generator = torch.Generator().manual_seed(seed + 1_000_003)
        arriving = [
            field(gradients[value], self.axes(at, tuple(y.shape)), tuple(y.shape), generator)
            for at, (value, y) in enumerate(zip(self._operation.outputs, run.outputs, strict=True))
        ]
        asked = [run.input, *run.weights]
        back = torch.autograd.grad(run.outputs, asked, arriving, materialize_grads=True)
        shape = tuple(run.input.shape)
        # A narrower layer has fewer outputs, each of a larger weight: x gets the same.
        found = {self.input: measured(back[0], self.axes(0, shape))}
        uses = prod(self.input.shape[:2]) / prod(shape[:2])
        for value, gradient in zip(self._weights, back[1:], strict=True):
            second = uses * float(gradient.square().mean())
            found[value] = Moments.independent(mean=0.0, second=second)
        return found

    def _cut(self, size: int) -> int:
        """A width of the small layer; that of the input is cut where it is a layer's own."""
        if size % self._hidden == 0:
            return round(size * self._scale)
        return min(size, _WIDTH)

    def _weight(self, value: Value, generator: torch.Generator) -> Tensor:
        drawn = self._drawn[value]
        shape = list(value.shape)
        shape[0] = (
            shape[0] // self._hidden * self._cut(self._hidden) if self._scale < 1 else (shape[0])
        )
        std = drawn.std
        if len(shape) == 2:
            shape[1] = self._cut(value.shape[1])
            std *= math.sqrt(value.shape[1] / shape[1])
        noise = torch.randn(shape, generator=generator, dtype=torch.float64)
        parts = self._parts.get(value, ())
        if len(shape) == 1 and parts and shape[0] % len(parts) == 0:
            slices = zip(noise.chunk(len(parts)), parts, strict=True)
            return torch.cat([part.mean + part.std * slice_ for slice_, part in slices])
        return drawn.mean + std * noise
