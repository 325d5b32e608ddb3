"""Deep nets without norms: what a deviation and a gradient become along a chain."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

import fanin
from fanin import zoo
from fanin.flow.moments import Prediction


def predicted(activation: str, depth: int, *, width: int = 32, recipe: str = "auto") -> Prediction:
    model = zoo.mlp(depth=depth, width=width, activation=activation, in_features=width)
    x = torch.empty(64, width, device="meta")
    return fanin.predict(model, fanin.plan(model, recipe, seed=0, example_inputs=x), x)


def second(prediction: Prediction, name: str) -> float:
    found = prediction.module(name)
    assert found is not None
    return found.moments.second


def gradient(prediction: Prediction, name: str) -> float:
    found = prediction.module(name)
    assert found is not None
    assert found.gradient_rms is not None
    return found.gradient_rms


@pytest.mark.parametrize("activation", ["relu", "tanh", "gelu", "silu", "selu"])
def test_short_chains_give_one(activation: str) -> None:
    assert second(predicted(activation, 4), "2") == pytest.approx(1, rel=1e-3)


@pytest.mark.parametrize(
    ("activation", "depth"),
    [
        ("relu", 10),
        ("selu", 30),
        ("mish", 30),
        ("tanh", 80),
        ("gelu", 10),
        ("gelu", 80),
        ("silu", 80),
    ],
)
def test_gradients_at_most_double_or_halve(activation: str, depth: int) -> None:
    prediction = predicted(activation, depth)
    last = str(2 * depth - 4)
    assert second(prediction, last) == pytest.approx(second(prediction, "2"), rel=1e-3)
    growth = gradient(prediction, "0") / gradient(prediction, last)
    assert 0.49 < growth < 2.05


def test_deep_gelu_is_at_its_critical_point() -> None:
    """Roberts, Yaida and Hanin 2022, §5.3.4: K* = (3 + √17) / 2, σ_b² = 0.173."""
    model = zoo.mlp(depth=300, width=8, activation="gelu", in_features=8)
    plan = fanin.plan(model, "auto", seed=0, example_inputs=torch.empty(1, 8))
    bias = plan.steps[3].moments
    weight = plan.steps[2].moments
    assert bias is not None
    assert weight is not None
    assert bias[1] ** 2 == pytest.approx(0.173, abs=0.01)
    assert 8 * weight[1] ** 2 == pytest.approx(1.983, abs=0.01)


def test_without_biases_the_target_moves() -> None:
    layers: list[nn.Module] = []
    for _ in range(30):
        layers += [nn.Linear(32, 32, bias=False), nn.GELU()]
    model = nn.Sequential(*layers, nn.Linear(32, 4))
    x = torch.empty(8, 32, device="meta")
    prediction = fanin.predict(model, fanin.plan(model, "auto", seed=0, example_inputs=x), x)
    assert second(prediction, "2") > 2


def test_norms_end_a_chain() -> None:
    layers: list[nn.Module] = []
    for _ in range(50):
        layers += [nn.Linear(32, 32), nn.LayerNorm(32), nn.Tanh()]
    model = nn.Sequential(*layers, nn.Linear(32, 4))
    plan = fanin.plan(model, "auto", seed=0, example_inputs=torch.empty(8, 32))
    stds = {step.moments[1] for step in plan.steps[4:-2:4] if step.moments}
    gain = float(fanin.gain("tanh"))
    assert all(std * math.sqrt(32) == pytest.approx(gain, rel=1e-2) for std in stds)


def test_a_square_has_no_remedy_and_keeps_one() -> None:
    class Square(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x * x

    model = nn.Sequential(*(each for _ in range(12) for each in (nn.Linear(16, 16), Square())))
    x = torch.empty(8, 16, device="meta")
    prediction = fanin.predict(model, fanin.plan(model, "auto", seed=0, example_inputs=x), x)
    assert second(prediction, "2") == pytest.approx(1, rel=0.01)
