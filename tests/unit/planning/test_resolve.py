from __future__ import annotations

import pytest
import torch
from torch import nn

import fanin
from fanin.errors import ArgumentError, LayoutError, PlanError
from fanin.fills import Constant, Normal, Packed
from fanin.initializers import kaiming_normal, normal, ones, orthogonal, zeros
from fanin.planning import Recipe, keep, rule

FLAT = Recipe("flat", 1, (rule("**", zeros()),))


def net() -> nn.Sequential:
    return nn.Sequential(nn.Linear(4, 3), nn.ReLU(), nn.Linear(3, 2))


def contents(plan: fanin.Plan) -> dict[str, object]:
    return {step.name: step.fill for step in plan.steps}


def test_later_rules_win() -> None:
    plan = fanin.plan(net(), FLAT + {"0.*": ones(), "0.bias": normal(mean=0.0, std=2.0)}, seed=0)
    assert contents(plan) == {
        "0.weight": Constant(1.0),
        "0.bias": Normal(0.0, 2.0),
        "2.weight": Constant(0.0),
        "2.bias": Constant(0.0),
    }
    bias = plan.steps[1]
    assert bias.rule == "0.bias"
    assert bias.reason == "the last rule that matches, over **, 0.*"


def test_a_type_rule_after_a_name_rule_wins() -> None:
    plan = fanin.plan(net(), FLAT + {"0.bias": ones()} + rule(nn.Linear, keep()), seed=0)
    assert set(contents(plan).values()) == {None}
    assert plan.overridden == ("**", "0.bias")
    assert "overridden everywhere: 0.bias" in str(plan)


def test_a_name_that_fits_nothing_is_refused_with_near_names() -> None:
    with pytest.raises(PlanError, match=r"'2\.wieght -> ones\(\)'.*Near: 2\.weight"):
        fanin.plan(net(), FLAT + {"2.wieght": ones()}, seed=0)


def test_an_optional_name_and_a_type_may_fit_nothing() -> None:
    recipe = FLAT + rule("head.*", ones(), optional=True) + rule(nn.Conv2d, ones())
    assert fanin.plan(net(), recipe, seed=0).overridden == ()


def test_every_uncovered_parameter_is_named() -> None:
    with pytest.raises(PlanError, match=r"(?s)0\.bias  \(3,\) of Linear.*2\.bias.*keep\(\)"):
        fanin.plan(net(), {"*.weight": zeros()}, seed=0)


def test_an_unknown_modules_parameter_is_uncovered() -> None:
    model = nn.Sequential(net(), nn.ParameterList([torch.zeros(3)]))
    with pytest.raises(PlanError, match=r"1\.0  \(3,\) of ParameterList"):
        fanin.plan(model, "kaiming", seed=0)


def test_a_raw_parameter_is_advised_by_its_name() -> None:
    model = net()
    model.scale = nn.Parameter(torch.ones(2))
    with pytest.raises(PlanError, match=r"as in recipe \+ \{'scale': \.\.\.\}, or leave it with"):
        fanin.plan(model, "kaiming", seed=0)
    model[0].scale = nn.Parameter(torch.ones(2))
    with pytest.raises(PlanError, match=r"as in recipe \+ \{'\*\*\.scale': \.\.\.\}"):
        fanin.plan(model, "kaiming", seed=0)
    fanin.plan(model, fanin.get_recipe("kaiming") + {"**.scale": keep()}, seed=0)


def test_keep_leaves_a_parameter_alone() -> None:
    model = net()
    before = model[0].bias.detach().clone()
    plan = fanin.initialize(model, FLAT + {"0.bias": keep()}, seed=0)
    assert torch.equal(model[0].bias, before)
    assert "kept" in str(plan)


def test_only_and_skip_leave_the_rest_alone() -> None:
    only = fanin.plan(net(), FLAT, seed=0, only="0.*", skip=["*.bias"])
    assert [step.name for step in only.steps if step.fill] == ["0.weight"]
    assert [step.reason for step in only.steps[1:]] == ["in skip=", "not in only=", "in skip="]
    assert len(only.steps) == 4


