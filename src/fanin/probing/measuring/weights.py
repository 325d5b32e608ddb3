"""The rows of a probe about weights: as planned, as they are, and what gradient they get."""

from __future__ import annotations

import math
from collections.abc import Mapping

from torch import Tensor, nn

from fanin.errors import LayoutError
from fanin.model import Site, layout_of, sites
from fanin.model.view import identity
from fanin.planning import Plan
from fanin.probing.measuring.statistics import histogram, is_measurable, std_and_rms
from fanin.probing.rows import WeightRow

__all__ = ["computed_weights", "gradient_rms", "weight_rows"]


def weight_rows(
    model: nn.Module, plan: Plan | None, gradients: Mapping[int, float]
) -> tuple[WeightRow, ...]:
    """A row for each parameter, tied ones once under their first name.

    Args:
        model: its parameters are read.
        plan: what they should be.
        gradients: rms by the parameter's ``id``; those that are absent were not asked for one.
    """
    expected = _expected(plan)
    found: dict[object, WeightRow] = {}
    for site in sites(model):
        place = identity(site)
        if place in found or not is_measurable(site.tensor):
            continue
        std, rms = std_and_rms(site.tensor)
        gradient = gradients.get(id(site.tensor))
        ratio = gradient / rms if gradient is not None and rms > 0 else None
        shape = tuple(site.tensor.shape)
        found[place] = WeightRow(
            site.name,
            shape,
            expected.get(site.name),
            std,
            rms,
            gradient,
            ratio,
            histogram(site.tensor),
            _units(site),
            site.through is not None or site.tensor.requires_grad,  # a value computed asks for none
        )
    return tuple(found.values())


def computed_weights(model: nn.Module) -> list[str]:
    """Those that a parametrization computes: gradients arrive at what it computes them from."""
    return [site.name for site in sites(model) if site.through is not None]


def gradient_rms(gradient: Tensor | None) -> float:
    """0 where none arrived; nan or inf where an entry is; entries that are not stored are 0."""
    if gradient is None:
        return 0.0
    values = gradient.coalesce().values() if gradient.is_sparse else gradient
    return std_and_rms(values)[1] * math.sqrt(values.numel() / max(gradient.numel(), 1))


def _units(site: Site) -> int:
    """Outputs that sum over the same inputs: those of one group, and of one part."""
    try:
        layout = layout_of(site)
    except LayoutError:  # of an adapter
        layout = None
    if layout is None or layout.is_lookup or not layout.in_axes or not layout.out_axes:
        return 1
    units = math.prod(layout.shape[axis] for axis in layout.out_axes)
    if layout.parts and layout.part_dim in layout.out_axes:
        units = min(size for _, size in layout.parts)
    return units // layout.groups if 0 in layout.out_axes else units


def _expected(plan: Plan | None) -> dict[str, float]:
    """Std by every name a plan knows."""
    steps = plan.steps if plan is not None else ()
    return {name: step.moments[1] for step in steps if step.moments for name in step.names}
