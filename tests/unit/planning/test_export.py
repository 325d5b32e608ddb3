"""A plan as text and back, its differences from another, and its explanation."""

from __future__ import annotations

import json

import pytest
import torch
from torch import Tensor, nn

import fanin
from fanin.errors import ArgumentError, PlanError, UnknownNameError
from fanin.fills import origin_of
from fanin.initializers import from_function, mapped, normal, ones, orthogonal, uniform
from fanin.planning import Plan, Recipe, keep, rule


def halved(x: Tensor) -> Tensor:
    return x / 2


def model() -> nn.ModuleDict:
    parts = nn.ModuleDict(
        {
            "table": nn.Embedding(7, 4, padding_idx=2),
            "attention": nn.MultiheadAttention(4, 2),
            "conv": nn.Conv2d(4, 6, 3, groups=2),
            "deconv": nn.ConvTranspose1d(4, 6, 3, stride=2, dtype=torch.bfloat16),
            "head": nn.Linear(4, 7, bias=False),
        }
    )
    parts["head"].weight = parts["table"].weight
    return parts


RULES = (
    rule(nn.modules.conv._ConvNd, orthogonal(), parameter="weight"),
    rule("attention.out_proj.bias", keep()),
    rule("attention.in_proj_weight", ones(), part="k"),
)
RECIPE = fanin.get_recipe("xavier") + RULES


def test_a_plan_survives_json() -> None:
    plan = fanin.plan(model(), RECIPE, seed=2**64 - 1)
    again = Plan.from_json(plan.to_json())
    assert again == plan
    assert str(again) == str(plan)
    assert again.fingerprint() == plan.fingerprint()
    first, second = model(), model()
    fanin.initialize(second, {"**": keep()}, seed=0)
    for each, made in ((first, plan), (second, again)):
        each["attention"].out_proj.bias.data.zero_()
        made.apply(each)
    for name, value in first.state_dict().items():
        assert torch.equal(value, second.state_dict()[name]), name


def test_functions_are_passed_by_whoever_reads() -> None:
    recipe = {"weight": mapped(uniform(-1, 1), halved), "bias": from_function(nn.init.ones_)}
    plan = fanin.plan(nn.Linear(2, 2), recipe, seed=0)
    assert f"mapped(uniform(±1), {__name__}:halved)" in str(plan)
    with pytest.raises(ArgumentError, match="data holds no code"):
        Plan.from_json(plan.to_json())
    assert Plan.from_json(plan.to_json(), functions=[halved, nn.init.ones_]) == plan
    assert origin_of(halved).startswith(f"{__name__}:halved@")


def test_what_is_no_plan_is_refused() -> None:
    text = fanin.plan(nn.Linear(2, 2), "kaiming", seed=0).to_json()
    data = json.loads(text)
    with pytest.raises(PlanError, match="the text that to_json wrote"):
        Plan.from_json("[]")
    with pytest.raises(PlanError, match="the text that to_json wrote"):
        Plan.from_json(text[:50])
    with pytest.raises(PlanError, match=r"stream version 1\. Got version 2"):
        Plan.from_json(json.dumps({**data, "stream_version": 2}))
    data["steps"][0]["fill"]["std"] = 3.0
    with pytest.raises(PlanError, match="It was edited"):
        Plan.from_json(json.dumps(data))
    del data["steps"][0]["rule"]
    with pytest.raises(PlanError, match=r"KeyError.*'rule'"):
        Plan.from_json(json.dumps(data))


def test_a_diff_names_what_differs() -> None:
    ours = fanin.plan(nn.Sequential(nn.Linear(2, 3), nn.Linear(3, 3)), "kaiming", seed=0)
    other = nn.Sequential(nn.Linear(2, 3).bfloat16(), nn.Linear(3, 4, bias=False), nn.PReLU())
    diff = ours.diff(fanin.plan(other, "xavier", seed=0))
    assert [(line.name, line.what) for line in diff.lines] == [
        ("0.weight", "dtype"),
        ("0.weight", "distribution"),
        ("0.bias", "dtype"),
        ("1.weight", "shape"),
        ("1.weight", "distribution"),
        ("1.bias", "presence"),
        ("2.weight", "presence"),
    ]
    assert diff
    assert "float32" in str(diff)


def test_another_seed_differs_in_streams_where_anything_is_drawn() -> None:
    plans = [fanin.plan(nn.Linear(2, 3), "kaiming", seed=seed) for seed in (0, 1)]
    assert [(line.name, line.what) for line in plans[0].diff(plans[1]).lines] == [
        ("weight", "stream")
    ]
    same = plans[0].diff(plans[0])
    assert not same
    assert same.is_empty
    assert str(same) == "The plans write the same bits."


def test_an_explanation_says_all_of_one_parameter() -> None:
    text = fanin.plan(model(), RECIPE, seed=3).explain("head.weight")
    for piece in (
        "table.weight = head.weight",
        "7×4, float32",
        "1 in, 4 out",
        "normal(0, 1); row 2: 0",
        "'table.weight', seed 3",
        "embedding",
    ):
        assert piece in text
    with pytest.raises(UnknownNameError, match=r"'haed\.weight'.*head\.weight"):
        fanin.plan(model(), RECIPE, seed=3).explain("haed.weight")


def test_overridden_rules_are_part_of_the_reason() -> None:
    recipe = Recipe("r", 1, (rule("**", ones()), rule("weight", normal())))
    assert "over **" in fanin.plan(nn.Linear(2, 2), recipe, seed=0).explain("weight")
