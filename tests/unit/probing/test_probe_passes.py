"""Gradients, inputs and outputs of every form, and wrappers."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from small_models import Calls, X, names, only
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from fanin.probing import probe


def test_gradients_are_those_of_autograd() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 5), nn.Tanh(), nn.Linear(5, 3))
    report = probe(model, X, loss=lambda y: y.square().mean())
    kept: list[Tensor] = []
    y: Tensor = X
    for layer in model:
        y = layer(y)
        y.retain_grad()
        kept.append(y)
    loss = y.square().mean()
    loss.backward()
    assert report.loss == loss.item()
    for row, tensor in zip(report.rows, kept, strict=True):
        assert row.gradient is not None
        assert tensor.grad is not None
        assert row.gradient.rms == pytest.approx(tensor.grad.square().mean().sqrt().item())
    for weight, parameter in zip(report.weights, model.parameters(), strict=True):
        assert parameter.grad is not None
        rms = parameter.grad.square().mean().sqrt().item()
        assert weight.gradient_rms == pytest.approx(rms)
        assert weight.ratio == pytest.approx(rms / parameter.square().mean().sqrt().item())


def test_without_a_loss_each_output_entry_has_gradient_one() -> None:
    model = nn.LSTM(4, 8)
    first, second = probe(model, X[None]), probe(model, X[None])
    assert first.loss is None
    assert first == second
    assert first.rows[0].gradient is not None
    assert first.rows[0].gradient.rms == 1.0
    assert any(note.startswith("no loss") for note in first.notes)


def test_an_output_that_is_one_number_is_the_loss() -> None:
    report = probe(Calls(lambda m, x: m.layer(x).square().mean(), layer=nn.Linear(4, 4)), X)
    assert report.loss is not None
    assert report.loss > 0
    assert names(report) == ["layer", ""]


def test_no_backward_pass() -> None:
    report = probe(nn.Linear(4, 4), X, backward=False)
    assert report.rows[0].gradient is None
    assert report.weights[0].gradient_rms is None
    assert (report.loss, report.notes) == (None, ())


def test_nothing_asks_for_a_gradient() -> None:
    report = probe(nn.Linear(4, 4).requires_grad_(False), X)
    assert report.rows[0].gradient is None
    assert any(note.startswith("no gradients") for note in report.notes)


def test_an_input_that_asks_for_a_gradient_is_enough() -> None:
    frozen = nn.Sequential(nn.Linear(4, 4), nn.Tanh()).requires_grad_(False)
    for x in (X.clone().requires_grad_(), X.clone().requires_grad_() * 2):
        assert probe(frozen, x).rows[0].gradient is not None


def test_a_frozen_weight_has_no_gradient() -> None:
    model = nn.Linear(4, 4)
    model.weight.requires_grad_(False)
    weight, bias = probe(model, X).weights
    assert weight.gradient_rms is None
    assert bias.gradient_rms is not None


def test_weights_that_are_not_finite_and_sparse_gradients() -> None:
    table = nn.Embedding(10, 4, sparse=True)
    model = nn.Sequential(table, nn.Linear(4, 4))
    with torch.no_grad():
        model[1].weight[0, 0] = torch.nan
    rows = {row.name: row for row in probe(model, torch.tensor([1, 1, 2])).weights}
    assert math.isnan(rows["1.weight"].std)
    assert math.isnan(rows["0.weight"].gradient_rms or 0.0)
    with torch.no_grad():
        model[1].weight.fill_(0.5)
    report = probe(model, torch.tensor([1, 1, 2]), loss=lambda y: y.sum())
    found = report.weights[0].gradient_rms
    # Each looked-up row gets 4 · 0.5 in each entry, row 1 twice.
    assert found == pytest.approx(math.sqrt((4.0**2 + 2.0**2) * 4 / 40))


# Inputs and outputs.


@dataclass
class Pair:
    """A model's own type of output."""

    states: Tensor
    logits: Tensor


def test_any_nesting() -> None:
    def forward(m: Any, x: Any) -> Any:
        hidden = m.layer(x["a"][0])
        return {"ids": x["ids"], "pair": Pair(hidden * 2, hidden + x["a"][1].double().mean())}

    model = Calls(forward, layer=nn.Linear(4, 4))
    inputs = {"x": {"a": (X, X.bfloat16()), "ids": torch.arange(3)}}
    report = probe(model, inputs)
    assert names(report) == ["layer", ""]
    assert report.rows[1].output.rms == pytest.approx(2 * report.rows[0].output.rms)
    assert report.rows[1].gradient is not None


def test_positional_and_keyword_arguments() -> None:
    class Model(nn.Module):
        def forward(self, x: Tensor, *, scale: Tensor) -> Tensor:
            return x * scale

    assert names(probe(Model(), {"x": X, "scale": X})) == [""]
    assert names(probe(nn.Bilinear(4, 4, 2), (X, X))) == [""]


def test_outputs_without_numbers_have_no_row() -> None:
    class Largest(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x.argmax(-1)

    model = Calls(lambda m, x: (m.layer(x), m.largest(x)), layer=nn.Linear(4, 4), largest=Largest())
    assert names(probe(model, X)) == ["layer"]


def test_what_is_not_finite_counts_in_every_output() -> None:
    class Two(nn.Module):
        def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
            return x, x / 0

    (row,) = probe(Two(), X + 0.1).rows
    assert (row.output.rms > 0, row.output.infs) == (True, 12)


@pytest.mark.parametrize("reentrant", [False, True])
def test_checkpoints(reentrant: bool) -> None:
    def forward(m: Any, x: Tensor) -> Tensor:
        return m.last(checkpoint(m.block, m.first(x), use_reentrant=reentrant))

    block = nn.Sequential(nn.Linear(4, 4), nn.Tanh())
    model = Calls(forward, first=nn.Linear(4, 4), block=block, last=nn.Linear(4, 4))
    report = probe(model, X)
    assert names(report) == ["first", "block.0", "block.1", "last"]
    assert only(report, "first").gradient is not None
    assert (only(report, "block.0").gradient is None) == reentrant
    assert all(weight.gradient_rms for weight in report.weights)
    assert all(parameter.grad is None for parameter in model.parameters())
    assert any("checkpoint" in note for note in report.notes) == reentrant


def test_wrappers_are_left_out() -> None:
    model = nn.Sequential(nn.Linear(4, 4), nn.Tanh())
    assert names(probe(nn.DataParallel(model), X)) == ["0", "1"]
    average = torch.optim.swa_utils.AveragedModel(model)
    assert names(probe(average, X)) == ["0", "1"]


def test_compiled_modules_run_as_written() -> None:
    def fails(*_: object) -> None:
        raise AssertionError("compiled")

    model = nn.Sequential(nn.Linear(4, 4), nn.Tanh())
    assert names(probe(torch.compile(model, backend=fails), X)) == ["0", "1"]
    model[0].compile(backend=fails)
    assert names(probe(model, X)) == ["0", "1"]
