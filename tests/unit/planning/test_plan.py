from __future__ import annotations

import json

import pytest
import torch
from torch import nn

import fanin
from fanin.errors import PlanError
from fanin.initializers import normal, zeros
from fanin.planning.describe import observed_std


def net(width: int = 3) -> nn.Sequential:
    return nn.Sequential(nn.Linear(4, width), nn.ReLU(), nn.Linear(width, 2))


def state(model: nn.Module) -> dict[str, torch.Tensor]:
    return {name: p.detach().clone() for name, p in model.named_parameters()}


def equal(a: nn.Module, b: nn.Module) -> bool:
    return all(torch.equal(p, q) for p, q in zip(a.parameters(), b.parameters(), strict=True))


def test_a_plan_writes_nothing_until_it_is_applied() -> None:
    model = net()
    before = state(model)
    plan = fanin.plan(model, "kaiming", seed=0)
    assert all(torch.equal(p, before[n]) for n, p in model.named_parameters())
    plan.apply(model)
    assert not torch.equal(model[0].weight, before["0.weight"])


def test_a_plan_is_for_any_model_of_the_same_parameters() -> None:
    a, b = net(), net()
    plan = fanin.plan(a, "kaiming", seed=0)
    plan.apply(a)
    plan.apply(torch.compile(nn.DataParallel(b), backend="eager"))
    assert equal(a, b)


def test_a_plan_that_nobody_prints_is_a_line() -> None:
    plan = fanin.plan(net(), "lecun(distribution='uniform')", seed=7)
    assert repr(plan) == "Plan(lecun@1(distribution=uniform), seed 7, 4 parameters)"
    assert repr(fanin.get_recipe("kaiming") + {"**.bias": zeros()}) == "Recipe(kaiming@1 + 1 rule)"
    assert repr(plan.diff(plan)) == str(plan.diff(plan))


def test_steps_are_reported_in_order() -> None:
    model, seen = net(), []
    fanin.initialize(model, "kaiming", seed=0, on_step=lambda step: seen.append(step.name))
    assert seen == ["0.weight", "0.bias", "2.weight", "2.bias"]


def grown() -> nn.Module:
    return nn.Sequential(*net(), nn.Linear(2, 2))


def tied() -> nn.Module:
    model = nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 3))
    model[1].weight = model[0].weight
    return model


@pytest.mark.parametrize(
    ("planned", "given", "message"),
    [
        (net(), grown(), r"also holds '3\.bias', '3\.weight'"),
        (grown(), net(), r"lacks '3\.bias', '3\.weight'"),
        (net(), net(width=5), r"\(5, 4\) torch.float32 for '0\.weight', planned as \(3, 4\)"),
        (net(), net().half(), r"torch.float16 for '0\.weight'"),
        (net(), net().to("meta"), r"'0\.weight' on the meta device.*device=.cpu"),
        (tied(), nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 3)), "planned as tied"),
    ],
)
def test_another_model_is_refused_untouched(
    planned: nn.Module, given: nn.Module, message: str
) -> None:
    plan = fanin.plan(planned, {"**": zeros()}, seed=0)
    before = state(given)
    with pytest.raises(PlanError, match=message):
        plan.apply(given)
    for name, p in given.named_parameters():
        assert p.is_meta or torch.equal(p, before[name])


def test_an_expanded_parameter_is_refused_before_the_first_write() -> None:
    model = net()
    before = state(model)
    model.register_parameter("last", nn.Parameter(torch.zeros(1).expand(3)))
    with pytest.raises(PlanError, match=r"'last': each element .* Got an expanded tensor"):
        fanin.initialize(model, {"**": normal(mean=0.0, std=1.0)}, seed=0)
    assert all(torch.equal(model.get_parameter(name), before[name]) for name in before)


def test_an_inference_tensor_is_refused() -> None:
    with torch.inference_mode():
        model = net()
    with pytest.raises(PlanError, match="an inference tensor"):
        fanin.initialize(model, "kaiming", seed=0)


