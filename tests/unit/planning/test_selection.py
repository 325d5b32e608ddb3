"""`only=` and `skip=`: names, globs, and what a load left out."""

from __future__ import annotations

import pytest
import torch
from torch import nn

import fanin
from fanin.errors import PlanError
from fanin.initializers import ones


class Tied(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.wte = nn.Embedding(5, 3)
        self.body = nn.Linear(3, 3)
        self.head = nn.Linear(3, 5, bias=False)
        self.head.weight = self.wte.weight


def written(plan: fanin.Plan) -> list[str]:
    return [step.name for step in plan.steps if step.fill is not None]


def test_only_what_a_load_left_out_is_written() -> None:
    """Pain 6: nothing that was loaded is overwritten."""
    model, source = Tied(), Tied()
    stored = {key: value for key, value in source.state_dict().items() if key != "body.bias"}
    result = model.load_state_dict(stored, strict=False)
    assert written(fanin.initialize(model, {"**": ones()}, seed=0, only=result)) == ["body.bias"]
    assert torch.equal(model.body.weight, source.body.weight)
    assert (model.body.bias == 1).all()


def test_a_tied_parameter_is_loaded_when_any_of_its_names_is() -> None:
    model, source = Tied(), Tied()
    stored = {key: value for key, value in source.state_dict().items() if key != "head.weight"}
    result = model.load_state_dict(stored, strict=False)
    assert result.missing_keys == ["head.weight"]
    plan = fanin.plan(model, {"**": ones()}, seed=0, only=result)
    assert written(plan) == []
    assert plan.steps[0].reason == "loaded, not in missing_keys"


def test_the_names_of_the_state_dict_are_those_of_wrappers_and_parametrizations() -> None:
    model = nn.DataParallel(nn.utils.parametrizations.weight_norm(nn.Linear(3, 2)))
    missing = {"missing_keys": ["module.parametrizations.weight.original0", "module.bias"]}
    # One of the two originals was loaded: the weight stays.
    assert written(fanin.plan(model, {"**": ones()}, seed=0, only=missing)) == ["bias"]
    missing["missing_keys"].append("module.parametrizations.weight.original1")
    assert set(written(fanin.plan(model, {"**": ones()}, seed=0, only=missing))) == {
        "bias",
        "weight",
    }


def test_names_of_the_state_dict_are_names_too() -> None:
    model = nn.DataParallel(nn.Linear(3, 2))
    assert written(fanin.plan(model, {"**": ones()}, seed=0, only="module.bias")) == ["bias"]


def test_what_fits_nothing_is_refused() -> None:
    with pytest.raises(PlanError, match=r"only= names parameters.*'bdoy\.bias'.*Near: body\.bias"):
        fanin.plan(Tied(), {"**": ones()}, seed=0, only="bdoy.bias")
