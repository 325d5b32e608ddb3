"""Input that cannot be calibrated on: refused in words, with everything as it was."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils.parametrizations import orthogonal, weight_norm
from torch.utils.data import DataLoader, TensorDataset

import fanin
from fanin.calibration import CalibrationError, GradInit, MetaInit
from fanin.errors import ArgumentError

LEARNED = [MetaInit(steps=2), GradInit(steps=2), GradInit("adam", steps=2)]


@pytest.fixture(autouse=True)
def seeded() -> Iterator[None]:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        yield


def net() -> nn.Sequential:
    return nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 4))


def state(model: nn.Module) -> dict[str, Tensor]:
    return {name: tensor.clone() for name, tensor in model.state_dict().items()}


def assert_same(model: nn.Module, before: dict[str, Tensor]) -> None:
    for name, tensor in state(model).items():
        torch.testing.assert_close(tensor, before[name], rtol=0, atol=0, equal_nan=True)


@pytest.mark.parametrize("method", ["lsuv", *LEARNED])
@pytest.mark.parametrize(
    "make",
    [
        lambda x: DataLoader(TensorDataset(x), batch_size=8),
        lambda x: iter([x]),
        lambda x: (part for part in x.split(8)),
    ],
)
def test_a_loader_is_not_a_batch(method: Any, make: Callable[[Tensor], object]) -> None:
    with pytest.raises(ArgumentError, match=r"one batch after another.*next\(iter\(loader\)\)"):
        fanin.calibrate(net(), make(torch.randn(32, 8)), method)


@pytest.mark.parametrize(
    ("keywords", "message"),
    [
        ({"orthogonal": "no"}, "True, False or None. Got 'no'"),
        ({"max_iterations": True}, "1 or more. Got True"),
    ],
)
def test_arguments_of_another_type(keywords: dict[str, Any], message: str) -> None:
    with pytest.raises(ArgumentError, match=message):
        fanin.calibrate(net(), torch.randn(32, 8), **keywords)


def test_an_empty_batch() -> None:
    with pytest.raises(CalibrationError, match="Got none in the output of '0'"):
        fanin.calibrate(net(), torch.randn(0, 8))
    with pytest.raises(CalibrationError, match="Got NaN or infinity"):
        fanin.calibrate(net(), torch.randn(0, 8), MetaInit(steps=2))


@pytest.mark.parametrize("keywords", [{"only": "head"}, {"skip": 3}, {}])
def test_a_refused_call_takes_no_seed(keywords: dict[str, Any]) -> None:
    model, batch = net(), torch.randn(32, 3)
    before = torch.get_rng_state()
    with pytest.raises((ArgumentError, CalibrationError), match="calibrate: "):
        fanin.calibrate(model, batch, **keywords)
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize("method", LEARNED)
@pytest.mark.parametrize(
    "loss",
    [
        lambda output: output.square().mean() + torch.nan,
        lambda output: output.square().mean() + torch.inf,
        lambda output: output.detach().square().mean(),
        lambda output: torch.zeros(()),
    ],
)
def test_a_loss_that_tells_nothing(method: Any, loss: Callable[[Tensor], Tensor]) -> None:
    model = net()
    before = state(model)
    with pytest.raises(CalibrationError, match=r"NaN or infinity|a gradient of zero"):
        fanin.calibrate(model, torch.randn(32, 8), method, loss=loss)
    assert_same(model, before)


def test_nan_in_a_bias_is_seen_where_no_gradient_is() -> None:
    """A projection of the outputs is linear in the last bias: its gradients are all finite."""
    model = net()
    nn.init.constant_(model[2].bias, torch.nan)
    with pytest.raises(CalibrationError, match="Got NaN or infinity"):
        fanin.calibrate(model, torch.randn(32, 8), MetaInit(steps=2))


def test_half_precision() -> None:
    """Gradients of 1e-4 have squares that float16 does not hold."""
    model, batch = net().half(), torch.randn(32, 8).half()
    assert fanin.calibrate(model, batch, MetaInit(steps=2)).after is not None
    small = fanin.calibrate(
        model, batch, GradInit(steps=2), loss=lambda output: output.float().square().mean() * 1e-3
    )
    assert small.gradient_after is not None
    assert all(parameter.isfinite().all() for parameter in model.parameters())


class Broken(nn.Module):
    """NaN reaches only a layer that is left alone, and comes from one that is none."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.norm, self.head = nn.Linear(8, 8), nn.LayerNorm(8), nn.Linear(8, 2)
        self.head.requires_grad_(False)
        nn.init.constant_(self.norm.bias, torch.nan)

    def forward(self, x: Tensor) -> Tensor:
        result: Tensor = self.head(self.norm(self.first(x)))
        return result


