"""`probe`: one forward and one backward pass, measured call by call."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain
from typing import Any

import torch
from torch import Tensor, nn

from fanin.errors import ArgumentError, ProbeError
from fanin.model import module_type
from fanin.planning import Plan
from fanin.probing.measuring.arguments import check_plan, checked_model, some
from fanin.probing.measuring.capture import Capture, StopForward
from fanin.probing.measuring.gradients import backward as backward_pass
from fanin.probing.measuring.gradients import start
from fanin.probing.measuring.isolation import undisturbed
from fanin.probing.measuring.modules import Watched, watched
from fanin.probing.measuring.tensors import copied, tensors_in
from fanin.probing.measuring.weights import computed_weights, gradient_rms, weight_rows
from fanin.probing.predicted import with_predictions
from fanin.probing.rows import SignalRow
from fanin.probing.signal_report import SignalReport

__all__ = ["probe"]


def probe(
    model: nn.Module,
    inputs: object,
    *,
    loss: Callable[[Any], Tensor] | None = None,
    backward: bool = True,
    plan: Plan | None = None,
    predict: bool | None = None,
    stop_at_nonfinite: bool = False,
) -> SignalReport:
    """How signals and gradients fare in a model: one forward and one backward pass, measured.

    Every call of a module that computes has a row, and so has every activation that is called as a
    plain function (``torch.tanh``, ``F.relu``, ``x.sigmoid()``). Statistics are those of the first
    output tensor that is no single number, in float64 accuracy; no activation is kept for them.

    Afterwards, also when a pass raises, the model has its buffers (running statistics too), its
    gradients, training modes and hooks as they were, and so are the random generators. What a
    forward does besides is not undone: attributes that it sets, weights that it writes, hooks that
    it adds. Autocast that is active around the call holds for the forward pass.

    Memory: a copy of the inputs, which a layer may overwrite, and one of the buffers.

    Args:
        model: with values, in train or eval mode, which it keeps. A wrapper such as DDP, or what
            `torch.compile` returns, is left out: the module inside it runs. Its parameters are
            whole on this process, and it is no `torch.jit` program.
        inputs: a tensor; a tuple or list of positional arguments; a mapping of keyword arguments.
            Tensors in lists, tuples, mappings and dataclasses are copied, and the graph they come
            from gets no gradients.
        loss: a function of the model's output that returns one number. Without one it is the
            output's own ``loss``, if it has one, or an output that is one number; otherwise a
            random projection of the outputs, which gives each of their entries the gradient 1 or
            -1, the same at every call.
        backward: whether to run the backward pass.
        plan: what the weights were meant to be, to compare with.
        predict: whether to trace the model and state beside each measured std what the plan leads
            to; by default for plans that came from a trace, as those of `auto`.
        stop_at_nonfinite: end the forward pass after the first call that returns NaN or infinity.
            That call's row states its input's statistics in any case.

    Returns:
        A `SignalReport`: ``print`` shows it; rows in the order in which calls return.

    Raises:
        PlanError: when parameters or buffers have no values yet (meta, lazy).
        ProbeError: when the forward or the backward pass raises, the cause being chained, or when
            all outputs are empty.
        ArgumentError: when ``loss`` returns no single number, the plan is of another model, the
            model is sharded, scripted or traced, or an argument is no such thing.

    Example:
        >>> model = nn.Sequential(nn.Linear(8, 8), nn.Tanh(), nn.Linear(8, 2))
        >>> report = probe(model, torch.ones(4, 8))
        >>> [(row.name, row.kind, row.depth) for row in report.rows]
        [('0', 'Linear', 1), ('1', 'Tanh', 1), ('2', 'Linear', 2)]
        >>> model[0].weight.grad is None
        True
    """
    model = checked_model(model)
    check_plan(plan, model)
    if predict and plan is None:
        raise ArgumentError(
            "probe: predictions follow from a plan. Got predict=True without one. Pass plan=, "
            "which fanin.plan and fanin.initialize return."
        )
    modules = watched(model)
    capture = Capture(modules, gradients=backward, stop_at_nonfinite=stop_at_nonfinite)
    passes = _Passes(model, capture)
    with undisturbed(model):
        passes.run(copied(inputs), loss, backward)
    if capture.transformed:
        passes.notes.append(f"no rows inside torch.func transforms: {some([*capture.transformed])}")
    computed = computed_weights(model)
    if computed and passes.gradients:
        passes.notes.append(f"no gradients of weights that are computed: {some(computed)}")
    if not passes.has_stopped:
        passes.notes += _never_called(modules, capture.called, passes.gradients)
    rows = capture.rows()
    _check_entries(rows)
    if plan is not None and (plan.is_traced if predict is None else predict):
        rows, said = with_predictions(rows, model, plan, inputs)
        passes.notes += said
    return SignalReport(
        rows=rows,
        weights=weight_rows(model, plan, passes.gradients),
        loss=passes.loss,
        title=module_type(model).__name__,
        recipe=plan.recipe if plan is not None else "",
        seed=plan.seed if plan is not None else None,
        notes=tuple(passes.notes),
    )


@dataclass(slots=True)
class _Passes:
    """The two passes, and what they leave: a loss, the rms of each parameter's gradient, notes."""

    model: nn.Module
    capture: Capture
    loss: float | None = None
    gradients: dict[int, float] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    has_stopped: bool = False

    def run(
        self,
        inputs: object,
        loss: Callable[[Any], Tensor] | None,
        backward: bool,
    ) -> None:
        asking = [tensor for tensor in tensors_in(inputs) if tensor.requires_grad]
        try:
            with torch.set_grad_enabled(backward):
                output = self._forward(inputs)
                if backward and not self.has_stopped:
                    self._backward(output, loss, asking)
        finally:
            self.capture.forget_gradients()

    def _forward(self, inputs: object) -> Any:
        args, kwargs = _arguments(inputs)
        try:
            with self.capture.watching():
                return self.model(*args, **kwargs)
        except StopForward:
            self.has_stopped = True
            self.notes.append(f"stopped at {self.capture.last!r}: its output is not finite")
        except Exception as error:
            advice = self._advice(error, "Correct the inputs, or that module")
            raise ProbeError(
                f"probe: the forward pass runs through. Got {_text(error)} in "
                f"{self.capture.where}. {advice}; nothing has changed."
            ) from error

    def _backward(
        self, output: object, loss: Callable[[Any], Tensor] | None, asking: Sequence[Tensor]
    ) -> None:
        wanted = [p for p in self.model.parameters() if p.requires_grad]
        try:
            begin = start(output, loss)
        except ArgumentError:
            raise
        except Exception as error:
            raise ProbeError(
                f"probe: loss= takes the model's output. Got {_text(error)} for an output of type "
                f"{type(output).__name__}. Correct the function; nothing has changed."
            ) from error
        if begin.loss is not None:
            self.loss = float(begin.loss.detach())
        if not begin.roots or not (wanted or asking):
            self.notes.append("no gradients: what the model returns depends on nothing that asks")
            self.gradients = {id(p): 0.0 for p in wanted}
            return
        if begin.loss is None:
            self.notes.append("no loss: gradients start as ±1 at each entry of the outputs")
        try:
            found, is_reentrant = backward_pass(begin, [*wanted, *asking])
        except Exception as error:
            arrived = self.capture.arrived
            where = f"after {arrived!r} had got its gradient" if arrived else "at its start"
            raise ProbeError(
                f"probe: the backward pass runs through. Got {_text(error)} {where}. "
                f"{self._advice(error, 'Correct the function that raised, or pass backward=False')}"
                "; nothing has changed."
            ) from error
        if is_reentrant:
            self.notes.append("no gradients inside reentrant checkpoints: use_reentrant=False")
        for parameter, gradient in zip(wanted, found, strict=False):
            self.gradients[id(parameter)] = gradient_rms(gradient)

    def _advice(self, error: Exception, usual: str) -> str:
        """How to get past an exception; torch's own words on inference tensors are of no help."""
        held = chain(self.model.parameters(), self.model.buffers())
        if "nference" in str(error) and any(tensor.is_inference() for tensor in held):
            return "Make the model outside torch.inference_mode(), or probe a copy.deepcopy of it"
        return usual


