"""Parameters that are not written as they are: parametrized, lazy, meta, integer, empty."""

from __future__ import annotations

import copy
import pickle

import pytest
import torch
from torch import nn

import fanin
from fanin.errors import ArgumentError, DtypeError, PlanError
from fanin.initializers import normal, ones, orthogonal, zeros
from fanin.planning import Recipe, Rule, keep, rule

FLAT = Recipe("flat", 1, (rule("**", zeros()),))
NORMAL = Recipe("normal", 1, (rule("**", normal(std=0.5)),))


def test_a_parametrized_weight_is_one_parameter_of_its_own_name() -> None:
    """Pain 10: `torch.nn.init` on it silently does nothing."""
    plain, normed = nn.Linear(30, 40), nn.utils.parametrizations.weight_norm(nn.Linear(30, 40))
    for layer in (plain, normed):
        plan = fanin.initialize(layer, "kaiming", seed=0)
        assert [step.name for step in plan.steps] == ["weight", "bias"] or layer is normed
    assert {step.name for step in plan.steps} == {"weight", "bias"}
    torch.testing.assert_close(normed.weight, plain.weight)


def test_what_a_parametrization_cannot_hold_is_refused_before_a_write() -> None:
    layer = nn.utils.parametrizations.orthogonal(nn.Linear(4, 4))
    before = copy.deepcopy(layer.state_dict())
    with pytest.raises(PlanError, match=r"(?s)orthogonal\(\).*for 'weight' by rule '\*\*'"):
        fanin.initialize(layer, NORMAL, seed=0)
    assert all(torch.equal(value, before[name]) for name, value in layer.state_dict().items())
    fanin.initialize(layer, FLAT + {"weight": orthogonal()}, seed=0)
    torch.testing.assert_close(layer.weight @ layer.weight.T, torch.eye(4), atol=1e-5, rtol=0)


def test_a_rescaling_is_stated() -> None:
    layer = nn.utils.parametrizations.spectral_norm(nn.Linear(4, 4))
    plan = fanin.initialize(layer, NORMAL, seed=0)
    assert "weight: " in str(plan).rpartition("\n\n")[2]
    assert plan.steps[0].note


def lazy() -> nn.Sequential:
    return nn.Sequential(nn.LazyConv2d(4, 3), nn.Flatten(), nn.LazyLinear(2))


def ordinary() -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(1, 4, 3), nn.Flatten(), nn.Linear(144, 2))


