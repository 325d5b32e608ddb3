"""`from_init_cfg` against what MMEngine's initialisers do, with torch.nn.init where they use it."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import nn

import fanin
from fanin.errors import ArgumentError, PlanError, UnknownNameError
from fanin.fills import Constant, Fill, Normal, TruncNormal, Uniform
from fanin.initializers import ones
from fanin.recipes import from_init_cfg, get_recipe


class Detector(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.feat = nn.Conv2d(3, 16, 3, bias=False)
        self.norm = nn.BatchNorm2d(16)
        self.reg = nn.Sequential(nn.Conv2d(16, 10, 3), nn.BatchNorm2d(10))
        self.cls = nn.Conv2d(16, 5, 3)
        self.scale = nn.Parameter(torch.full((1,), 3.0))


def fills(init_cfg: Any, **options: Any) -> dict[str, Fill | None]:
    plan = fanin.plan(Detector(), from_init_cfg(init_cfg, **options), seed=0)
    return {step.name: step.fill for step in plan.steps}


@pytest.mark.parametrize(
    ("cfg", "fill"),
    [
        ({"type": "Constant", "val": 2}, Constant(2)),
        ({"type": "Normal"}, Normal(0, 1)),
        ({"type": "Normal", "mean": 1, "std": 0.5}, Normal(1, 0.5)),
        ({"type": "Uniform"}, Uniform(0, 1)),
        ({"type": "Uniform", "a": -2, "b": 3}, Uniform(-2, 3)),
    ],
)
def test_numbers_are_taken_as_they_are(cfg: dict[str, Any], fill: Fill) -> None:
    assert fills({**cfg, "layer": "Conv2d"})["cls.weight"] == fill


@pytest.mark.parametrize(
    "arguments",
    [
        {"std": 1.0},
        {"std": 0.02},
        {"mean": 0.5, "std": 0.7, "a": -1.0, "b": 1.5},
        {"std": 2.0, "a": 0.0, "b": 9.0},
    ],
)
def test_a_cut_is_absolute_and_std_is_that_before_it(arguments: dict[str, float]) -> None:
    fill = fills({"type": "TruncNormal", "layer": "Conv2d", **arguments})["cls.weight"]
    assert isinstance(fill, TruncNormal)
    wanted = {"mean": 0.0, "std": 1.0, "a": -2.0, "b": 2.0, **arguments}
    got = {"mean": fill.mean, "std": fill.parent_std, "a": fill.low, "b": fill.high}
    assert got == pytest.approx(wanted, rel=1e-8, abs=1e-8)


@pytest.mark.parametrize(
    ("cfg", "initialize"),
    [
        ({"type": "Xavier"}, nn.init.xavier_normal_),
        ({"type": "Xavier", "gain": 3, "distribution": "uniform"}, nn.init.xavier_uniform_),
        ({"type": "Kaiming"}, nn.init.kaiming_normal_),
        ({"type": "Kaiming", "nonlinearity": "leaky_relu", "a": 1}, nn.init.kaiming_normal_),
        ({"type": "Kaiming", "nonlinearity": "tanh"}, nn.init.kaiming_normal_),
        (
            {"type": "Kaiming", "mode": "fan_in", "distribution": "uniform"},
            nn.init.kaiming_uniform_,
        ),
        ({"type": "Caffe2Xavier"}, nn.init.kaiming_uniform_),
    ],
)
def test_scales_are_those_of_torch(cfg: dict[str, Any], initialize: Any) -> None:
    """Mean and std of 16·64·9 draws, at six standard errors: a false alarm in 5e7 seeds."""
    own = {"a": 1, "mode": "fan_in", "nonlinearity": "leaky_relu"}
    keywords = own if cfg["type"] == "Caffe2Xavier" else dict(cfg)
    if cfg["type"] == "Kaiming":
        keywords = {"mode": "fan_out", "nonlinearity": "relu", **keywords}
    keywords = {k: v for k, v in keywords.items() if k not in ("type", "distribution")}
    model = nn.Conv2d(64, 16, 3)
    torch.manual_seed(0)
    with torch.no_grad():
        initialize(model.weight, **keywords)
    drawn = model.weight.detach().double()
    plan = fanin.plan(model, from_init_cfg({**cfg, "layer": "Conv2d"}), seed=0)
    fill = plan.steps[0].fill
    assert isinstance(fill, Uniform if "uniform" in initialize.__name__ else Normal)
    mean, std = fill.moments(tuple(drawn.shape))
    error = std / math.sqrt(drawn.numel())
    assert mean == 0
    assert abs(drawn.mean()) < 6 * error
    assert drawn.std().item() == pytest.approx(std, abs=6 * error)
    if isinstance(fill, Uniform):
        assert 0.99 * fill.high < drawn.abs().max() <= fill.high * (1 + 1e-6)


def test_layers_are_class_names_and_only_weight_and_bias_are_set() -> None:
    """The output projection of an attention is a Linear by its base, there and here."""
    cfg = {"type": "Constant", "val": 1, "bias": 2, "layer": ["Linear", "_BatchNorm"]}
    model = nn.Sequential(nn.MultiheadAttention(4, 2), nn.BatchNorm1d(4), nn.Conv1d(4, 4, 1))
    plan = fanin.plan(model, from_init_cfg(cfg), seed=0)
    assert {step.name for step in plan.steps if step.fill is not None} == {
        "0.out_proj.weight",
        "0.out_proj.bias",
        "1.weight",
        "1.bias",
    }


def test_later_entries_win_and_the_rest_stays() -> None:
    got = fills(
        [
            {"type": "Normal", "layer": ["Conv2d", "BatchNorm2d"], "std": 0.1, "bias": 1},
            {"type": "Constant", "layer": "BatchNorm2d", "val": 1},
        ]
    )
    assert got["feat.weight"] == Normal(0, 0.1)
    assert (got["norm.weight"], got["norm.bias"]) == (Constant(1), Constant(0))
    assert got["cls.bias"] == Constant(1)
    assert got["scale"] is None


def test_a_base_sets_what_no_entry_does() -> None:
    base = get_recipe("dcgan") + {"scale": ones()}
    got = fills({"type": "Constant", "val": 1, "layer": "BatchNorm2d"}, base=base)
    assert got["cls.weight"] == Normal(0.0, 0.02)
    assert got["norm.weight"] == Constant(1)


@pytest.mark.parametrize("repeat", [True, False])
def test_an_override_sets_all_that_is_below_a_name(repeat: bool) -> None:
    own = {} if repeat else {"type": "Constant", "val": 5, "bias_prob": 0.01}
    cfg = {"type": "Constant", "val": 1, "bias": 2, "layer": "Linear"}
    got = fills({**cfg, "override": {"name": "reg", **own}})
    weight, bias = (got["reg.0.weight"], got["reg.1.bias"])
    assert weight == got["reg.1.weight"] == Constant(1 if repeat else 5)
    assert isinstance(bias, Constant)
    assert bias.value == pytest.approx(2 if repeat else -math.log(0.99 / 0.01), rel=1e-9)
    assert got["cls.weight"] is None


def test_overrides_alone_need_no_layer() -> None:
    overrides = [{"name": "feat"}, {"name": "cls", "type": "Normal", "std": 0.01}]
    got = fills({"type": "Kaiming", "override": overrides})
    assert isinstance(got["feat.weight"], Normal)
    assert got["feat.weight"].std == pytest.approx(math.sqrt(2 / (16 * 9)), rel=1e-9)
    assert got["cls.weight"] == Normal(0, 0.01)
    assert got["reg.0.weight"] is None


def test_an_override_of_nothing_is_an_error() -> None:
    cfg = {"type": "Normal", "override": {"name": "bbox"}}
    with pytest.raises(PlanError, match=r"bbox\.\*\*"):
        fills(cfg)


@pytest.mark.parametrize(
    ("cfg", "error", "message"),
    [
        ({"type": "Pretrained", "checkpoint": "x"}, ArgumentError, "(?s)load_state_dict.*only="),
        ({"type": "Xaver", "layer": "Linear"}, UnknownNameError, "Did you mean Xavier"),
        ({"layer": "Linear"}, UnknownNameError, "type is one of a few. Got None for entry 0"),
        ({"type": "Normal", "layer": "Linear", "sdt": 1}, UnknownNameError, "Did you mean std"),
        ({"type": "Constant", "layer": "Linear"}, ArgumentError, "Constant has a val"),
        ({"type": "Normal"}, ArgumentError, "a layer or an override, or it sets nothing"),
        ({"type": "Normal", "layer": 3}, ArgumentError, "layer is a name, or a list of them"),
        ({"type": "Normal", "layer": "Linear*"}, ArgumentError, "layer is a name"),
        ({"type": "Normal", "override": {}}, ArgumentError, "sets nothing|names an attribute"),
        ({"type": "Normal", "override": 3}, ArgumentError, "override is a dictionary, or a list"),
        (
            {"type": "Normal", "override": {"name": ["a", "b"]}},
            ArgumentError,
            "an override names an attribute",
        ),
        (
            {"type": "Normal", "override": {"name": "a", "type": "Normal", "layer": "Linear"}},
            UnknownNameError,
            "a key of Normal. Got 'layer' for an override of entry 0",
        ),
        (
            {"type": "Normal", "override": {"name": "a", "std": 1}},
            UnknownNameError,
            "type is one of a few. Got None for an override of entry 0",
        ),
        (
            {"type": "Normal", "layer": "Linear", "bias_prob": 1},
            ArgumentError,
            "bias_prob lies between 0 and 1",
        ),
        ({"type": "Normal", "layer": "Linear", "std": -1}, ArgumentError, "(?s)std.*entry 0"),
        ({"type": "TruncNormal", "layer": "L", "std": 0}, ArgumentError, "std is positive"),
        (
            {"type": "Xavier", "layer": "L", "distribution": "cauchy"},
            UnknownNameError,
            "distribution is normal or uniform",
        ),
        ("Xavier", ArgumentError, "a dictionary, or a list of them"),
        ([["Xavier"]], ArgumentError, "a dictionary was expected"),
    ],
)
def test_what_is_no_init_cfg_is_refused(cfg: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        from_init_cfg(cfg)
