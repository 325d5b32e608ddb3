"""A plan as a table for people."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import fields
from typing import TYPE_CHECKING, Any, cast

import torch
from torch import nn
from torch.nn.parameter import is_lazy

from fanin.drawing.targets import has_numbers
from fanin.errors import UnknownNameError, one_of
from fanin.fills import (
    Constant,
    DeltaOrthogonal,
    Fill,
    FromFunction,
    Mapped,
    Orthogonal,
    Packed,
    Rearranged,
    Sparse,
    Uniform,
    origin_of,
)
from fanin.geometry import is_dtensor, local_tensor
from fanin.model import Site, buffers, sites
from fanin.planning.following import Following
from fanin.planning.predicting import predicted_outputs
from fanin.planning.step import Step
from fanin.report import Column, Table, number_text

if TYPE_CHECKING:
    from fanin.flow import Trace
    from fanin.planning.plan import Plan

__all__ = [
    "content_text",
    "dtype_text",
    "explained",
    "fill_text",
    "observed_std",
    "plan_table",
    "shape_text",
]

_CHUNK = 1 << 16  # elements converted to float64 at a time


def plan_table(plan: Plan, model: nn.Module | None, trace: Trace | None) -> Table:
    """One row for each step; the observed std is there when a model is, what follows by a trace."""
    columns = [
        Column("parameter"),
        Column("shape"),
        Column("fan in → out", optional=True),
        Column("distribution"),
        Column("std", "right"),
        *([Column("observed", "right")] if model is not None else []),
        *([Column("followed by"), Column("output std", "right")] if trace is not None else []),
        Column("rule", optional=True),
    ]
    following = Following(trace, plan.prefix) if trace is not None else None
    predicted, remarks = predicted_outputs(plan, trace, model) if trace is not None else ({}, ())
    held: tuple[Site, ...] = ()
    if model is not None:
        held = (*sites(model, prefix=plan.prefix), *buffers(model, prefix=plan.prefix))
    tensors = {site.name: site.tensor for site in held}
    rows = []
    for step in plan.steps:
        tensor = tensors.get(step.name)
        observed = [_number(observed_std(tensor)) if tensor is not None else "-"]
        observed = observed if model is not None else []
        next_in_line = []
        if following:
            next_in_line = [", ".join(following(step.names)) or "-"]
            next_in_line.append(number_text(predicted.get(step.name)))
        rows.append((*_cells(step), *observed, *next_in_line, step.rule))
    notes = [f"tied: {' = '.join(step.names)}" for step in plan.steps if step.aliases]
    notes += [f"{step.name}: {step.note}" for step in plan.steps if step.note]
    notes += [f"overridden everywhere: {rule}" for rule in plan.overridden]
    notes += [f"matches nothing: {rule}" for rule in plan.unused]
    if any(map(is_dtensor, tensors.values())):
        notes.append("observed: of a sharded parameter, the part that this process holds")
    notes += [f"note: {note}" for note in plan.notes]
    told = trace.notes if trace is not None else ()
    notes += [f"trace: {note}" for note in told if note not in plan.notes]
    notes += [f"output std: {note}" for note in remarks]
    notes += [] if plan.steps else ["The model has no parameters."]
    return Table(tuple(columns), tuple(rows), caption="\n".join(notes))


def explained(plan: Plan, name: str) -> str:
    """What is known of one parameter, a line for each thing."""
    steps = plan.steps
    step = next((step for step in steps if name in step.names), None)
    if step is None:
        known = one_of(name, (each for step in steps for each in step.names))
        raise UnknownNameError(f"explain: a parameter of the plan. Got {name!r}. {known}")
    lines = {
        "parameter": " = ".join(step.names),
        "tensor": f"{shape_text(step.shape)}, {dtype_text(step.dtype)}",
        "axes": _axes_text(step),
        "fans": f"{step.fans.fan_in} in, {step.fans.fan_out} out" if step.fans else "none",
        "content": content_text(step),
        "moments": "mean {:.4g}, std {:.4g}".format(*step.moments) if step.moments else "unknown",
        "rule": step.rule,
        "why": step.reason or "the rules that match once its shape is known",
        "stream": f"{step.key.name!r}, seed {step.key.seed}" if step.key is not None else "none",
    }
    start = f"{plan.prefix}." if plan.prefix else ""
    quoted = [repr(each.removeprefix(start)) for each in step.names]
    notes = [note for note in plan.notes if any(each in note for each in quoted)]
    if step.note or notes:
        lines["note"] = "; ".join(filter(None, [step.note, *notes]))
    width = max(map(len, lines))
    return "\n".join(f"{key.ljust(width)}  {text}" for key, text in lines.items())


def _axes_text(step: Step) -> str:
    if step.is_pending:
        return "known once the shape is"
    return str(step.layout) if step.layout is not None else "no adapter knows them"


def observed_std(tensor: torch.Tensor) -> float:
    """Standard deviation of all entries about their mean, in float64; nan where there are none.

    Of a DTensor it is that of the local entries: no other process is asked.
    """
    tensor = local_tensor(tensor)
    if not is_lazy(tensor) and tensor.is_complex():
        parts = torch.view_as_real(tensor.detach().resolve_conj())
        return math.hypot(observed_std(parts[..., 0]), observed_std(parts[..., 1]))
    if is_lazy(tensor) or not has_numbers(tensor) or not tensor.numel() or tensor.is_quantized:
        return math.nan
    values = tensor.detach().reshape(-1)
    shift = values[:1].double()  # sums stay small, and a constant's std is exactly 0
    total, square = 0.0, 0.0
    for chunk in torch.split(values, _CHUNK):
        centred = chunk.double() - shift
        total += float(centred.sum())
        square += float(centred.dot(centred))
    mean = total / values.numel()
    return math.sqrt(max(square / values.numel() - mean * mean, 0.0))


def shape_text(shape: tuple[int, ...]) -> str:
    """``64×3×11×11``; a dash for a scalar."""
    return "×".join(map(str, shape)) or "-"


def dtype_text(dtype: torch.dtype) -> str:
    """``bfloat16``."""
    return str(dtype).removeprefix("torch.")


def content_text(step: Step) -> str:
    """What a step writes: ``normal(0, 0.0742)``, ``kept``, or what waits for a shape."""
    if step.is_pending:
        return f"{step.pending[-1].content_text}, once its shape is known"
    text = fill_text(step.fill) if step.fill is not None else "kept"
    return text if step.padding_row is None else f"{text}; row {step.padding_row}: 0"


def fill_text(fill: Fill) -> str:
    """``normal(0, 0.0742)``: the fill's name and its numbers, to three digits."""
    match fill:
        case Constant():
            return f"{fill.value:.3g}"
        case Uniform() if fill.low == -fill.high:
            return f"uniform(±{fill.high:.3g})"
        case Orthogonal() | DeltaOrthogonal():
            return f"{fill.name}({fill.gain:.3g})"
        case Sparse():
            return f"sparse({fill.sparsity:.3g}, {fill.std:.3g})"
        case Rearranged():
            return fill_text(fill.base)
        case Packed():
            return _parts_text(fill)
        case Mapped():
            return f"mapped({fill_text(fill.base)}, {_function_text(fill.function)})"
        case FromFunction():
            return f"from_function({_function_text(fill.function)})"
    numbers = (getattr(fill, field.name) for field in fields(cast(Any, fill)))
    return f"{fill.name}({', '.join(f'{number:.3g}' for number in numbers)})"


def _parts_text(fill: Packed) -> str:
    """One text where the parts hold the same, else that of each part."""
    texts = [fill_text(part.fill) for part in fill.parts]
    if len(set(texts)) == 1:
        return f"{texts[0]} in {len(texts)} parts"
    return "; ".join(f"{part.name}: {text}" for part, text in zip(fill.parts, texts, strict=True))


def _function_text(function: Callable[..., Any]) -> str:
    """``module:name``, without the digest."""
    return origin_of(function).partition("@")[0]


def _cells(step: Step) -> tuple[str, ...]:
    fans = f"{step.fans.fan_in} → {step.fans.fan_out}" if step.fans else "-"
    std = _number(step.moments[1]) if step.moments else "-"
    shape = "?" if step.is_pending else shape_text(step.shape)
    return (step.name, shape, fans, content_text(step), std)


def _number(value: float) -> str:
    return "-" if math.isnan(value) else f"{value:.4g}"
