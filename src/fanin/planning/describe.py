"""A plan as a table for people."""

from __future__ import annotations

import math
from dataclasses import fields
from typing import TYPE_CHECKING, Any, cast

import torch
from torch import nn

from fanin.fills import Constant, Fill, Packed, Rearranged, Uniform
from fanin.model import sites
from fanin.planning.step import Step
from fanin.report import Column, Table

if TYPE_CHECKING:
    from fanin.planning.plan import Plan

__all__ = ["fill_text", "observed_std", "plan_table", "shape_text"]

_CHUNK = 1 << 16  # elements converted to float64 at a time


def plan_table(plan: Plan, model: nn.Module | None) -> Table:
    """One row for each step; the observed std is there when a model is."""
    columns = [
        Column("parameter"),
        Column("shape"),
        Column("fan in → out", optional=True),
        Column("distribution"),
        Column("std", "right"),
        *([Column("observed", "right")] if model is not None else []),
        Column("rule", optional=True),
    ]
    tensors = {site.name: site.tensor for site in sites(model)} if model is not None else {}
    rows = []
    for step in plan.steps:
        observed = [_number(observed_std(tensors[step.name]))] if model is not None else []
        rows.append((*_cells(step), *observed, step.rule))
    notes = [f"tied: {' = '.join(step.names)}" for step in plan.steps if step.aliases]
    notes += [f"overridden everywhere: {rule}" for rule in plan.overridden]
    return Table(tuple(columns), tuple(rows), caption="\n".join(notes))


def observed_std(tensor: torch.Tensor) -> float:
    """Standard deviation of all entries about their mean, in float64; nan where there are none."""
    if tensor.is_complex():
        parts = torch.view_as_real(tensor.detach().resolve_conj())
        return math.hypot(observed_std(parts[..., 0]), observed_std(parts[..., 1]))
    if tensor.device.type == "meta" or not tensor.numel():
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


def fill_text(fill: Fill) -> str:
    """``normal(0, 0.0742)``: the fill's name and its numbers, to three digits."""
    match fill:
        case Constant():
            return f"{fill.value:.3g}"
        case Uniform() if fill.low == -fill.high:
            return f"uniform(±{fill.high:.3g})"
        case Rearranged():
            return fill_text(fill.base)
        case Packed():
            return _parts_text(fill)
    numbers = (getattr(fill, field.name) for field in fields(cast(Any, fill)))
    return f"{fill.name}({', '.join(f'{number:.3g}' for number in numbers)})"


def _parts_text(fill: Packed) -> str:
    """One text where the parts hold the same, else that of each part."""
    texts = [fill_text(part.fill) for part in fill.parts]
    if len(set(texts)) == 1:
        return f"{texts[0]} in {len(texts)} parts"
    return "; ".join(f"{part.name}: {text}" for part, text in zip(fill.parts, texts, strict=True))


def _cells(step: Step) -> tuple[str, ...]:
    fans = f"{step.fans.fan_in} → {step.fans.fan_out}" if step.fans else "-"
    std = _number(step.moments[1]) if step.moments else "-"
    text = fill_text(step.fill) if step.fill is not None else "kept"
    if step.padding_row is not None:
        text += f"; row {step.padding_row}: 0"
    return (step.name, shape_text(step.shape), fans, text, std)


def _number(value: float) -> str:
    return "-" if math.isnan(value) else f"{value:.4g}"
