"""What calibration leaves as it was, and what it refuses."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from fanin.calibration import CalibrationError, calibrate
from fanin.errors import ArgumentError, PlanError, UnknownNameError


def net() -> nn.Sequential:
    return nn.Sequential(
        nn.Linear(8, 16), nn.BatchNorm1d(16), nn.Dropout(0.3), nn.ReLU(), nn.Linear(16, 4)
    )


class Failing(nn.Module):
    """Raises, or does worse, once the first layer was calibrated."""

    def __init__(self, what: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.first = nn.Linear(8, 8)
        self.second = nn.utils.parametrizations.weight_norm(nn.Linear(8, 8))
        self.third = nn.Linear(8, 2)
        self.what = what

    def forward(self, x: Tensor) -> Tensor:
        return self.third(self.what(self.second(self.first(x))))


def raising(x: Tensor) -> Tensor:
    raise ZeroDivisionError("no luck")


def state(model: nn.Module) -> dict[str, Tensor]:
    return {name: tensor.clone() for name, tensor in model.state_dict().items()}


@pytest.mark.parametrize("train", [True, False])
@pytest.mark.parametrize("method", ["lsuv", "weight_norm"])
def test_all_but_weights_is_as_before(method: Any, train: bool) -> None:
    model, batch = net().train(train), torch.randn(32, 8, requires_grad=True)
    model(torch.randn(16, 8)).sum().backward()
    gradients = [p.grad for p in model.parameters()]
    model[2].train(not train)
    seen: list[int] = []
    model[0].register_forward_hook(lambda *_: seen.append(1))
    hooks = {name: len(m._forward_hooks) for name, m in model.named_modules()}
    before, given = state(model), batch.detach().clone()
    generators = (torch.get_rng_state(), random.getstate(), np.random.get_state()[1].tolist())

    calibrate(model, batch, method, **({"seed": 0} if method == "lsuv" else {}))

    after = state(model)
    changed = {name for name in after if not torch.equal(before[name], after[name])}
    assert changed == {"0.weight", "0.bias", "4.weight", "4.bias"}
    assert all(p.grad is g for p, g in zip(model.parameters(), gradients, strict=True))
    assert all(p.requires_grad for p in model.parameters())
    assert (model.training, model[2].training, model[0].training) == (train, not train, train)
    assert {name: len(m._forward_hooks) for name, m in model.named_modules()} == hooks
    assert torch.equal(torch.get_rng_state(), generators[0])
    assert random.getstate() == generators[1]
    assert np.random.get_state()[1].tolist() == generators[2]
    assert torch.equal(batch, given)
    assert batch.grad is None
    assert torch.backends.mha.get_fastpath_enabled()
    assert seen


def test_dropout_is_the_same_in_every_call() -> None:
    """A layer with dropout inside is scaled on one mask: the passes after it see the same."""
    layer = nn.MultiheadAttention(16, 2, dropout=0.5, batch_first=True)
    batch = (torch.randn(2, 4, 16),) * 3
    done = calibrate(layer, batch, seed=0, tolerance=1e-4)
    assert done.converged
    assert done.rows[0].iterations == 1


@pytest.mark.parametrize(
    ("what", "message"),
    [
        (raising, r"ZeroDivisionError \(no luck\) after 'second' \(Linear\)"),
        (lambda x: x * torch.nan, r"NaN in the output of 'third' \(Linear\)"),
        (lambda x: x / 0, r"(NaN|infinity) in the output of 'third' \(Linear\)"),
        (lambda x: x * 0, r"Got (the same number everywhere|a constant for 2 of 2).* of 'third'"),
    ],
)
@pytest.mark.parametrize("method", ["lsuv", "weight_norm"])
def test_after_a_failure_weights_are_as_before(
    method: Any, what: Callable[[Tensor], Tensor], message: str
) -> None:
    model = Failing(what)
    before = state(model)
    with pytest.raises(CalibrationError, match=message):
        calibrate(model, torch.randn(32, 8), method)
    after = state(model)
    assert all(torch.equal(before[name], after[name]) for name in before)
    assert all(not m._forward_hooks for m in model.modules())


def test_an_interrupt_restores_too() -> None:
    def interrupt(x: Tensor) -> Tensor:
        raise KeyboardInterrupt

    model = Failing(interrupt)
    before = state(model)
    with pytest.raises(KeyboardInterrupt):
        calibrate(model, torch.randn(32, 8))
    assert all(torch.equal(before[name], tensor) for name, tensor in state(model).items())


def test_the_older_hooks_are_restored() -> None:
    with pytest.warns(FutureWarning, match="weight_norm"):
        layer = nn.utils.weight_norm(nn.Linear(8, 8))
    model = nn.Sequential(layer, nn.Linear(8, 3))
    nn.init.zeros_(model[1].weight)
    nn.init.zeros_(model[1].bias)
    before, weight = state(model), layer.weight
    with pytest.raises(CalibrationError, match="same number everywhere"):
        calibrate(model, torch.randn(32, 8), orthogonal=False)
    assert all(torch.equal(before[name], tensor) for name, tensor in state(model).items())
    assert torch.equal(layer.weight, weight)


def test_several_inputs_and_wrappers() -> None:
    class Two(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b = nn.Linear(4, 8), nn.Linear(3, 8)

        def forward(self, x: Tensor, *, y: Tensor) -> dict[str, Tensor]:
            return {"sum": self.a(x) + self.b(y)}

    inputs = {"x": torch.randn(16, 4), "y": torch.randn(16, 3)}
    model = Two()
    assert calibrate(model, inputs, seed=0).converged
    wrapped = calibrate(nn.DataParallel(Two()), inputs, seed=0)
    assert [row.name for row in wrapped.rows] == ["a", "b"]
    assert calibrate(nn.Bilinear(4, 3, 8), (inputs["x"], inputs["y"]), seed=0).converged


def test_inside_inference_mode_and_no_grad() -> None:
    for mode in (torch.no_grad(), torch.inference_mode()):
        model, batch = net(), torch.randn(32, 8)
        with mode:
            assert calibrate(model, batch, seed=0).converged
        model(batch).sum().backward()


@pytest.mark.parametrize(
    ("keywords", "message"),
    [
        ({"target": 0.0}, r"target is a finite number above 0\. Got 0\.0"),
        ({"tolerance": -1}, "tolerance is a finite number above 0"),
        ({"target": "1"}, "target is a finite number"),
        ({"max_iterations": 0}, "max_iterations is 1 or more"),
        ({"seed": -1}, r"\[0, 2\*\*64\)"),
        ({"only": "layers.9"}, "which fits none"),
        ({"skip": 3}, "a name or a glob, or several"),
        ({"skip": [3]}, r"Got 3\. Write"),
        ({"method": "weight_norm", "seed": 1}, "weight_norm draws nothing"),
    ],
)
def test_refusals(keywords: dict[str, Any], message: str) -> None:
    model = net()
    before = state(model)
    with pytest.raises(ArgumentError, match=message):
        calibrate(model, torch.randn(8, 8), **keywords)
    assert all(torch.equal(before[name], tensor) for name, tensor in state(model).items())


def test_an_unknown_method_is_told_the_known_ones() -> None:
    wrong: Any = "lsvu"
    with pytest.raises(UnknownNameError, match="Did you mean lsuv"):
        calibrate(net(), torch.randn(8, 8), wrong)


def test_models_that_cannot_run() -> None:
    batch = torch.randn(8, 8)
    none: Any = torch.relu
    with pytest.raises(ArgumentError, match=r"calibrate: the model is an nn\.Module"):
        calibrate(none, batch)
    with pytest.raises(PlanError, match="calibrate: every parameter and buffer has values"):
        calibrate(nn.Linear(8, 8, device="meta"), batch)
    with pytest.raises(PlanError, match="calibrate: every parameter has a shape"):
        calibrate(nn.LazyLinear(8), batch)
    with pytest.raises(CalibrationError, match="calls a layer with weights"):
        calibrate(nn.ReLU(), batch)
    with pytest.raises(CalibrationError, match="before any layer returned"):
        calibrate(net(), torch.randn(8, 5))


def test_under_autocast_the_scaled_weights_are_cast() -> None:
    model, batch = net(), torch.randn(32, 8)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        model(batch)  # casts of the weights there were are cached
        done = calibrate(model, batch, seed=0, target=3.0)
        assert torch.is_autocast_cache_enabled()
    assert done.converged
    assert [row.iterations for row in done.rows] == [1, 1]
