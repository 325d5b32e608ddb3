"""`only=` and `skip=`: names, globs, and what a load left out."""

from __future__ import annotations

import pytest
import torch
from torch import nn

import fanin
from fanin.errors import ArgumentError, PlanError
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
    missing = {"missing_keys": ["module.bias"]}
    assert written(fanin.plan(model, {"**": ones()}, seed=0, only=missing)) == ["bias"]
    # Half of a weight is not a weight.
    missing["missing_keys"].append("module.parametrizations.weight.original0")
    assert written(fanin.plan(model, {"**": ones()}, seed=0, only=missing)) == ["weight", "bias"]


def test_names_of_the_state_dict_are_names_too() -> None:
    model = nn.DataParallel(nn.Linear(3, 2))
    assert written(fanin.plan(model, {"**": ones()}, seed=0, only="module.bias")) == ["bias"]


def test_what_fits_nothing_is_refused() -> None:
    with pytest.raises(PlanError, match=r"only= names parameters.*'bdoy\.bias'.*Near: body\.bias"):
        fanin.plan(Tied(), {"**": ones()}, seed=0, only="bdoy.bias")


def test_a_load_into_another_module_is_refused() -> None:
    model = Tied()
    result = model.body.load_state_dict({"weight": torch.zeros(3, 3)}, strict=False)
    with pytest.raises(PlanError, match=r"the missing key 'bias', which it does not have"):
        fanin.plan(model, {"**": ones()}, seed=0, only=result)


def test_buffers_may_be_missing() -> None:
    model = nn.Sequential(nn.Linear(3, 3), nn.BatchNorm1d(3))
    result = model.load_state_dict({"0.weight": torch.zeros(3, 3)}, strict=False)
    for only in (result, result.missing_keys):
        plan = fanin.plan(model, {"**": ones()}, seed=0, only=only)
        assert written(plan) == ["0.bias", "1.weight", "1.bias"]


@pytest.mark.parametrize("only", [3, [3], {"a": 1}])
def test_what_is_no_selection_is_refused(only: object) -> None:
    with pytest.raises((ArgumentError, PlanError), match="only="):
        fanin.plan(Tied(), {"**": ones()}, seed=0, only=only)
