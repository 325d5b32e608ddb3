"""What a plan says of each weight, down to single distributions."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property

from torch import Tensor

from fanin.auditing.evidence import Evidence
from fanin.auditing.numbers import Numbers, numbers_of
from fanin.auditing.weights import Weight
from fanin.fills import Fill, Packed, Rearranged
from fanin.planning import Plan, Step

__all__ = ["Planned", "name_in_plan", "planned_pieces", "steps_by_name"]


@dataclass(frozen=True, eq=False)
class Planned:
    """A weight, or a part of one, and the fill that it should hold.

    Args:
        name: of the weight, and of the part in brackets.
        weight: that it is of.
        step: of the plan.
        fill: neither packed nor rearranged.
        tensor: as the fill sees it.
    """

    name: str
    weight: Weight
    step: Step
    fill: Fill
    tensor: Tensor

    @cached_property
    def numbers(self) -> Numbers:
        """Of the piece."""
        whole = self.tensor.shape == self.weight.tensor.shape
        return self.weight.numbers if whole else numbers_of(self.tensor)


def planned_pieces(evidence: Evidence) -> Iterator[Planned]:
    """Every weight that the plan writes, as it writes it; nothing without a plan.

    What is kept or skipped, waits for a shape, or has another shape than planned has no piece. The
    row of an embedding that is set to zero is left out.
    """
    if evidence.plan is None:
        return
    steps = steps_by_name(evidence.plan)
    for weight in evidence.weights:
        step = steps.get(name_in_plan(evidence.plan, weight.name))
        if step is None or step.fill is None or step.is_pending or step.shape != weight.shape:
            continue
        if step.padding_row is None:
            yield from _pieces(weight.name, weight, step, step.fill, weight.tensor)
        else:
            row = step.padding_row
            rest = (weight.tensor[:row], weight.tensor[row + 1 :])
            yield Planned(weight.name, weight, step, step.fill, max(rest, key=len))


def steps_by_name(plan: Plan) -> Mapping[str, Step]:
    """The steps of a plan by every name."""
    return {name: step for step in plan.steps for name in step.names}


def name_in_plan(plan: Plan, name: str) -> str:
    """What a plan for a part of a model calls a parameter of the part."""
    return f"{plan.prefix.removesuffix('.')}.{name}" if plan.prefix else name


def _pieces(name: str, weight: Weight, step: Step, fill: Fill, tensor: Tensor) -> Iterator[Planned]:
    if isinstance(fill, Packed):
        for part in fill.parts:
            own = tensor.narrow(fill.dim, part.start, part.stop - part.start)
            yield from _pieces(f"{name}[{part.name}]", weight, step, part.fill, own)
    elif isinstance(fill, Rearranged):
        view = tensor.reshape(fill.groups, -1, *tensor.shape[1:]) if fill.groups > 1 else tensor
        yield from _pieces(name, weight, step, fill.base, view.permute(fill.dims))
    else:
        yield Planned(name, weight, step, fill, tensor)
