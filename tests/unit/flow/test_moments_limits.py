"""Where what is normal elsewhere is not: few features, exponentials, masks, raw waves.

Means over some ten thousand entries and more, of fixed seeds: 5 % is more than six standard
deviations.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fanin.flow.moments import Forward, Moments, ParameterMoments, predict
from fanin.flow.moments.axes import of_parameter, reshaped
from fanin.flow.trace import trace


class Calls(nn.Module):
    def __init__(self, function: Callable[..., Tensor], *layers: nn.Module) -> None:
        super().__init__()
        self.function, self.layers = function, nn.ModuleList(layers)

    def forward(self, *args: Tensor) -> Tensor:
        return self.function(*self.layers, *args)


def given(model: nn.Module, *inputs: Tensor) -> tuple[Moments, tuple[str, ...]]:
    """Of the output, for weights of std 1 / sqrt(fan_in), and the notes."""
    drawn = {
        name: ParameterMoments(0.0, 1 / math.sqrt(math.prod(each.shape[1:])))
        for name, each in model.named_parameters()
    }
    found = predict(trace(model, inputs), drawn)
    return found.values[found.trace.outputs[0]].moments, found.notes


@pytest.mark.parametrize("width", [2, 4, 16])
def test_a_norm_over_few_features_gives_one(width: int) -> None:
    def function(layer: nn.Linear, x: Tensor) -> Tensor:
        y: Tensor = layer(x)
        return y * torch.rsqrt(y.square().mean(-1, keepdim=True) + 1e-6)

    moments, notes = given(Calls(function, nn.Linear(32, width, bias=False)), torch.empty(8, 32))
    assert moments.rms == pytest.approx(1, rel=1e-3)
    assert any(note.startswith("rsqrt: not to be averaged") for note in notes) == (width < 8)


def test_an_exponential_that_rare_entries_would_decide() -> None:
    calm, none = given(Calls(lambda x: (2 * x).exp()), torch.empty(64, 32))
    assert calm.second == pytest.approx(math.exp(8), rel=1e-3)
    assert none == ()
    wild, notes = given(Calls(lambda x: (20 * x).exp()), torch.empty(64, 32))
    assert wild.second == pytest.approx(1)
    (note,) = notes
    assert note.startswith("exp: not to be averaged over a normal input")


def below(x: Tensor) -> Tensor:
    return torch.ones(32, 32, dtype=torch.bool).tril(-1)


@pytest.mark.parametrize(
    "function",
    [
        lambda x: x.masked_fill(below(x), 0.0),
        lambda x: x.masked_fill(~below(x), 3.0),
        lambda x: torch.where(below(x), x, 2 * x),
    ],
)
def test_a_known_mask_leaves_its_share(function: Callable[[Tensor], Tensor]) -> None:
    moments, _ = given(Calls(function), torch.empty(8, 32, 32))
    out = function(torch.randn(512, 32, 32, generator=torch.Generator().manual_seed(0)))
    assert moments.rms == pytest.approx(float(out.square().mean().sqrt()), rel=0.05)


def test_a_mask_by_lengths_hides_nothing() -> None:
    def function(layer: nn.Linear, x: Tensor, ids: Tensor) -> Tensor:
        hidden = (torch.arange(16) >= (ids != 0).sum(-1, keepdim=True))[:, None]
        scores = layer(x) @ x.transpose(1, 2) / math.sqrt(32)
        seen: Tensor = scores.masked_fill(hidden, torch.finfo(scores.dtype).min).softmax(-1)
        return seen @ x

    model = Calls(function, nn.Linear(32, 32, bias=False))
    moments, _ = given(model, torch.empty(8, 16, 32), torch.empty(8, 16, dtype=torch.long))
    assert 1 / 16 < moments.second < 1


def test_a_raw_wave_has_positions_once_it_is_convolved() -> None:
    def function(layer: nn.Conv1d, x: Tensor) -> Tensor:
        return F.group_norm(layer(x[:, None]), 16)

    model = Calls(function, nn.Conv1d(1, 16, 10, stride=5, bias=False))
    moments, _ = given(model, torch.empty(2, 2000))
    assert moments.rms == pytest.approx(1, rel=0.05)


def test_numbers_that_are_no_tensors() -> None:
    def function(x: Tensor) -> Tensor:
        return x * (torch.div(16, 4, rounding_mode="trunc") - 1)

    assert given(Calls(function), torch.empty(8, 32))[0].rms == pytest.approx(3)


def test_a_constant_that_is_too_large_is_not_held() -> None:
    traced = trace(Calls(lambda x: x + x.new_ones((1 << 20, 1 << 12))[0, :32]), torch.empty(8, 32))
    forward = Forward(traced, lambda name, operation, incoming: ParameterMoments(0.0, 0.0)).finish()
    assert all(state.data is None for state in forward.states.values())
    assert forward.states[traced.outputs[0]].moments.mean == pytest.approx(1)


def test_a_view_whose_sizes_do_not_divide_ends() -> None:
    rows = reshaped(of_parameter((448, 384)), (1, 4, 384))
    assert [math.prod(atom.size for atom in dim) for dim in rows] == [1, 4, 384]
