"""Rules by what follows a parameter, and recipes that derive rules from a trace."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import fanin
from fanin.errors import ArgumentError, PlanError
from fanin.flow import Trace
from fanin.initializers import constant, normal, ones, zeros
from fanin.planning import Derivation, Recipe, Rule, rule
from fanin.recipes import from_toml, get_recipe, to_toml

X = torch.empty(2, 4)


class Net(nn.Module):
    """A residual, a ReLU, an output."""

    def __init__(self) -> None:
        super().__init__()
        self.up, self.down, self.head = nn.Linear(4, 8), nn.Linear(8, 4), nn.Linear(4, 2)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.down(torch.relu(self.up(x)))
        head: Tensor = self.head(x)
        return head


RESIDUAL = rule(nn.Linear, constant(3.0), parameter="weight", followed_by="add")


def contents(plan: fanin.Plan) -> dict[str, str]:
    return {step.name: step.rule for step in plan.steps}


def test_a_rule_selects_by_what_follows() -> None:
    recipe = Recipe("mine", 1, (rule("**", zeros()), RESIDUAL))
    made = fanin.plan(Net(), recipe, seed=0, example_inputs=X)
    assert contents(made)["down.weight"] == "Linear.weight before add"
    assert {name for name, text in contents(made).items() if "add" in text} == {"down.weight"}


def test_any_of_several_globs() -> None:
    recipe = {"**": zeros()}
    either = rule(None, ones(), parameter="weight", followed_by=("re*", "out*"))
    made = fanin.plan(Net(), Recipe("mine", 1, ()) + recipe + either, seed=0, example_inputs=X)
    assert [name for name, text in contents(made).items() if "before" in text] == [
        "up.weight",
        "head.weight",
    ]


def test_initialize_traces_too() -> None:
    model = Net()
    fanin.initialize(model, [rule("**", zeros()), RESIDUAL], seed=0, example_inputs=X)
    assert bool((model.down.weight == 3).all())
    assert bool((model.up.weight == 0).all())


def test_a_model_without_memory() -> None:
    with fanin.deferred():
        model = Net()
    fanin.initialize(model, [rule("**", zeros()), RESIDUAL], seed=0, device="cpu", example_inputs=X)
    assert bool((model.down.weight == 3).all())


def test_lazy_modules() -> None:
    model = nn.Sequential(nn.LazyLinear(4), nn.ReLU(), nn.LazyLinear(2))
    rules = [rule("**", zeros()), rule(None, ones(), parameter="weight", followed_by="relu")]
    made = fanin.plan(model, rules, seed=0, example_inputs=X)
    assert contents(made)["0.weight"] == "weight before relu"
    assert all(step.is_pending for step in made.steps)
    fanin.initialize(model, rules, seed=0, example_inputs=X)
    assert torch.equal(model.get_parameter("0.weight"), torch.ones(4, 4))
    assert torch.equal(model.get_parameter("2.weight"), torch.zeros(2, 4))


def test_the_name_of_a_part_of_a_model() -> None:
    recipe = Recipe("mine", 1, (rule("**", zeros()), RESIDUAL))
    made = fanin.plan(Net(), recipe, seed=0, prefix="blocks.3", example_inputs=X)
    assert contents(made)["blocks.3.down.weight"] == "Linear.weight before add"


def test_a_tie_whose_owner_the_recipe_states() -> None:
    model = nn.Sequential(nn.Linear(4, 4), nn.Tanh(), nn.Linear(4, 4))
    model[2].weight = model[0].weight
    follows = rule(None, ones(), parameter="weight", followed_by="output")
    recipe = Recipe("mine", 1, (rule("**", zeros()), follows), {"0.weight": "2.weight"})
    made = fanin.plan(model, recipe, seed=0, example_inputs=X)
    assert contents(made)["2.weight"] == "weight before output"


def test_without_inputs_nothing_is_planned() -> None:
    message = r"Got no example_inputs for 'Linear\.weight before add.*example_inputs=x"
    with pytest.raises(PlanError, match=message):
        fanin.plan(Net(), [rule("**", zeros()), RESIDUAL], seed=0)


def test_what_is_no_name() -> None:
    wrong: tuple[str, ...] = ("",)
    with pytest.raises(ArgumentError, match="followed_by= is the name of a function"):
        rule(None, zeros(), followed_by=wrong)


@pytest.mark.parametrize("wrong", [5, [], {"relu"}, [3], None])
def test_what_names_no_function(wrong: Any) -> None:
    with pytest.raises(ArgumentError, match=r"followed_by= is the name of a function.* Got "):
        rule(nn.Linear, zeros(), followed_by=wrong)


def test_a_list_of_functions_is_as_good_as_a_tuple() -> None:
    several: Any = ["relu", "add"]
    assert rule(None, zeros(), followed_by=several).match.followed_by == ("relu", "add")


@pytest.mark.parametrize("wrong", [None, 5, [5], [None], [rule("**", ones()), "relu"], "", ()])
def test_what_a_recipe_derives_is_rules(wrong: Any) -> None:
    def derived(model: nn.Module, trace: Trace) -> Any:
        return wrong

    recipe = Recipe("odd", 1, (rule("**", ones()),), derived=derived)
    if wrong in ("", ()):
        assert fanin.plan(Net(), recipe, seed=0, example_inputs=X).steps
        return
    with pytest.raises(PlanError, match=r"an iterable of rules. Got .* from 'odd@1'"):
        fanin.plan(Net(), recipe, seed=0, example_inputs=X)


def test_inputs_are_not_traced_where_nobody_asks() -> None:
    assert fanin.plan(nn.Linear(2, 2), "kaiming", seed=0, example_inputs="no inputs").steps


def branches(model: nn.Module, trace: Trace) -> Iterator[Rule]:
    """Small weights at the ends of residual branches."""
    yield rule("**", ones())
    for residual in trace.residuals():
        assert residual.last is not None
        yield rule(residual.last, normal(std=0.02 / residual.depth))


def test_a_recipe_derives_rules_from_a_trace() -> None:
    recipe = Recipe("branches", 1, (), derived=branches)
    made = fanin.plan(Net(), recipe, seed=0, example_inputs=X)
    assert contents(made)["down.weight"] == "down.weight"
    assert made.recipe == "branches@1"
    assert fanin.Plan.from_json(made.to_json()).fingerprint() == made.fingerprint()
    with pytest.raises(PlanError, match="Got no example_inputs for 'branches@1'"):
        fanin.plan(Net(), recipe, seed=0)


def test_a_recipe_tells_what_it_derived_its_rules_from() -> None:
    def derived(model: nn.Module, trace: Trace) -> Derivation:
        return Derivation(branches(model, trace), ("'down.weight' is small", "one branch"))

    made = fanin.plan(Net(), Recipe("told", 1, (), derived=derived), seed=0, example_inputs=X)
    assert contents(made)["down.weight"] == "down.weight"
    assert str(made).endswith("note: 'down.weight' is small\nnote: one branch")
    assert made.explain("down.weight").endswith("note       'down.weight' is small")


def test_appended_rules_win_over_derived_ones() -> None:
    recipe = Recipe("branches", 1, (), derived=branches) + {"down.weight": zeros(), "no.*": ones()}
    with pytest.raises(PlanError, match=r"Got none for 'no\.\*"):
        fanin.plan(Net(), recipe, seed=0, example_inputs=X)
    recipe = Recipe("branches", 1, (), derived=branches) + rule(nn.Conv2d, zeros())
    recipe = recipe + {"down.*": zeros()}
    made = fanin.plan(Net(), recipe, seed=0, example_inputs=X)
    assert contents(made)["down.weight"] == "down.*"
    assert made.unused == ("Conv2d -> zeros()",)
    assert made.recipe == "branches@1 + 2 rules"


def test_a_recipe_that_derives_rules_comes_first() -> None:
    derived = Recipe("branches", 1, (), derived=branches)
    assert (Recipe("empty", 1, ()) + derived).derived is branches
    with pytest.raises(ArgumentError, match="rules from a trace come before all others"):
        get_recipe("kaiming") + derived
    with pytest.raises(ArgumentError, match="what is written down holds no functions"):
        to_toml(derived)


def test_the_condition_is_written_down() -> None:
    recipe = get_recipe("kaiming") + RESIDUAL
    text = to_toml(recipe)
    assert 'followed_by = "add"' in text
    assert from_toml(text).rules[-1].match.followed_by == ("add",)


def test_the_table_shows_what_follows() -> None:
    model = Net()
    made = fanin.plan(model, "kaiming", seed=0)
    table = made.table(model, trace=fanin.trace(model, X))
    assert str(table).splitlines()[0].split()[-5:] == ["followed", "by", "output", "std", "rule"]
    assert [row[-3] for row in table.rows][::2] == ["relu", "add", "output"]
