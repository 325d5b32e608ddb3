"""Finite width: the drift and the spread of one draw, beside many draws."""

from __future__ import annotations

import math
import statistics

import pytest
import torch
from measured_models import predicted
from torch import nn

from fanin.flow.moments.noise import Noise


def last_std(depth: int, width: int, gain: float, activation: type[nn.Module], seed: int) -> float:
    """Of the last layer of an MLP, drawn layer by layer."""
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(8, 64, generator=generator)
    function = activation()
    for _ in range(depth):
        weight = torch.randn(width, x.shape[1], generator=generator) * gain / x.shape[1] ** 0.5
        x = function(x @ weight.T)
    return float(x.std())


@pytest.mark.parametrize(
    ("activation", "gain", "depth", "width"),
    [
        (nn.ReLU, math.sqrt(2), 50, 128),
        (nn.ReLU, math.sqrt(2), 100, 128),
        (nn.Identity, 1.0, 100, 128),
        (nn.Tanh, 1.2, 100, 128),
        (nn.SELU, 1.0, 50, 128),
    ],
)
def test_drift_and_spread(activation: type[nn.Module], gain: float, depth: int, width: int) -> None:
    """Logarithms of 120 draws: their mean and spread as predicted.

    The mean strays by spread / sqrt(120) and the spread by its 1/sqrt(240): five of those are a
    false alarm in 10^6. The prediction neglects what a step has beyond its variance: 0.03 + 5 % of
    the drift, 15 % of the spread.
    """
    sizes = [64, *[width] * depth]
    layers: list[nn.Module] = []
    for at in range(depth):
        layer = nn.Linear(sizes[at], width, bias=False)
        nn.init.normal_(layer.weight, 0, gain / math.sqrt(sizes[at]))
        layers += [layer, activation()]
    prediction = predicted(nn.Sequential(*layers), torch.zeros(8, 64), gradients=False)
    expected = prediction[prediction.trace.outputs[0]]
    logs = [math.log(last_std(depth, width, gain, activation, seed)) for seed in range(120)]
    centre = math.log(expected.median)
    error = 5 * max(expected.spread, statistics.stdev(logs)) / math.sqrt(len(logs))
    allowed = error + 0.03 + 0.05 * abs(math.log(expected.drift))
    assert abs(statistics.mean(logs) - centre) < allowed
    ratio = statistics.stdev(logs) / expected.spread
    assert abs(math.log(ratio)) < 5 / math.sqrt(2 * len(logs)) + 0.15
    low, high = (math.log(each) for each in expected.interval)
    # 95 % of the draws: 114 of 120, give or take 5 * 2.4.
    assert sum(low <= each <= high for each in logs) >= 102


def test_he_drift_of_256_units() -> None:
    """E x⁴ / (E x²)² - 1 = 5 after a ReLU: the log of the std loses 5 / 4n a layer."""
    layers: list[nn.Module] = []
    for _ in range(50):
        layer = nn.Linear(256, 256, bias=False)
        nn.init.normal_(layer.weight, 0, math.sqrt(2 / 256))
        layers += [layer, nn.ReLU()]
    prediction = predicted(nn.Sequential(*layers), torch.zeros(8, 256), gradients=False)
    expected = prediction[prediction.trace.outputs[0]]
    # The first layers see samples that differ, whose fluctuations average out.
    assert expected.drift == pytest.approx(math.exp(-5 * 50 / (4 * 256)), rel=0.05)


def test_norms_forget_what_came_before() -> None:
    body = [nn.Linear(64, 64) for _ in range(20)]
    for layer in body:
        nn.init.normal_(layer.weight, 0, 1 / 8)
    plain = nn.Sequential(*body)
    model = nn.Sequential(*body, nn.LayerNorm(64), nn.Linear(64, 64))
    without = predicted(plain, torch.zeros(8, 64))
    before = without[without.trace.outputs[0]]
    after = predicted(model, torch.zeros(8, 64)).module("20")
    assert after is not None
    assert before.spread > 0.1
    assert after.spread < 0.01
    assert after.drift == pytest.approx(1.0, abs=0.01)


def test_steps_of_common_layers_divide_out() -> None:
    one = Noise.none().stepped(0.1, 0).stepped(0.2, 1)
    ratio = Noise.combined([(1.0, one), (-1.0, one)])
    assert ratio.variance == pytest.approx(0.0)
    assert ratio.drift == pytest.approx(0.0)
    half = Noise.combined([(0.5, one)])
    assert half.variance == pytest.approx(one.variance / 4)


def test_steps_keep_the_mean() -> None:
    """A log-normal factor of mean 1."""
    noise = Noise.none().stepped(0.3, 0)
    assert math.exp(noise.drift + noise.variance / 2) == pytest.approx(1.0)
