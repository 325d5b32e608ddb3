from __future__ import annotations

import math

import pytest
import torch
from scipy import stats
from torch import nn

import fanin
from fanin.errors import ArgumentError
from fanin.recipes import chrono, forget_bias, get_recipe

TORCH = get_recipe("torch_default")


def gate(layer: nn.Module, suffix: str, number: int, count: int) -> torch.Tensor:
    """The sum of both biases of one gate: all that the layer's equations see."""
    both = layer.get_parameter(f"bias_ih{suffix}") + layer.get_parameter(f"bias_hh{suffix}")
    return both.detach().chunk(count)[number]


def test_both_forget_biases_of_every_layer_and_direction_add_to_the_value() -> None:
    """Pain 28."""
    lstm = nn.LSTM(3, 5, num_layers=2, bidirectional=True, proj_size=2)
    fanin.initialize(lstm, TORCH + forget_bias(1.5), seed=0)
    for suffix in ("_l0", "_l0_reverse", "_l1", "_l1_reverse"):
        assert gate(lstm, suffix, 1, 4).tolist() == [1.5] * 5
        assert gate(lstm, suffix, 0, 4).std() > 0


def test_other_gates_keep_the_bits_they_have_without_the_rule() -> None:
    cells = nn.LSTMCell(3, 5), nn.LSTMCell(3, 5)
    fanin.initialize(cells[0], TORCH, seed=0)
    fanin.initialize(cells[1], TORCH + forget_bias(), seed=0)
    before, after = (cell.bias_ih.detach().chunk(4) for cell in cells)
    assert [torch.equal(a, b) for a, b in zip(before, after, strict=True)] == [True, False] + [
        True
    ] * 2


def test_gru_and_rnn_have_no_forget_gate() -> None:
    for layer in (nn.GRU(3, 5), nn.RNN(3, 5)):
        plan = fanin.plan(layer, TORCH + forget_bias(), seed=0)
        assert plan.steps == fanin.plan(layer, TORCH, seed=0).steps


@pytest.mark.parametrize("kind", [nn.LSTM, nn.GRU])
def test_chrono_spreads_memories_evenly(kind: type[nn.LSTM | nn.GRU]) -> None:
    """The time constant 1 / (1 - sigmoid(b)) = 1 + exp(b) is U(2, T): KS at 1e-9, twice."""
    layer = kind(2, 4000)
    fanin.initialize(layer, TORCH + chrono(200), seed=0, only="bias_*")
    keeps = gate(layer, "_l0", 1, 4 if kind is nn.LSTM else 3)
    assert stats.kstest(keeps.exp().numpy() + 1, stats.uniform(2, 198).cdf).pvalue > 1e-9
    if kind is nn.LSTM:
        assert torch.equal(gate(layer, "_l0", 0, 4), -keeps)
    rest = [2, 3] if kind is nn.LSTM else [0, 2]
    assert not any(gate(layer, "_l0", i, 4 if kind is nn.LSTM else 3).any() for i in rest)


def test_chrono_gives_every_layer_its_own_draws_and_says_where_from() -> None:
    lstm = nn.LSTM(3, 50, num_layers=2)
    plan = fanin.initialize(lstm, TORCH + chrono(20), seed=0)
    assert not torch.equal(gate(lstm, "_l0", 1, 4), gate(lstm, "_l1", 1, 4))
    (step,) = (step for step in plan.steps if step.name == "bias_ih_l0")
    assert "lstm_biases" in str(step.fill)
    assert "max_steps=20" in plan.to_json()
    other = fanin.plan(lstm, TORCH + chrono(21), seed=0)
    assert other.fingerprint() != plan.fingerprint()


@pytest.mark.parametrize("max_steps", [2, 0, -1, math.inf, math.nan, "20"])
def test_chrono_needs_more_than_two_steps(max_steps: object) -> None:
    with pytest.raises(ArgumentError, match=r"chrono: max_steps is (above 2|a finite number)"):
        chrono(max_steps)