def test_nan_in_a_layer_that_is_left_alone_is_told() -> None:
    done = fanin.calibrate(Broken(), torch.randn(32, 8), seed=0)
    assert [row.converged for row in done.rows] == [True, False]
    assert not done.converged
    assert str(done).endswith("NaN in the output of 'head'.")

    def unknown(constant: str) -> None:
        raise AssertionError(f"{constant} is no JSON")

    content = json.loads(done.to_json(), parse_constant=unknown)
    assert content["rows"][1]["after"] == "nan"
    assert content["converged"] is False


def test_zeros_behind_an_orthogonal_parametrization() -> None:
    model = nn.Sequential(nn.Linear(8, 16), orthogonal(nn.Linear(16, 4)))
    original = model[1].parametrizations.weight.original
    with torch.no_grad():
        original.zero_()
    before = state(model)
    rows = fanin.calibrate(model, torch.randn(32, 8), seed=0).rows
    assert "fixes the scale" in rows[1].note
    after = state(model)
    assert all(torch.equal(after[name], before[name]) for name in before if name[0] == "1")


class Bounded(nn.Module):
    """Holds values up to 9."""

    def forward(self, x: Tensor) -> Tensor:
        return x.clamp(-9, 9)

    def right_inverse(self, x: Tensor) -> Tensor:
        return x.clone()


class Attending(nn.Module):
    """A base of orthogonal matrices, and a weight that is refused after that was drawn."""

    def __init__(self) -> None:
        super().__init__()
        self.attention = nn.MultiheadAttention(4, 2, kdim=3, vdim=3, batch_first=True)
        orthogonal(self.attention, "q_proj_weight")
        self.norm, self.head = nn.LayerNorm(4), nn.Linear(4, 4)
        nn.utils.parametrize.register_parametrization(self.head, "weight", Bounded())

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        result: Tensor = self.head(self.norm(self.attention(x, y, y)[0]))
        return result


def test_a_weight_that_is_refused_half_way() -> None:
    """The base is a buffer that torch replaces at each write: the one there was is put back."""
    model, batch = Attending(), (torch.randn(8, 5, 4), torch.randn(8, 5, 3))
    before = state(model)
    with pytest.raises(CalibrationError, match=r"Got a refusal for 'head\.weight'.*skip="):
        fanin.calibrate(model, batch, seed=0, target=100.0)
    assert_same(model, before)


def test_a_scale_that_weight_norm_cannot_hold() -> None:
    model = nn.Sequential(weight_norm(nn.Linear(8, 8)), nn.Linear(8, 2))
    before = state(model)
    with pytest.raises(CalibrationError, match=r"Got a refusal for '0\.weight'"):
        fanin.calibrate(model, torch.randn(32, 8), target=1e-30)
    assert_same(model, before)


def test_complex_weights_have_no_units() -> None:
    model = nn.Sequential(nn.Linear(8, 4, dtype=torch.complex64))
    before = state(model)
    done = fanin.calibrate(model, torch.randn(32, 8, dtype=torch.complex64), "weight_norm")
    assert [row.note for row in done.rows] == ["its weight has no real numbers"]
    assert_same(model, before)