def _arguments(inputs: object) -> tuple[Sequence[Any], Mapping[str, Any]]:
    if isinstance(inputs, Mapping):
        return (), inputs
    return (inputs if isinstance(inputs, tuple | list) else (inputs,)), {}


def _check_entries(rows: Sequence[SignalRow]) -> None:
    """Refuse a batch of nothing, of which each statistic is 0; a layer of no units is a layer."""
    if rows and all(0 in row.output.shape[:-1] for row in rows):
        raise ProbeError(
            "probe: what modules return has entries. Got none in the output of "
            f"{rows[0].name or 'the model'!r} ({rows[0].kind}). Pass inputs that are not empty; "
            "nothing has changed."
        )


def _never_called(
    modules: Sequence[Watched], called: set[str], gradients: Mapping[int, float]
) -> list[str]:
    """A note about modules that did not run, nor any in them, nor gave a weight to others."""
    reached = {".".join(name.split(".")[:n]) for name in called for n in range(name.count(".") + 2)}
    idle: list[str] = []
    for place in modules:
        is_inside = any(place.name.startswith(f"{outer}.") for outer in idle)
        is_read = any(gradients.get(id(p)) for p in place.module.parameters())
        if place.can_idle and not (place.name in reached or is_inside or is_read):
            idle.append(place.name)
    return [f"never called: {some(idle)}"] if idle else []


def _text(error: Exception) -> str:
    return f"{type(error).__name__} ({str(error).strip().rstrip('.')})"