def test_a_failed_draw_names_parameter_and_rule() -> None:
    # No float8 number lies in this interval.
    model = nn.Module()
    model.w = nn.Parameter(torch.zeros(3).to(torch.float8_e4m3fn), requires_grad=False)
    with pytest.raises(PlanError, match="apply: 'w' by rule 'w'"):
        fanin.initialize(model, {"w": fanin.initializers.uniform(1.01, 1.02)}, seed=0)


def test_parameters_stay_leaves_that_require_grad() -> None:
    model = net()
    version = model[0].weight._version
    fanin.initialize(model, "kaiming", seed=0)
    assert all(p.is_leaf and p.requires_grad for p in model.parameters())
    assert model[0].weight._version > version
    model(torch.ones(1, 4)).sum().backward()


def test_memory_layout_does_not_matter() -> None:
    conv, last = nn.Conv2d(3, 4, 3), nn.Conv2d(3, 4, 3).to(memory_format=torch.channels_last)
    fanin.initialize(conv, "kaiming", seed=0)
    fanin.initialize(last, "kaiming", seed=0)
    assert equal(conv, last)


def test_equal_plans_have_equal_fingerprints() -> None:
    plan = fanin.plan(net(), "kaiming", seed=0)
    assert plan == fanin.plan(net(), "kaiming", seed=0)
    others = [
        fanin.plan(net(), "kaiming", seed=1),
        fanin.plan(net(), "xavier", seed=0),
        fanin.plan(net(width=5), "kaiming", seed=0),
        fanin.plan(net().bfloat16(), "kaiming", seed=0),
        fanin.plan(nn.Sequential(net()), "kaiming", seed=0),
    ]
    fingerprints = {p.fingerprint() for p in [plan, *others]}
    assert len(fingerprints) == 6
    assert all(len(fingerprint) == 16 for fingerprint in fingerprints)


def test_json_holds_all_that_decides_a_bit() -> None:
    plan = fanin.plan(net(), "kaiming", seed=7)
    content = json.loads(plan.to_json())
    assert content["seed"] == 7
    assert content["recipe"] == "kaiming@1"
    assert content["fingerprint"] == plan.fingerprint()
    step = content["steps"][0]
    assert step["shape"] == [3, 4]
    assert (step["fan_in"], step["fan_out"]) == (4, 3)
    assert step["fill"] == {
        "name": "normal",
        "mean": 0.0,
        "std": plan.steps[0].fill.std,
    }
    assert step["key"] == f"{plan.steps[0].key.value:016x}"


def test_the_table_shows_what_is_and_what_should_be() -> None:
    model = nn.Linear(400, 300)
    plan = fanin.initialize(model, "kaiming", seed=0)
    row = plan.table(model).rows[0]
    assert row[:4] == ("weight", "300×400", "400 → 300", "normal(0, 0.0707)")
    # 120,000 normal values: the std is within 1 % but for 1 in 1e6 (5 standard errors of 0.2 %).
    assert float(row[5]) == pytest.approx(float(row[4]), rel=0.01)
    assert str(plan).splitlines()[0].split() == [
        *["parameter", "shape", "fan", "in", "→", "out", "distribution", "std", "rule"]
    ]


@pytest.mark.parametrize(
    ("tensor", "expected"),
    [
        (torch.full((3, 5), 0.1), 0.0),
        (torch.tensor([1.0, 3.0]), 1.0),
        (torch.tensor([1.0, 3.0], dtype=torch.bfloat16), 1.0),
        (torch.tensor([1 + 1j, -1 - 1j]), 2**0.5),
        (torch.arange(200_000) % 2, 0.5),
        (torch.tensor([1e8, 1e8 + 2], dtype=torch.float64), 1.0),
    ],
)
def test_observed_std(tensor: torch.Tensor, expected: float) -> None:
    assert observed_std(tensor) == pytest.approx(expected, abs=1e-12)


def test_an_empty_parameter_has_no_std() -> None:
    model = nn.Module()
    model.w = nn.Parameter(torch.empty(0))
    plan = fanin.initialize(model, {"w": zeros()}, seed=0)
    assert plan.table(model).rows[0][5] == "-"