class Scaling(nn.Module):
    """A parametrization with a parameter of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.factor = nn.Parameter(torch.tensor(2.0))

    def forward(self, weight: torch.Tensor) -> torch.Tensor:
        return weight * self.factor

    def right_inverse(self, weight: torch.Tensor) -> torch.Tensor:
        return weight / self.factor


def test_a_weight_is_as_planned_when_its_parametrization_is_written_too() -> None:
    layer = nn.Linear(4, 4)
    nn.utils.parametrize.register_parametrization(layer, "weight", Scaling())
    recipe = fanin.get_recipe("kaiming") + {"**.factor": fanin.initializers.constant(5.0)}
    fanin.initialize(layer, recipe, seed=0)
    plain = nn.Linear(4, 4)
    fanin.initialize(plain, "kaiming", seed=0)
    assert layer.parametrizations.weight[0].factor == 5
    assert torch.allclose(layer.weight, plain.weight)


def test_lazy_parameters_are_written_when_they_get_their_shapes() -> None:
    """Pain 36."""
    model, same = lazy(), ordinary()
    plan = fanin.initialize(model, "kaiming", seed=0)
    assert "kaiming_normal(), once its shape is known" in str(plan)
    assert "waits" not in plan.explain("0.weight")
    fanin.initialize(same, "kaiming", seed=0)
    copied = pickle.loads(pickle.dumps(model))
    for each in (model, copied):
        each(torch.randn(2, 1, 8, 8))
        for name, value in same.state_dict().items():
            assert torch.equal(each.state_dict()[name], value), name
    assert not model[0]._forward_pre_hooks


def test_example_inputs_give_lazy_parameters_their_shapes() -> None:
    model, same = lazy(), ordinary()
    plan = fanin.initialize(model, "kaiming", seed=0, example_inputs=torch.empty(1, 1, 8, 8))
    assert plan == fanin.initialize(same, "kaiming", seed=0)
    for name, value in same.state_dict().items():
        assert torch.equal(model.state_dict()[name], value), name


def test_a_plan_with_unknown_shapes_has_no_json() -> None:
    with pytest.raises(PlanError, match=r"'0\.weight' of a lazy module"):
        fanin.plan(lazy(), "kaiming", seed=0).to_json()


def test_integers_hold_whole_constants_and_nothing_random() -> None:
    """Pain 35."""
    model = nn.Module()
    model.steps = nn.Parameter(torch.full((2,), 7), requires_grad=False)
    with pytest.raises(DtypeError, match=r"Got normal and torch\.int64 for 'steps'"):
        fanin.initialize(model, NORMAL, seed=0)
    assert fanin.initialize(model, {"steps": keep()}, seed=0).steps[0].fill is None
    assert (model.steps == 7).all()
    fanin.initialize(model, {"steps": ones()}, seed=0)
    assert (model.steps == 1).all()


def test_an_empty_parameter_is_written_without_a_word() -> None:
    model = nn.Linear(1, 3)
    model.weight = nn.Parameter(torch.empty(3, 0))
    assert [step.numel for step in fanin.initialize(model, "kaiming", seed=0).steps] == [0, 3]


def test_a_model_on_meta_gets_its_memory_and_its_buffers() -> None:
    """Pain 2."""
    with torch.device("meta"):
        model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4))
    plan = fanin.initialize(model, "kaiming", seed=0, device="cpu")
    same = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4))
    fanin.initialize(same, "kaiming", seed=0)
    for name, value in same.state_dict().items():
        assert torch.equal(model.state_dict()[name], value), name
    assert "1.running_var" in str(plan.table(model))


class Rotary(nn.Linear):
    def __init__(self) -> None:
        super().__init__(3, 3)
        self.register_buffer("frequency", torch.ones(3), persistent=False)


def test_a_buffer_on_meta_without_a_rule_is_refused() -> None:
    with torch.device("meta"):
        model = Rotary()
    with pytest.raises(PlanError, match=r"frequency  \(3,\) of Rotary"):
        fanin.initialize(model, "kaiming", seed=0, device="cpu")
    assert model.weight.is_meta


def test_what_is_kept_has_a_value_to_keep() -> None:
    with torch.device("meta"):
        model = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2))
    with pytest.raises(PlanError, match=r"(?s)without memory:\n  1\.weight\n  1\.bias"):
        fanin.initialize(model, "kaiming", seed=0, skip="1.*")
    assert model[0].weight.is_meta


def test_a_cast_is_part_of_the_plan() -> None:
    model = nn.Linear(4, 3)
    plan = fanin.initialize(model, "kaiming", seed=0, dtype=torch.bfloat16)
    same = nn.Linear(4, 3).bfloat16()
    assert plan == fanin.initialize(same, "kaiming", seed=0)
    assert torch.equal(model.weight, same.weight)


class Turned(nn.Module):
    """Complex numbers next to real ones, as models with rotary embeddings hold them."""

    def __init__(self) -> None:
        super().__init__()
        self.mix = nn.Linear(4, 4)
        self.turns = nn.Parameter(torch.empty(4, 4, dtype=torch.complex64))
        angles = torch.arange(4.0)
        self.register_buffer("frequencies", torch.polar(torch.ones(4), angles), persistent=False)


@pytest.mark.parametrize("is_deferred", [True, False])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float64, torch.complex128])
def test_a_cast_to_real_numbers_leaves_complex_ones(is_deferred: bool, dtype: torch.dtype) -> None:
    """`Module.to` drops their imaginary part."""
    if is_deferred:
        with fanin.deferred():
            model = Turned()
    else:
        model = Turned()
    before = model.frequencies.clone()
    plan = fanin.initialize(model, {"**": normal(std=0.02)}, seed=0, dtype=dtype)
    wide = dtype if dtype.is_complex else torch.complex64
    assert [step.dtype for step in plan.steps] == [wide, dtype, dtype]
    assert (model.mix.weight.dtype, model.turns.dtype) == (dtype, wide)
    assert torch.equal(model.frequencies, before.to(wide))


class Scales(nn.Module):
    """Computes its parameters, as state-space models and many norms do."""

    def __init__(self) -> None:
        super().__init__()
        self.log_steps = nn.Parameter(torch.log(torch.arange(1.0, 5.0)))


def test_a_value_that_a_constructor_computed_stays_where_no_rule_covers_it() -> None:
    with fanin.deferred():
        model = nn.Sequential(nn.Linear(3, 3), Scales())
    plan = fanin.initialize(model, "kaiming", seed=0)
    assert plan.steps[2].reason == "from the constructor"
    assert torch.equal(model[1].log_steps, torch.arange(1.0, 5.0).log())
    fanin.initialize(model, FLAT, seed=0)
    assert not model[1].log_steps.any()


def test_a_table_that_was_handed_over_stays_unless_a_rule_says_its_name() -> None:
    table = torch.arange(6.0).reshape(3, 2)
    with fanin.deferred():
        model = nn.Sequential(nn.Embedding.from_pretrained(table), nn.Embedding(3, 2))
    fanin.initialize(model, "kaiming", seed=0)
    assert torch.equal(model[0].weight, table)
    assert model[1].weight.all()
    fanin.initialize(model, {"*.weight": ones()}, seed=0)
    assert (model[0].weight == 1).all()


class Sines(nn.Embedding):
    """Computes its table, as the positions of Marian and Pegasus are."""

    def __init__(self) -> None:
        super().__init__(6, 4)
        self.weight = nn.Parameter(torch.arange(24.0).reshape(6, 4).sin(), requires_grad=False)


@pytest.mark.parametrize(
    ("own", "is_kept"),
    [
        (rule(nn.Embedding, zeros()), True),
        (rule(None, zeros(), type_name="*Embedding"), True),
        (rule(Sines, zeros()), False),
        (rule(None, zeros(), type_name="Sines"), False),
        (rule("0.weight", zeros()), False),
    ],
)
def test_a_table_that_a_class_computes_stays_unless_a_rule_is_for_it(
    own: Rule, is_kept: bool
) -> None:
    with fanin.deferred():
        model = nn.Sequential(Sines(), nn.Linear(4, 4))
    fanin.initialize(model, fanin.get_recipe("kaiming") + own, seed=0)
    assert bool(model[0].weight.any()) == is_kept


def test_a_part_that_is_kept_has_a_value_to_keep() -> None:
    with fanin.deferred():
        model = nn.MultiheadAttention(4, 2)
    keeps_v = fanin.get_recipe("kaiming") + rule("in_proj_weight", keep(), part="v")
    with pytest.raises(PlanError, match=r"without memory:\n  in_proj_weight"):
        fanin.initialize(model, keeps_v, seed=0)


def test_the_padding_row_of_a_tied_table_stays_zero() -> None:
    model = nn.ModuleDict({"head": nn.Linear(4, 6, bias=False), "table": nn.Embedding(6, 4, 2)})
    model["table"].weight = model["head"].weight
    fanin.initialize(model, "kaiming", seed=0)
    assert not model["head"].weight[2].any()
    assert model["head"].weight[[0, 1, 3, 4, 5]].all()


@pytest.mark.parametrize("options", [{"skip": "0.*"}, {"only": "2.*"}])
def test_lazy_parameters_can_be_left_alone(options: dict[str, str]) -> None:
    model = lazy()
    plan = fanin.initialize(model, "kaiming", seed=0, **options)
    assert plan.steps[0].fill is None
    assert not plan.steps[0].is_pending
    model(torch.randn(2, 1, 8, 8))


def test_a_lazy_parameter_without_a_rule_is_named() -> None:
    with pytest.raises(PlanError, match=r"2\.bias  of no shape yet of Linear"):
        fanin.plan(lazy(), {"0.*": zeros(), "2.weight": zeros()}, seed=0)


def test_rules_that_match_nothing_are_shown() -> None:
    """Pain 7."""
    rules = rule(None, ones(), type_name="Linaer"), rule(nn.Linear, ones(), parameter="weights")
    plan = fanin.plan(nn.Linear(2, 2), fanin.get_recipe("kaiming") + rules, seed=0)
    assert plan.unused == ("Linaer -> ones()", "Linear.weights -> ones()")
    assert "matches nothing: Linaer -> ones()" in str(plan)
    assert fanin.Plan.from_json(plan.to_json()) == plan


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"device": "meta"}, "a device with memory"),
        ({"device": "gpu"}, "a device of torch"),
        ({"dtype": "float16"}, "a dtype of torch"),
        ({"seed": True}, r"seed: an integer in"),
        ({"seed": 0.5}, r"seed: an integer in"),
        ({"seed": -1}, r"seed: an integer in"),
    ],
)
def test_what_cannot_be_is_refused_before_anything_changes(
    options: dict[str, object], message: str
) -> None:
    model = lazy()
    with pytest.raises(ArgumentError, match=message):
        fanin.initialize(model, "kaiming", example_inputs=torch.empty(1, 1, 8, 8), **options)
    assert nn.parameter.is_lazy(model[0].weight)


def test_a_seed_of_any_integer_type_is_kept_as_an_int() -> None:
    plan = fanin.plan(nn.Linear(2, 2), "kaiming", seed=torch.tensor(3))
    assert fanin.Plan.from_json(plan.to_json()) == plan
    assert type(plan.seed) is int


def test_a_model_without_parameters_says_so() -> None:
    assert "The model has no parameters." in str(fanin.plan(nn.ReLU(), "kaiming", seed=0))