def test_a_skipped_parameter_needs_no_rule() -> None:
    plan = fanin.plan(net(), {"*.weight": zeros()}, seed=0, skip="*.bias")
    assert [bool(step.fill) for step in plan.steps] == [True, False, True, False]


def test_nothing_is_written_with_an_empty_only() -> None:
    assert not any(step.fill for step in fanin.plan(net(), FLAT, seed=0, only=[]).steps)


@pytest.mark.parametrize("option", ["only", "skip"])
def test_only_and_skip_name_something(option: str) -> None:
    with pytest.raises(PlanError, match=f"{option}= names parameters.*Near: 0.bias"):
        fanin.plan(net(), FLAT, seed=0, **{option: "0.bais"})
    with pytest.raises(ArgumentError, match=f"{option}= takes names"):
        fanin.plan(net(), FLAT, seed=0, **{option: [3]})


def test_a_tie_is_one_step_of_its_owner() -> None:
    model = nn.ModuleDict({"head": nn.Linear(3, 5, bias=False), "wte": nn.Embedding(5, 3)})
    model["head"].weight = model["wte"].weight
    tied = Recipe("tied", 1, FLAT.rules, ties={"head.weight": "wte.weight"})
    (step,) = fanin.plan(model, tied, seed=0).steps
    assert step.names == ("wte.weight", "head.weight")
    assert step.key is not None
    assert step.key.name == "wte.weight"


def test_a_stage_without_the_owner_draws_the_owners_stream() -> None:
    """A pipeline stage that holds only the head of a tied pair gets the embedding's numbers."""
    stage = nn.ModuleDict({"head": nn.Linear(3, 5, bias=False)})
    recipe = Recipe(
        "tied", 1, (rule("**", normal(mean=0.0, std=1.0)),), ties={"head.weight": "wte.weight"}
    )
    (step,) = fanin.plan(stage, recipe, seed=0).steps
    assert step.key is not None
    assert step.key.name == "wte.weight"


def test_a_rule_may_state_its_stream() -> None:
    recipe = FLAT + rule("0.weight", ones(), stream="old.name")
    key = fanin.plan(net(), recipe, seed=0).steps[0].key
    assert key is not None
    assert key.name == "old.name"
    with pytest.raises(PlanError, match=r"a stream feeds one parameter.*'0\.weight'.*'0\.bias'"):
        fanin.plan(net(), FLAT + rule("0.*", normal(), stream="one"), seed=0)


class Scale(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.zeros(4, 4))


def test_a_fan_of_an_unknown_module_is_refused_with_an_adapter_to_paste() -> None:
    with pytest.raises(LayoutError, match=r"(?s)for 'scale'.*register_adapter\(Scale"):
        fanin.plan(Scale(), {"scale": kaiming_normal()}, seed=0)
    assert fanin.plan(Scale(), {"scale": zeros()}, seed=0).steps[0].layout is None


def test_a_fan_of_a_bias_is_refused() -> None:
    with pytest.raises(LayoutError, match=r"for '0\.bias'"):
        fanin.plan(net(), FLAT + {"0.bias": kaiming_normal()}, seed=0)


def test_packed_parts_have_streams_and_counts_of_their_own() -> None:
    attention = nn.MultiheadAttention(4, 2)
    plan = fanin.initialize(attention, "xavier", seed=0)
    packed = plan.steps[0].fill
    assert isinstance(packed, Packed)
    assert [part.name for part in packed.parts] == ["q", "k", "v"]
    assert "in 3 parts" in str(plan)
    separate = nn.Module()
    separate.q = nn.Parameter(torch.empty(4, 4))
    stream = rule("q", normal(mean=0.0, std=1.0), stream="in_proj_weight\0k")
    fanin.initialize(separate, stream, seed=0)
    alone = fanin.initialize(attention, {"**": normal(mean=0.0, std=1.0)}, seed=0)
    assert torch.equal(attention.in_proj_weight[4:8], separate.q)
    assert alone.steps[0].moments == (0.0, 1.0)


