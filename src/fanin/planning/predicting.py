"""`predict`: what a plan makes of a model's signals, before anything is drawn."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from fanin.drawing.targets import has_numbers
from fanin.errors import ArgumentError, PlanError
from fanin.fills import Orthogonal, Packed
from fanin.model import sites
from fanin.model.wrappers import unwrapped
from fanin.report import shape_text

if TYPE_CHECKING:
    from fanin.flow import Trace
    from fanin.flow.moments import ParameterMoments, Prediction
    from fanin.planning.plan import Plan
    from fanin.planning.step import Step

__all__ = ["drawn_moments", "output_stds", "predict", "predicted_outputs", "prediction_for"]


def predict(model: nn.Module, plan: Plan, example_inputs: Any) -> Prediction:
    """The std of every layer's output, and its gradient's, that a plan leads to; nothing is drawn.

    The model is traced and moments are followed through it, with weights as the plan draws them.
    Parameters that the plan keeps, and buffers, count as they are.

    Args:
        model: the one that was planned for; values are not needed.
        plan: for it.
        example_inputs: a tensor, a tuple of positional arguments, or a mapping of named ones.
            Where they have values, those count, also what `torch.empty` happens to hold; a note
            says so of floats whose rms is not near 1. Inputs on meta are N(0, 1), and token ids
            evenly spread.

    Returns:
        A `Prediction`: ``print`` shows a row for each layer, with the std for infinitely wide
        layers, the median and the interval at their real width, and the gradient's rms.

    Raises:
        TraceError: when the model does not run without values.
        PlanError: when the plan does not say how a parameter that the model uses is drawn, or is
            for one of another shape.
        ArgumentError: when inputs hold NaN, or the model computes with complex parameters.

    Example:
        >>> import fanin, torch
        >>> model = nn.Sequential(nn.Linear(256, 256), nn.ReLU(), nn.Linear(256, 10))
        >>> x = torch.randn(64, 256, generator=torch.Generator().manual_seed(0))
        >>> plan = fanin.plan(model, "kaiming", seed=0)
        >>> prediction = fanin.predict(model, plan, x)
        >>> plan.apply(model)
        >>> 0.8 < float(model(x).detach().std()) / prediction.module("2").std < 1.25
        True
    """
    from fanin.flow.trace import trace

    found = prediction_for(plan, trace(model, example_inputs), model=model, inputs=example_inputs)
    return replace(found, notes=(*_remarks(_values(example_inputs)), *found.notes))


def prediction_for(
    plan: Plan,
    trace: Trace,
    *,
    model: nn.Module | None = None,
    inputs: Any = (),
    gradients: bool = True,
) -> Prediction:
    """The same of a trace; without a model nothing is known of what the plan keeps."""
    from fanin.flow import moments

    buffers = {}
    if model is not None:
        model = unwrapped(model)
        buffers = {name: each for name, each in model.named_buffers() if not each.is_meta}
    return moments.predict(
        trace,
        _drawn(plan, trace, model),
        _values(inputs),
        buffers=buffers,
        gradients=gradients,
    )


def output_stds(plan: Plan, trace: Trace, model: nn.Module | None = None) -> dict[str, float]:
    """The median std of what each parameter's layer gives, by the parameter that names the layer.

    Nothing where the plan does not say how all parameters are drawn.
    """
    return predicted_outputs(plan, trace, model)[0]


def predicted_outputs(
    plan: Plan, trace: Trace, model: nn.Module | None = None
) -> tuple[dict[str, float], tuple[str, ...]]:
    """The same, and what there is to know of it: what inputs it is for, or why there is none."""
    try:
        prediction = prediction_for(plan, trace, model=model, gradients=False)
    except PlanError as error:
        advice = " With a model, those that it holds count." if model is None else ""
        return {}, (f"{error}{advice}",)
    start = f"{plan.prefix}." if plan.prefix else ""
    found, seen = {}, set()
    for step in plan.steps:
        users = (u for name in step.names for u in trace.users(name.removeprefix(start)))
        first = next(users, None)
        if first is not None and first not in seen and first.outputs:
            seen.add(first)
            predicted = prediction.values.get(first.outputs[0])
            if predicted is not None:
                found[step.name] = predicted.median
    known = {*trace.notes, *plan.notes}
    return found, (_FOR_INPUTS, *(note for note in prediction.notes if note not in known))


_FOR_INPUTS = (
    "the median over draws, for inputs N(0, 1) and evenly spread token ids; fanin.predict counts "
    "the values of inputs"
)


def drawn_moments(step: Step) -> ParameterMoments | None:
    """How the entries of a step are drawn, slice by slice where they differ; None if not known."""
    from fanin.flow.moments import ParameterMoments

    if step.moments is None:
        return None
    fill, parts = step.fill, []
    if isinstance(fill, Packed) and fill.dim == 0 and step.is_complete:
        sizes = {part.stop - part.start for part in fill.parts}
        for part in sorted(fill.parts, key=lambda part: part.start) if len(sizes) == 1 else ():
            shape = (part.stop - part.start, *step.shape[1:])
            parts.append(ParameterMoments(*part.fill.moments(shape)))
    is_orthogonal = isinstance(fill, Orthogonal)
    return ParameterMoments(*step.moments, parts=tuple(parts), is_orthogonal=is_orthogonal)


def _drawn(plan: Plan, trace: Trace, model: nn.Module | None) -> dict[str, ParameterMoments]:
    start = f"{plan.prefix}." if plan.prefix else ""
    steps = {name.removeprefix(start): step for step in plan.steps for name in step.names}
    kept = {site.name: site.tensor for site in sites(model)} if model is not None else {}
    found = {}
    for name, value in trace.parameters.items():
        step = steps.get(name)
        if step is not None and step.shape and tuple(step.shape) != value.shape:
            raise PlanError(
                "predict: the plan is for a model of the same shapes. Got "
                f"{shape_text(step.shape)} in the plan and {shape_text(value.shape)} in the model "
                f"for {name!r}. Plan for this model."
            )
        moments = drawn_moments(step) if step is not None else None
        if moments is None and name in kept and (step is None or step.fill is None):
            moments = _observed(kept[name])
        if moments is None:
            raise PlanError(
                f"predict: the plan says how each parameter is drawn. Got none for {name!r}. "
                "Give lazy modules their shapes, and parameters that the plan keeps their values."
            )
        found[name] = moments
    return found


def _observed(tensor: Tensor) -> ParameterMoments | None:
    from fanin.flow.moments import ParameterMoments

    if is_lazy(tensor) or not has_numbers(tensor) or not tensor.numel():
        return None
    values = tensor.detach().double()
    return ParameterMoments(float(values.mean()), float(values.std(correction=0)))


def _values(inputs: Any) -> dict[str, Tensor]:
    """Tensors with values, by the names that a trace gives arguments."""
    from fanin.flow.rehearsal import named_tensors

    found = {name: each for name, each in named_tensors(inputs) if not each.is_meta}
    for name, each in found.items():
        if each.isnan().any():
            raise ArgumentError(
                f"predict: inputs are numbers. Got NaN for argument {name!r}. Pass others, or "
                "torch.empty_like(x, device='meta') for inputs of mean 0 and std 1."
            )
    return found


def _remarks(values: Mapping[str, Tensor]) -> Iterator[str]:
    """Of arguments that are far from the N(0, 1) which they would be without values."""
    for name, each in values.items():
        found = _observed(each) if each.is_floating_point() else None
        if found is not None and not 0.5 < math.hypot(found.mean, found.std) < 2:
            yield (
                f"the values of argument {name!r} count: mean {found.mean:.3g}, "
                f"std {found.std:.3g}. Example inputs on meta stand for N(0, 1)"
            )
