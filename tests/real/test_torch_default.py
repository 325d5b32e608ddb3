"""The recipe `torch_default` against what torch's constructors really draw.

Each parameter of many fresh modules is tested (Kolmogorov-Smirnov) against the distribution that
the plan states: mean, std and family in one. With about 200 parameters and a threshold of 1e-9
the whole file raises a false alarm once in 5e6 seeds; the seed is fixed besides.
"""

from __future__ import annotations

import pytest
import torch
from scipy import stats

import fanin
from fanin.fills import Constant, Fill, Normal, Packed, Uniform
from fanin.planning import Step
from torch_modules import MODULES

P_VALUE = 1e-9
VALUES = 20_000  # of each parameter, over as many modules as it takes


@pytest.mark.parametrize("name", MODULES)
def test_the_plan_states_what_the_constructor_draws(name: str) -> None:
    torch.manual_seed(0)
    first = MODULES[name]()
    plan = fanin.plan(first, "torch_default", seed=0)
    smallest = min(p.numel() for p in first.parameters())
    modules = [first, *(MODULES[name]() for _ in range(min(VALUES // smallest, 250)))]
    for step in plan.steps:
        _compare(step, torch.stack([m.get_parameter(step.name).detach() for m in modules]))


def _compare(step: Step, drawn: torch.Tensor) -> None:
    """The step's fill, part by part, against the torch parameters stacked along dim 0."""
    if step.padding_row is not None:
        assert not drawn[:, step.padding_row].any(), step.name
        drawn = torch.cat([drawn[:, : step.padding_row], drawn[:, step.padding_row + 1 :]], dim=1)
    if isinstance(step.fill, Packed):
        for part in step.fill.parts:
            length = part.stop - part.start
            values = drawn.narrow(1 + step.fill.dim, part.start, length)
            _follows(part.fill, values.flatten(), f"{step.name}, {part.name}")
    else:
        assert step.fill is not None
        _follows(step.fill, drawn.flatten(), step.name)


def _follows(fill: Fill, values: torch.Tensor, name: str) -> None:
    if isinstance(fill, Constant):
        assert (values == fill.value).all(), name
        return
    if isinstance(fill, Uniform):
        law = stats.uniform(fill.low, fill.high - fill.low)
        # The bound itself: the extremes come close and stay inside, but for float32's rounding.
        assert values.abs().max() <= fill.high * (1 + 1e-6), name
        assert values.abs().max() >= fill.high * 0.98, name
    else:
        assert isinstance(fill, Normal)
        law = stats.norm(fill.mean, fill.std)
    assert stats.kstest(values.double().numpy(), law.cdf).pvalue > P_VALUE, name
