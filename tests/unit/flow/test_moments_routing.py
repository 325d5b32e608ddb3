"""Indices, masks, constants and parts written one by one, beside what they measure.

Means over some thousand entries and more, of fixed seeds: 10 % is more than six standard
deviations.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fanin.errors import ArgumentError
from fanin.flow.moments import ParameterMoments, Prediction, predict
from fanin.flow.trace import trace


class Calls(nn.Module):
    def __init__(self, function: Callable[..., Any], **weights: tuple[int, ...]) -> None:
        super().__init__()
        self.function = function
        self.weights = nn.ParameterDict(
            {name: nn.Parameter(torch.zeros(shape)) for name, shape in weights.items()}
        )

    def forward(self, x: Tensor) -> Any:
        return self.function(x, **self.weights)


def predicted(model: nn.Module, x: Tensor, std: float = 1.0) -> Prediction:
    drawn = {name: ParameterMoments(0.0, std) for name, _ in model.named_parameters()}
    return predict(trace(model, x), drawn)


def top_two(x: Tensor) -> Tensor:
    found, at = x.topk(2, -1)
    return torch.zeros_like(x).scatter(-1, at, found)


def masked_by_rank(x: Tensor) -> Tensor:
    at = x.argsort(-1)[..., :4]
    return x.scatter(-1, at, 3.0)


def in_parts(x: Tensor) -> Tensor:
    y = x.new_empty(x.shape)
    y[:, :8] = x[:, :8] * 2
    y[:, 8:24] = x[:, 8:24]
    y[:, 24:] = x[:, 24:] * 3
    return y


@pytest.mark.parametrize(
    "function",
    [
        top_two,
        masked_by_rank,
        in_parts,
        lambda x: torch.where(x > 0.5, x, 0.1 * x),
        lambda x: torch.where((x > 0) & (x < 1), x, 2.0),
        lambda x: x * (x > 0),
        lambda x: x.masked_fill(x < 0, 2.0),
        lambda x: F.prelu(x, torch.full((1,), 0.25)),
        lambda x: torch.full_like(x, 3.0) * x,
        lambda x: x + x.new_full((32,), 2.0),
    ],
)
def test_single_functions(function: Callable[[Tensor], Tensor]) -> None:
    model, x = Calls(function), torch.empty(256, 32)
    prediction = predicted(model, x)
    found = prediction.values[prediction.trace.outputs[0]].moments
    out = function(torch.randn(4096, 32, generator=torch.Generator().manual_seed(0)))
    assert found.rms == pytest.approx(float(out.square().mean().sqrt()), rel=0.1)
    assert found.mean == pytest.approx(float(out.mean()), abs=0.1)


@pytest.mark.parametrize("num_parameters", [1, 32])
def test_slopes_that_are_learned(num_parameters: int) -> None:
    model = nn.Sequential(nn.Linear(32, 32), nn.PReLU(num_parameters), nn.Linear(32, 4))
    drawn = {name: ParameterMoments(0.0, 0.2) for name, _ in model.named_parameters()}
    drawn["1.weight"] = ParameterMoments(0.25, 0.0)
    found = predict(trace(model, torch.empty(8, 32)), drawn).module("1")
    before = predict(trace(model, torch.empty(8, 32)), drawn).module("0")
    assert found is not None
    assert before is not None
    half = (1 + 0.25**2) / 2
    assert found.moments.second == pytest.approx(half * before.moments.second)


def test_experts_of_groups() -> None:
    def experts(x: Tensor, up: Tensor) -> Tensor:
        order = x[:, :4].argmax(-1).argsort()
        ends = torch.full((4,), 16, dtype=torch.int32).cumsum(0, dtype=torch.int32)
        return F.grouped_mm(x[order], up, offs=ends)

    model = Calls(experts, up=(4, 32, 48))
    found = predicted(model, torch.empty(64, 32), std=0.5)
    assert found.values[found.trace.outputs[0]].moments.second == pytest.approx(32 * 0.25)
    assert found.parameters["weights.up"].second > 0
    assert found.notes == ()


def test_memory_that_is_not_written_yet_is_never_read() -> None:
    def function(x: Tensor) -> Tensor:
        y = torch.empty_like(x)
        y[:, :16] = x[:, :16]
        y[:, 16:] = x[:, 16:]
        return y

    found = [predicted(Calls(function), torch.empty(64, 32)) for _ in range(2)]
    first, second = (each.values[each.trace.outputs[0]].moments for each in found)
    assert first == second
    assert first.second == pytest.approx(1, rel=0.05)


def test_units_of_a_layer_over_positions_are_positions_beside_others() -> None:
    class Mixing(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.mix = nn.Linear(16, 16)

        def forward(self, x: Tensor) -> Tensor:
            return (x + self.mix(x.transpose(1, 2)).transpose(1, 2)).mean(1)

    model = Mixing()
    drawn = {"mix.weight": ParameterMoments(0.0, 1 / 4), "mix.bias": ParameterMoments(0.0, 0.0)}
    found = predict(trace(model, torch.empty(8, 16, 64)), drawn)
    # 16 rows of second moment 2 that have nothing in common.
    assert found.values[found.trace.outputs[0]].moments.second == pytest.approx(2 / 16, rel=0.01)


def test_weights_that_are_used_on_what_they_made_are_noted() -> None:
    def twice(x: Tensor, w: Tensor) -> Tensor:
        return (x @ w).relu() @ w

    def beside(x: Tensor, w: Tensor) -> Tensor:
        return (x @ w).relu() + (2 * x) @ w

    assert any("drawn anew" in each for each in predicted(Calls(twice, w=(8, 8)), X).notes)
    assert predicted(Calls(beside, w=(8, 8)), X).notes == ()


X = torch.empty(4, 8)


def test_an_empty_batch_is_refused() -> None:
    with pytest.raises(ArgumentError, match=r"a batch of at least one\. Got shape 0×8"):
        predicted(nn.Linear(8, 8), torch.empty(0, 8))
