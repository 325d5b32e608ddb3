"""Deviations from a plan: FAN501 and FAN502."""

from __future__ import annotations

from collections.abc import Callable

import torch
from faults_table import Fault
from torch import nn

import fanin
from fanin import initializers
from fanin.planning import Plan

__all__ = ["PLAN_FAULTS"]


def mlp() -> nn.Sequential:
    return nn.Sequential(nn.Linear(64, 128), nn.ReLU(), nn.Linear(128, 64), nn.ReLU())


def kaiming(model: nn.Module) -> Plan:
    return fanin.plan(model, "kaiming", seed=0)


def planned(change: Callable[[nn.Module], object], model: nn.Module | None = None) -> nn.Module:
    """A model as `kaiming` plans it, and then changed."""
    model = mlp() if model is None else model
    fanin.initialize(model, "kaiming", seed=0)
    with torch.no_grad():
        change(model)
    return model


def never_applied() -> nn.Module:
    """torch's constructors ran, and nothing after them (pain 7)."""
    torch.manual_seed(0)
    return mlp()


def a_tenth_too_large() -> nn.Module:
    return planned(lambda model: model[0].weight.mul_(1.1))


def other_family() -> nn.Module:
    """A uniform of the planned std: the std alone says nothing."""
    torch.manual_seed(0)
    return planned(lambda model: nn.init.kaiming_uniform_(model[0].weight))


def one_part() -> nn.Module:
    """The values of one packed projection, written over (pain 21)."""
    torch.manual_seed(0)
    attention = nn.MultiheadAttention(64, 4)
    return planned(lambda model: model.in_proj_weight[64:128].mul_(0.5), attention)


def bias_not_zero() -> nn.Module:
    return planned(lambda model: model[2].bias.fill_(0.1))


def not_orthogonal() -> nn.Module:
    """Normal numbers of the std that an orthogonal weight has."""
    torch.manual_seed(0)
    model = nn.Linear(64, 64)
    nn.init.normal_(model.weight, std=1 / 8)
    nn.init.zeros_(model.bias)
    return model


def beyond_the_cut() -> nn.Module:
    """A normal where a truncated one was planned (pain 12)."""
    torch.manual_seed(0)
    model = nn.Linear(256, 256, bias=False)
    nn.init.normal_(model.weight, std=0.02)
    return model


def added_head() -> nn.Module:
    return planned(lambda model: model.add_module("head", nn.Linear(64, 2)))


def plan_without_head(model: nn.Module) -> Plan:
    return kaiming(mlp())


def wider() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(64, 256), nn.ReLU(), nn.Linear(256, 64), nn.ReLU())


PLAN_FAULTS = (
    Fault("FAN501", "never applied", never_applied, "0.weight", plan=kaiming),
    Fault("FAN501", "10 % too large", a_tenth_too_large, "0.weight", plan=kaiming),
    Fault("FAN501", "uniform for normal", other_family, "0.weight", plan=kaiming),
    Fault("FAN501", "one part", one_part, "in_proj_weight[k]", plan=kaiming),
    Fault("FAN501", "bias", bias_not_zero, "2.bias", plan=kaiming),
    Fault(
        "FAN501",
        "normal for orthogonal",
        not_orthogonal,
        "weight",
        plan=lambda model: fanin.plan(model, "orthogonal", seed=0),
    ),
    Fault(
        "FAN207",
        "normal for truncated",
        beyond_the_cut,
        "weight",
        plan=lambda model: fanin.plan(
            model, {"weight": initializers.trunc_normal(std=0.02)}, seed=0
        ),
    ),
    Fault("FAN502", "unknown head", added_head, "head.weight", plan=plan_without_head),
    Fault("FAN502", "other shapes", wider, "0.weight", plan=plan_without_head),
)
