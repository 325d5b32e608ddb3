"""Rules for parts of one packed parameter, and axes that a rule states."""

from __future__ import annotations

import pytest
import torch
from torch import nn

import fanin
from fanin.errors import ArgumentError, LayoutError, PlanError
from fanin.fills import Constant, Normal, Packed
from fanin.geometry import Fans, Layout
from fanin.initializers import kaiming_normal, normal, ones, xavier_uniform, zeros
from fanin.planning import Recipe, keep, rule

FLAT = Recipe("flat", 1, (rule("**", zeros()),))


def attention() -> nn.MultiheadAttention:
    return nn.MultiheadAttention(8, 2)


def test_the_last_rule_wins_part_by_part() -> None:
    module = attention()
    rules = (
        rule("in_proj_weight", ones()),
        rule("in_proj_weight", normal(std=3.0), part="[qk]"),
        rule("in_proj_weight", normal(std=2.0), part="k"),
    )
    plan = fanin.initialize(module, FLAT + rules, seed=0)
    step = plan.steps[0]
    assert isinstance(step.fill, Packed)
    assert [(part.name, part.fill) for part in step.fill.parts] == [
        ("q", Normal(0.0, 3.0)),
        ("k", Normal(0.0, 2.0)),
        ("v", Constant(1.0)),
    ]
    assert step.rule == "in_proj_weight (q, k, v)"
    assert "q: normal(0, 3); k: normal(0, 2); v: 1" in str(plan)
    assert (module.in_proj_weight[16:] == 1).all()


def test_a_part_has_the_values_it_has_when_all_parts_are_alike() -> None:
    whole, parts = attention(), attention()
    fanin.initialize(whole, FLAT + {"in_proj_weight": xavier_uniform()}, seed=0)
    only_k = rule("in_proj_weight", xavier_uniform(), part="k")
    fanin.initialize(parts, FLAT + only_k, seed=0)
    assert torch.equal(whole.in_proj_weight[8:16], parts.in_proj_weight[8:16])
    assert not parts.in_proj_weight[:8].any()


def test_a_part_can_be_kept() -> None:
    module = attention()
    before = module.in_proj_weight.detach().clone()
    fanin.initialize(module, FLAT + rule("in_proj_weight", keep(), part="v"), seed=0)
    assert torch.equal(module.in_proj_weight[16:], before[16:])
    assert not module.in_proj_weight[:16].any()


def test_the_forget_gate_alone() -> None:
    lstm = nn.LSTM(3, 4, num_layers=2, bidirectional=True)
    recipe = FLAT + rule(nn.LSTM, ones(), parameter="bias_ih_*", part="f")
    fanin.initialize(lstm, recipe, seed=0)
    for name, bias in lstm.named_parameters():
        expected = torch.zeros(16)
        if name.startswith("bias_ih"):
            expected[4:8] = 1
        if name.startswith("bias"):
            assert torch.equal(bias, expected), name


def test_a_part_that_is_not_there_is_refused() -> None:
    with pytest.raises(PlanError, match=r"'forget'.*Known: k, q, v"):
        fanin.plan(attention(), FLAT + rule("in_proj_weight", ones(), part="forget"), seed=0)
    with pytest.raises(PlanError, match="It is not packed"):
        fanin.plan(nn.Linear(2, 2), FLAT + rule("weight", ones(), part="q"), seed=0)


def test_a_part_without_a_rule_is_refused() -> None:
    recipe = {"out_proj.*": zeros(), "in_proj_bias": zeros()}
    chosen = Recipe("some", 1, ()) + recipe + rule("in_proj_weight", ones(), part="q")
    with pytest.raises(PlanError, match=r"none for part 'k' of 'in_proj_weight'"):
        fanin.plan(attention(), chosen, seed=0)


def test_a_rule_states_axes_for_any_shape() -> None:
    experts = nn.ParameterDict({"w1": torch.empty(4, 16, 32), "w2": torch.empty(4, 32, 16)})
    stacked = Layout(in_axes=(-1,), out_axes=(-2,), batch_axes=(0,))
    plan = fanin.plan(experts, rule("*", kaiming_normal(), layout=stacked), seed=0)
    assert [step.fans for step in plan.steps] == [Fans(32, 16), Fans(16, 32)]
    fused = nn.Linear(8, 24, bias=False)
    packed = Layout(in_axes=(1,), out_axes=(0,)).packed(("q", "k", "v"))
    step = fanin.plan(fused, rule("weight", xavier_uniform(), layout=packed), seed=0).steps[0]
    assert step.fans == Fans(8, 8)
    by_site = rule("weight", ones(), layout=lambda site: Layout.vector(*site.tensor.shape))
    assert fanin.plan(fused, by_site, seed=0).steps[0].fans is None


def test_axes_that_do_not_fit_are_refused() -> None:
    with pytest.raises(LayoutError, match=r"\(2, 2\).*'weight' of shape \(3, 4\).*out of the rule"):
        fanin.plan(nn.Linear(4, 3, bias=False), rule("*", ones(), layout=Layout.vector(2, 2)))
    with pytest.raises(LayoutError, match="an axis is a dim of the parameter"):
        fanin.plan(nn.Linear(4, 3), rule("*", ones(), layout=Layout(in_axes=(1,))), seed=0)


def test_a_rule_that_won_a_part_is_not_overridden() -> None:
    rules = (rule("in_proj_*", ones(), label="all"), rule("in_proj_weight", normal(), part="q"))
    plan = fanin.plan(attention(), FLAT + rules, seed=0)
    assert plan.overridden == ()
    assert "in_proj_bias     24     -             1 " in str(plan)
    both = (*rules, rule("in_proj_*", zeros(), part="*"))
    assert fanin.plan(attention(), FLAT + both, seed=0).overridden == ("all", "in_proj_weight")


def test_parts_that_hold_one_constant_are_one() -> None:
    step = fanin.plan(attention(), FLAT + rule("in_proj_bias", zeros(), part="v"), seed=0).steps[1]
    assert step.fill == Constant(0.0)


def test_a_part_has_no_stream_of_its_own() -> None:
    with pytest.raises(ArgumentError, match=r"stream='s' for part='q'"):
        rule("in_proj_weight", ones(), part="q", stream="s")
