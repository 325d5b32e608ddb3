"""Layers whose row says that they were left alone hold what they held; passes are repeatable."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fanin.calibration import Calibration, CalibrationRow, calibrate
from fanin.errors import PlanError

FLAT = "its output does not follow the scale of its weights"


class Own(nn.Module):
    """A layer of a user's own: what `what` makes of its input and weight."""

    def __init__(self, what: Any) -> None:
        super().__init__()
        self.w = nn.Parameter(torch.randn(16, 16, generator=torch.Generator().manual_seed(0)))
        self.what = what

    def forward(self, x: Tensor) -> Tensor:
        result: Tensor = self.what(x, self.w)
        return result


def batch_of(width: int, rows: int = 64) -> Tensor:
    return torch.randn(rows, width, generator=torch.Generator().manual_seed(1))


def test_a_layer_that_is_never_called_keeps_its_values() -> None:
    class Functional(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.uncalled = nn.Linear(16, 16), nn.Linear(16, 16)

        def forward(self, x: Tensor) -> Tensor:
            return F.linear(self.first(x), self.uncalled.weight, self.uncalled.bias)

    model = Functional()
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    done = calibrate(model, batch_of(16), seed=0)
    assert [row.note for row in done.rows] == ["", "never called"]
    assert torch.equal(model.uncalled.weight, before["uncalled.weight"])
    assert torch.equal(model.uncalled.bias, before["uncalled.bias"])
    assert not torch.equal(model.first.weight, before["first.weight"])


class Tied(nn.Module):
    """A head that is read and never called, tied to a table, with a bias that is tied, too."""

    def __init__(self) -> None:
        super().__init__()
        self.table, self.first = nn.Embedding(50, 16), nn.Linear(16, 16)
        self.head, self.spare = nn.Linear(16, 50, bias=False), nn.Linear(16, 16)
        self.head.weight = self.table.weight
        self.spare.bias = self.first.bias

    def forward(self, ids: Tensor) -> Tensor:
        return F.linear(self.first(self.table(ids)), self.head.weight)


def test_what_a_layer_that_is_never_called_shares_is_told() -> None:
    ids = torch.arange(50).view(5, 10)
    model = Tied()
    table, bias = model.table.weight.detach().clone(), model.first.bias.detach().clone()
    done = calibrate(model, ids, seed=0, target=0.5)
    notes = {row.name: row.note for row in done.rows}
    assert notes["head"] == "never called; its weight is that of 'table'"
    assert notes["spare"] == "never called; its bias is that of 'first'"
    assert not torch.equal(model.head.weight, table)
    assert not torch.equal(model.spare.bias, bias)


def test_without_its_owner_nothing_of_a_layer_never_called_changes() -> None:
    model = Tied()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    done = calibrate(model, torch.arange(50).view(5, 10), seed=0, skip=["head", "spare"])
    assert done.rows[0].note == "its weight is that of 'head', which is left alone"
    for name in ("head.weight", "spare.bias", "spare.weight"):
        assert torch.equal(model.state_dict()[name], before[name])


def test_a_shared_bias_is_shifted_for_one_layer_alone() -> None:
    model = nn.Sequential(nn.Linear(16, 16), nn.Linear(16, 16))
    model[1].bias = model[0].bias
    done = calibrate(model, batch_of(16), "weight_norm")
    assert [row.note for row in done.rows] == ["", "its bias is that of '0'"]
    assert done.converged


@pytest.mark.parametrize("method", ["lsuv", "weight_norm"])
def test_a_frozen_bias_stays(method: Any) -> None:
    model = nn.Sequential(nn.Linear(16, 16), nn.Linear(16, 4))
    model[0].bias.requires_grad_(False)
    bias, other = model[0].bias.clone(), model[1].bias.detach().clone()
    assert calibrate(model, batch_of(16), method).converged
    assert torch.equal(model[0].bias, bias)
    assert not torch.equal(model[1].bias, other)


@pytest.mark.parametrize("method", ["lsuv", "weight_norm"])
def test_what_a_skipped_layer_shares_stays(method: Any) -> None:
    model = nn.Sequential(*(nn.Linear(16, 16) for _ in range(4)))
    model[2].weight = model[0].weight
    model[3].bias = model[2].bias
    weight, bias = model[2].weight.detach().clone(), model[2].bias.detach().clone()
    done = calibrate(model, batch_of(16), method, skip="2")
    notes = ["its weight is that of '2', which is left alone", "", "in skip=", ""]
    assert [row.note for row in done.rows] == notes
    assert torch.equal(model[2].weight, weight)
    assert torch.equal(model[2].bias, bias)
    assert done.converged


@pytest.mark.parametrize(
    "what",
    [
        lambda x, w: torch.sigmoid(x @ w),
        lambda x, w: F.layer_norm(x @ w, (16,)) * 3,
        lambda x, w: x @ w * 1e-3 + 3 * x,
    ],
)
@pytest.mark.parametrize("orthogonal", [True, False])
def test_a_target_out_of_reach_leaves_the_weights(what: Any, orthogonal: bool) -> None:
    model = nn.Sequential(Own(what), nn.Linear(16, 4))
    before = model[0].w.detach().clone()
    done = calibrate(model, batch_of(16), orthogonal=orthogonal)
    assert [row.note for row in done.rows] == [FLAT, ""]
    assert torch.equal(model[0].w, before)
    assert [row.converged for row in done.rows] == [False, True]
    assert not done.converged
    assert "1 of 2 layers within" in str(done)


def test_a_scale_too_large_for_a_float_is_not_tried() -> None:
    layer = Own(lambda x, w: torch.tanh(x @ w) * w.abs().mean().clamp(1e-30).log().exp() ** 0.01)
    done = calibrate(layer, batch_of(16), orthogonal=False, target=1e30, max_iterations=30)
    assert not done.converged
    assert layer.w.isfinite().all()


def test_all_frozen_is_nothing_amiss() -> None:
    assert calibrate(nn.Linear(16, 4).requires_grad_(False), batch_of(16)).converged
    flat = CalibrationRow("0", "Linear", 2.0, 2.0, note=FLAT)
    left = CalibrationRow("1", "Linear", after=2.0, note="in skip=")
    assert not Calibration("lsuv", 1.0, 0.05, (flat, left)).converged
    assert Calibration("lsuv", 1.0, 0.05, (left,)).converged


def test_a_layer_that_writes_into_its_input() -> None:
    model = nn.Sequential(nn.Linear(16, 16), Own(lambda x, w: x.mul_(2) @ w), nn.Linear(16, 4))
    done = calibrate(model, batch_of(16), seed=0, tolerance=1e-4)
    assert done.converged
    assert [row.iterations for row in done.rows] == [1, 1, 1]


def test_a_hook_before_a_layer_acts_once_in_each_call() -> None:
    model = nn.Sequential(nn.Linear(16, 16))
    model[0].register_forward_pre_hook(lambda _, args: (args[0] * 3,))
    done = calibrate(model, batch_of(16), seed=0, tolerance=1e-4)
    assert done.converged
    assert done.rows[0].iterations == 1


@pytest.mark.parametrize("orthogonal", [True, False])
def test_a_seed_decides_dropout_too(orthogonal: bool) -> None:
    found = []
    for seed, state in ((3, 0), (3, 1), (4, 1)):
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(5)
            model = nn.Sequential(nn.Linear(16, 16), nn.Dropout(0.5), nn.Linear(16, 4))
            torch.manual_seed(state)
            before = torch.get_rng_state()
            found.append(calibrate(model, batch_of(16), orthogonal=orthogonal, seed=seed).rows[1])
            assert torch.equal(torch.get_rng_state(), before)
    assert found[0] == found[1]
    assert found[1].before != found[2].before


def test_inference_tensors_are_refused_in_words() -> None:
    with torch.inference_mode():
        model = nn.Linear(16, 4)
    before = model.weight.clone()
    with pytest.raises(PlanError, match="inference"):
        calibrate(model, batch_of(16), seed=0)
    assert torch.equal(model.weight, before)


@pytest.mark.parametrize("target", [0.3, 1.0])
def test_parametrizations_with_buffers_hold_what_was_drawn(target: float) -> None:
    layer = nn.utils.parametrizations.weight_norm(nn.Linear(16, 16, bias=False))
    attention = nn.MultiheadAttention(16, 2, kdim=8, vdim=8, batch_first=True)
    nn.utils.parametrizations.orthogonal(attention, "q_proj_weight")
    assert calibrate(layer, batch_of(16), target=target, seed=0).converged
    x = batch_of(16).view(4, 16, 16)
    plain = nn.MultiheadAttention(16, 2, kdim=8, vdim=8, batch_first=True)
    for each in (attention, plain):
        calibrate(each, (x, x[..., :8], x[..., 8:]), target=target, seed=0)
    weight = attention.q_proj_weight.detach()
    torch.testing.assert_close(weight, plain.q_proj_weight.detach(), rtol=0, atol=1e-5)
    torch.testing.assert_close(weight.T @ weight, torch.eye(16), rtol=0, atol=1e-5)