def test_the_padding_row_stays_zero() -> None:
    table = nn.Embedding(50, 8, padding_idx=-1)
    plan = fanin.initialize(table, {"weight": normal(mean=1.0, std=1.0)}, seed=0)
    assert not table.weight[49].any()
    assert (table.weight[:49] != 0).any(dim=1).all()
    moments = plan.steps[0].moments
    assert moments is not None
    assert moments[0] == pytest.approx(0.98)
    assert "normal(1, 1); row 49: 0" in str(plan)
    assert fanin.plan(table, {"weight": zeros()}, seed=0).steps[0].padding_row is None


@pytest.mark.parametrize(
    ("module", "name"),
    [
        (nn.Linear(6, 4), "weight"),
        (nn.Conv2d(6, 4, 3, groups=2), "weight"),
        (nn.ConvTranspose2d(4, 6, 3), "weight"),
        (nn.ConvTranspose2d(4, 6, 3, groups=2), "weight"),
        (nn.MultiheadAttention(4, 2), "in_proj_weight"),
    ],
    ids=["linear", "grouped conv", "transposed conv", "grouped transposed conv", "packed"],
)
def test_an_orthogonal_weight_is_one_as_the_module_uses_it(module: nn.Module, name: str) -> None:
    """Each group, and each packed part, is a matrix (out, in · kernel) with orthonormal rows."""
    plan = fanin.initialize(module, {"**": zeros(), name: orthogonal()}, seed=0)
    weight = module.get_parameter(name).detach()
    layout = plan.steps[0].layout
    assert layout is not None
    for matrix in weight.split(4) if layout.parts else [weight]:
        for block in matrix.chunk(layout.groups):
            rows = block.transpose(0, 1) if layout.in_axes == (0,) else block
            q = rows.flatten(1) if rows.shape[0] <= rows[0].numel() else rows.flatten(1).T
            assert torch.allclose(q @ q.T, torch.eye(len(q)), atol=1e-5)


def test_a_layout_has_the_shape_of_its_parameter() -> None:
    class Odd(nn.Linear):
        pass

    fanin.register_adapter(Odd, lambda module, name: fanin.Layout.vector(7))
    with pytest.raises(LayoutError, match="Correct the adapter of Odd"):
        fanin.plan(Odd(2, 2), "kaiming", seed=0)


def test_one_stream_for_two_parameters_is_refused() -> None:
    borrowed = rule("2.weight", normal(), stream="0.weight")
    recipe = Recipe("r", 1, (rule("**", normal()),)) + borrowed
    with pytest.raises(PlanError, match=r"'0\.weight' for '0\.weight' and '2\.weight'"):
        fanin.plan(net(), recipe, seed=0)
    fanin.plan(net(), FLAT + borrowed, seed=0)  # a constant has no stream to share


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (nn.init.xavier_normal_, r"AttributeError.*rule '\*\* -> xavier_normal_'.*from_function"),
        (lambda site: 0.02, r"Got 0\.02 for '0\.weight'"),
        (lambda site: normal(std="x"), r"std is a finite number"),
    ],
)
def test_a_function_in_a_rule_chooses_an_initializer(content: object, message: str) -> None:
    with pytest.raises((PlanError, ArgumentError), match=message):
        fanin.plan(net(), {"**": content}, seed=0)


def test_a_function_may_choose_to_keep() -> None:
    plan = fanin.plan(net(), {"**": lambda site: keep() if site.attribute == "bias" else zeros()})
    assert [step.fill for step in plan.steps] == [Constant(0.0), None, Constant(0.0), None]


def test_a_builder_is_called() -> None:
    with pytest.raises(ArgumentError, match=r"Call it: zeros\(\)"):
        fanin.plan(net(), {"**": zeros}, seed=0)


@pytest.mark.parametrize("recipe", [zeros(), 3, None])
def test_what_is_no_recipe_is_refused(recipe: object) -> None:
    with pytest.raises(ArgumentError, match="a recipe is a name, a Recipe"):
        fanin.plan(net(), recipe, seed=0)


def test_what_is_no_model_is_refused() -> None:
    with pytest.raises(ArgumentError, match=r"a model is an nn\.Module. Got str"):
        fanin.plan("kaiming", FLAT, seed=0)


def test_a_module_in_only_is_told_how_to_be_written() -> None:
    with pytest.raises(PlanError, match=r"write '0\.\*\*'"):
        fanin.plan(net(), FLAT, seed=0, only="0")
