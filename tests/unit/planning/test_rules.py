from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from fanin.errors import ArgumentError
from fanin.initializers import ones, zeros
from fanin.model import Entry, Site, entries
from fanin.planning import Recipe, Rule, keep, rule


class Special(nn.Linear):
    pass


def model() -> nn.ModuleDict:
    return nn.ModuleDict(
        {"a": nn.Linear(2, 2), "b": Special(2, 2, bias=False), "blocks": nn.Sequential(nn.ReLU())}
    )


def selected(chosen: Rule) -> list[str]:
    return [entry.name for entry in entries(model()) if chosen.match(entry)]


def is_bias(site: Site) -> bool:
    return site.attribute == "bias"


@pytest.mark.parametrize(
    ("chosen", "names"),
    [
        (rule(nn.Linear, zeros()), ["a.weight", "a.bias", "b.weight"]),
        (rule(nn.Linear, zeros(), exact=True), ["a.weight", "a.bias"]),
        (rule((Special, nn.Conv1d), zeros()), ["b.weight"]),
        (rule(nn.Linear, zeros(), parameter="bias"), ["a.bias"]),
        (rule(None, zeros(), parameter="w*"), ["a.weight", "b.weight"]),
        (rule("a.*", zeros()), ["a.weight", "a.bias"]),
        (rule("re:.*t", zeros()), ["a.weight", "b.weight"]),
        (rule(is_bias, zeros()), ["a.bias"]),
        (rule(None, zeros(), within=Special), ["b.weight"]),
        (rule(is_bias, zeros(), within=nn.Sequential), []),
        (rule(None, zeros(), type_name="Spec*"), ["b.weight"]),
        (rule(None, zeros(), type_name="Linear"), ["a.weight", "a.bias", "b.weight"]),
        (rule(None, zeros(), type_name="Linear", exact=True), ["a.weight", "a.bias"]),
        (rule(None, zeros(), type_name=("Conv2d", "Special")), ["b.weight"]),
        (rule("**.weight", zeros(), within="Special"), ["b.weight"]),
    ],
)
def test_a_rule_selects_by_every_condition(chosen: Rule, names: list[str]) -> None:
    assert selected(chosen) == names


def test_a_name_may_be_an_alias_and_a_type_is_the_owners() -> None:
    tied = nn.ModuleDict({"wte": nn.Embedding(5, 3), "head": nn.Linear(3, 5, bias=False)})
    tied["head"].weight = tied["wte"].weight
    (entry,) = entries(tied)
    assert rule("head.weight", zeros()).match(entry)
    assert rule(nn.Embedding, zeros()).match(entry)
    assert not rule(nn.Linear, zeros()).match(entry)


def test_a_parameter_of_the_root_has_no_prefix() -> None:
    (entry,) = entries(nn.Linear(2, 2, bias=False))
    assert isinstance(entry, Entry)
    assert rule("weight", zeros()).match(entry)


@pytest.mark.parametrize("match", [3, "", (int,), torch.Tensor, (), (3,), ("",)])
def test_what_cannot_be_matched_on_is_refused(match: Any) -> None:
    with pytest.raises(ArgumentError, match=r"rule:|name pattern:"):
        rule(match, zeros())


def test_a_rule_without_conditions_is_refused() -> None:
    with pytest.raises(ArgumentError, match="states what it matches"):
        rule(None, zeros())


def test_what_is_no_initializer_is_refused() -> None:
    with pytest.raises(ArgumentError, match="an initializer is a description"):
        rule("weight", 0.02)


def test_recipes_grow_by_appending() -> None:
    base = Recipe("base", 2, (rule("**", zeros()),), ties={"a": "b"})
    grown = base + rule("a", ones()) + {"b": keep(), "c": zeros()}
    assert [str(r) for r in grown.rules[1:]] == ["a -> ones()", "b -> keep()", "c -> zeros()"]
    assert (str(base), str(base + base), str(grown)) == (
        "base@2",
        "base@2 + 1 rule",
        "base@2 + 3 rules",
    )
    assert len(base.rules) == 1
    assert grown.ties == {"a": "b"}


def test_a_recipe_takes_rules_only() -> None:
    with pytest.raises(TypeError, match="unsupported operand"):
        Recipe("base", 1, ()) + 3
