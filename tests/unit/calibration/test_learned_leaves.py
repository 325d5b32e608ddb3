"""What learning scales leaves as it was, which parameters it leaves alone, and what it refuses."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from fanin.calibration import CalibrationError, GradInit, MetaInit, calibrate
from fanin.errors import ArgumentError, PlanError, UnknownNameError

METHODS = [MetaInit(steps=3), GradInit(steps=3), GradInit("adam", steps=3)]


def net() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Linear(8, 16), nn.BatchNorm1d(16), nn.Dropout(0.3), nn.ReLU(), nn.Linear(16, 4)
    )


def mean_square(output: Any) -> Tensor:
    return (output[0] if isinstance(output, tuple) else output).square().mean()


def learned(model: nn.Module, batch: object, method: Any, **keywords: Any) -> Any:
    """With a loss where the method needs one."""
    if isinstance(method, GradInit):
        keywords.setdefault("loss", mean_square)
    return calibrate(model, batch, method, **keywords)


def state(model: nn.Module) -> dict[str, Tensor]:
    return {name: tensor.clone() for name, tensor in model.state_dict().items()}


def assert_as_before(model: nn.Module, before: dict[str, Tensor]) -> None:
    assert all(torch.equal(before[name], tensor) for name, tensor in state(model).items())


@pytest.mark.parametrize("train", [True, False])
@pytest.mark.parametrize("method", METHODS)
def test_all_but_scales_is_as_before(method: Any, train: bool) -> None:
    model, batch = net().train(train), torch.randn(9, 8, requires_grad=True)
    torch.autograd.backward(model(torch.randn(16, 8)).sum())
    gradients = [p.grad for p in model.parameters()]
    model[2].train(not train)
    seen: list[int] = []
    model[0].register_forward_hook(lambda *_: seen.append(1))
    hooks = {name: len(m._forward_hooks) for name, m in model.named_modules()}
    parameters, buffers = list(model.parameters()), list(model.buffers())
    before, given = state(model), batch.detach().clone()
    generators = (torch.get_rng_state(), random.getstate(), np.random.get_state()[1].tolist())

    learned(model, batch, method)

    after = state(model)
    changed = {name for name in after if not torch.equal(before[name], after[name])}
    assert {"0.weight", "4.weight"} <= changed
    assert not any("running" in name or "tracked" in name for name in changed)
    assert all(a is b for a, b in zip(parameters, model.parameters(), strict=True))
    assert all(a is b for a, b in zip(buffers, model.buffers(), strict=True))
    assert all(p.grad is g for p, g in zip(model.parameters(), gradients, strict=True))
    assert all(p.requires_grad and p.is_leaf for p in model.parameters())
    assert (model.training, model[2].training, model[0].training) == (train, not train, train)
    assert {name: len(m._forward_hooks) for name, m in model.named_modules()} == hooks
    assert torch.equal(torch.get_rng_state(), generators[0])
    assert random.getstate() == generators[1]
    assert np.random.get_state()[1].tolist() == generators[2]
    assert torch.equal(batch, given)
    assert batch.grad is None
    assert seen


@pytest.mark.parametrize("method", METHODS)
def test_a_model_is_not_written_while_scales_are_learned(method: Any) -> None:
    """Its own parameters have their values at every call, and all of them at a late failure."""

    class Watching(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Linear(4, 3)
            self.calls = 0

        def forward(self, x: Tensor) -> Tensor:
            self.calls += 1
            if self.calls > 3:
                raise KeyboardInterrupt
            return torch.tanh(self.layer(x))

    model = Watching()
    versions = [p._version for p in model.parameters()]
    before = state(model)
    with pytest.raises(KeyboardInterrupt, match=r"^$"):
        learned(model, torch.randn(6, 4), method)
    assert_as_before(model, before)
    assert [p._version for p in model.parameters()] == versions


def test_an_interrupted_write_is_taken_back(monkeypatch: pytest.MonkeyPatch) -> None:
    from fanin.calibration.scaled import Scaled

    model, before, written = net(), state(net()), []
    write = Scaled.write

    def interrupted(self: Scaled, factor: float) -> None:
        write(self, factor)
        written.append(self.name)
        if self.name == "4.weight":
            raise KeyboardInterrupt

    monkeypatch.setattr(Scaled, "write", interrupted)
    with pytest.raises(KeyboardInterrupt, match=r"^$"):
        learned(model, torch.randn(9, 8), MetaInit(steps=3))
    assert written[-1] == "4.weight"
    assert_as_before(model, before)


@pytest.mark.parametrize("method", METHODS)
def test_tied_weights_have_one_scale(method: Any) -> None:
    class Tied(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.table, self.head = nn.Embedding(10, 6), nn.Linear(6, 10, bias=False)
            self.head.weight = self.table.weight

        def forward(self, ids: Tensor) -> Tensor:
            return self.head(torch.tanh(self.table(ids)))

    model = Tied()
    start = model.table.weight.detach().clone()
    done = learned(model, torch.randint(10, (6, 3)), method)
    assert [row.name for row in done.rows] == ["table.weight"]
    assert model.head.weight is model.table.weight
    torch.testing.assert_close(model.head.weight.detach(), start * done.rows[0].factor)


@pytest.mark.parametrize("method", METHODS)
def test_what_is_left_alone_has_its_reason(method: Any) -> None:
    model = nn.Sequential(
        nn.utils.parametrizations.weight_norm(nn.Linear(6, 6)),
        nn.Tanh(),
        nn.Linear(6, 6),
        nn.Tanh(),
        nn.Linear(6, 6, bias=False),
        nn.Tanh(),
        nn.Linear(6, 3),
    )
    model[2].weight.requires_grad_(False)
    nn.init.zeros_(model[4].weight)
    before = state(model)
    done = learned(model, torch.randn(6, 6), method, skip="6.bias")
    notes = {row.name: row.note for row in done.rows}
    assert notes["0.weight"] == "it is computed from other parameters"
    assert notes["2.weight"] == "it is frozen"
    assert notes["4.weight"] == "it is zero"
    assert notes["6.weight"] == ""
    assert notes.get("6.bias", "in skip=") == "in skip="
    assert "left alone: it is frozen" in str(done)
    after = state(model)
    left = {name for name in before if torch.equal(before[name], after[name])}
    assert {"2.weight", "4.weight", "6.bias"} <= left
    assert all(name in left for name in before if "parametrizations" in name)


def test_the_older_hooks_keep_their_weight() -> None:
    with pytest.warns(FutureWarning, match="weight_norm"):
        layer = nn.utils.weight_norm(nn.Linear(8, 8))
    weight = layer.weight
    model = nn.Sequential(layer, nn.Tanh(), nn.Linear(8, 3))
    learned(model, torch.randn(6, 8), MetaInit(steps=2))
    assert layer.weight is weight


@pytest.mark.parametrize(
    ("keywords", "scaled"),
    [
        ({"only": "4"}, {"4.weight", "4.bias"}),
        ({"only": ["0.weight", "1"]}, {"0.weight", "1.weight"}),
        ({"only": "*.weight", "skip": "1"}, {"0.weight", "4.weight"}),
        ({"skip": ["0", "1.*"]}, {"4.weight", "4.bias"}),
    ],
)
def test_only_and_skip_name_parameters_or_modules(
    keywords: dict[str, Any], scaled: set[str]
) -> None:
    done = learned(net(), torch.randn(9, 8), GradInit(steps=1), **keywords)
    assert {row.name for row in done.rows if not row.note} == scaled


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize(
    ("make", "batch"),
    [
        (lambda: nn.TransformerEncoderLayer(8, 2, 16, batch_first=True), torch.randn(6, 5, 8)),
        (lambda: nn.LSTM(4, 6, num_layers=2), torch.randn(6, 3, 4)),
        (lambda: nn.Conv2d(3, 4, 3), torch.randn(6, 3, 8, 8)),
        (lambda: nn.DataParallel(nn.Bilinear(4, 3, 5)), {"input1": 3, "input2": 4}),
        (lambda: nn.Sequential(nn.Linear(8, 4), nn.GELU()).bfloat16(), torch.randn(6, 8)),
    ],
)
def test_modules_of_many_kinds(method: Any, make: Callable[[], nn.Module], batch: Any) -> None:
    """Attention too, whose fused kernels have one derivative."""
    model = make()
    if isinstance(batch, dict):
        batch = {"input1": torch.randn(6, 4), "input2": torch.randn(6, 3)}
    dtype = next(model.parameters()).dtype
    if isinstance(batch, Tensor):
        batch = batch.to(dtype)
    done = learned(model, batch, method)
    assert done.after is not None
    assert {p.dtype for p in model.parameters()} == {dtype}
    assert all(np.isfinite(row.after) for row in done.rows)


def test_inside_inference_mode_and_no_grad() -> None:
    for mode in (torch.no_grad(), torch.inference_mode()):
        model, batch = net(), torch.randn(9, 8)
        with mode:
            learned(model, batch, MetaInit(steps=1))
        torch.autograd.backward(model(batch).sum())


class Distances(nn.Module):
    """`cdist` has a derivative, and that has none."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(2, 2)

    def forward(self, x: Tensor) -> Tensor:
        return torch.cdist(self.layer(x), torch.eye(2), p=1.5)


class Checkpointed(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(2, 2)

    def forward(self, x: Tensor) -> Any:
        return checkpoint(self.layer, x.requires_grad_(), use_reentrant=True)


class Failing(nn.Module):
    """Calculates with its layer's output whatever it is told."""

    def __init__(self, what: Callable[[Tensor], object]) -> None:
        super().__init__()
        self.layer = nn.Linear(2, 2)
        self.what = what

    def forward(self, x: Tensor) -> object:
        return self.what(self.layer(x))


def raising(x: Tensor) -> Tensor:
    raise ZeroDivisionError("no luck")


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize(
    ("make", "message"),
    [
        (Distances, "differentiates the loss more than once.*cdist_backward.*not implemented"),
        (Checkpointed, "a reentrant checkpoint"),
        (lambda: Failing(raising), r"the forward pass runs through\. Got ZeroDivisionError \(no"),
        (lambda: Failing(lambda x: x * torch.nan), "finite.*Got NaN or infinity"),
        (lambda: Failing(lambda x: (x * 1e30) ** 3), "finite.*Got NaN or infinity"),
    ],
)
def test_after_a_failure_everything_is_as_before(
    method: Any, make: Callable[[], nn.Module], message: str
) -> None:
    model = make()
    before, versions = state(model), [p._version for p in model.parameters()]
    with pytest.raises(CalibrationError, match=message):
        learned(model, torch.randn(6, 2), method)
    assert_as_before(model, before)
    assert [p._version for p in model.parameters()] == versions
    assert all(p.grad is None for p in model.parameters())


def test_losses_that_are_none() -> None:
    batch = torch.randn(6, 8)
    with pytest.raises(ArgumentError, match="gradinit needs a loss"):
        calibrate(net(), batch, "gradinit")
    with pytest.raises(ArgumentError, match=r"returns one .* tensor of shape \(6, 4\)"):
        calibrate(net(), batch, "metainit", loss=lambda output: output)
    wrong: Any = 3
    with pytest.raises(ArgumentError, match=r"a function of the model's output\. Got 3"):
        calibrate(net(), batch, "metainit", loss=wrong)
    with pytest.raises(ArgumentError, match="Got targets without a loss"):
        calibrate(net(), batch, "metainit", targets=batch)
    with pytest.raises(
        CalibrationError, match=r"takes the model's output, and targets\. Got Value"
    ):
        calibrate(net(), batch, "metainit", loss=F.cross_entropy, targets=batch[:2])
    with pytest.raises(CalibrationError, match="depends on its parameters"):
        calibrate(Failing(lambda x: torch.ones(2)), torch.randn(6, 2), "metainit")
    with pytest.raises(CalibrationError, match="a gradient of zero"):
        calibrate(net(), batch, "gradinit", loss=lambda output: output.sum() * 0)


def test_a_models_own_loss_is_taken() -> None:
    class Own(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Linear(8, 4)

        def forward(self, x: Tensor, labels: Tensor) -> dict[str, Tensor]:
            logits = self.layer(x)
            return {"loss": F.cross_entropy(logits, labels), "logits": logits}

    batch = {"x": torch.randn(9, 8), "labels": torch.randint(4, (9,))}
    for method in METHODS:
        assert calibrate(Own(), batch, method).loss == "the model's own loss"


@pytest.mark.parametrize(
    ("keywords", "message"),
    [
        ({"seed": 1}, r"Got seed=, of lsuv"),
        ({"target": 2.0, "orthogonal": True}, r"Got target=, orthogonal=, of lsuv"),
        ({"max_iterations": 5}, r"fanin\.calibration\.MetaInit\(\.\.\.\)"),
        ({"only": "layers.9"}, "names parameters, or modules that have some.*which fits none"),
        ({"skip": 3}, "a name or a glob, or several"),
    ],
)
def test_refusals(keywords: dict[str, Any], message: str) -> None:
    model, wanted = net(), "metainit"
    before = state(model)
    method: Any = wanted
    with pytest.raises(ArgumentError, match=message):
        calibrate(model, torch.randn(8, 8), method, **keywords)
    assert_as_before(model, before)


@pytest.mark.parametrize("method", ["lsuv", "weight_norm"])
def test_layer_by_layer_there_is_no_loss(method: Any) -> None:
    with pytest.raises(ArgumentError, match=r"outputs of layers alone\. Got loss= or targets="):
        calibrate(net(), torch.randn(8, 8), method, loss=mean_square)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: MetaInit(steps=0), r"MetaInit: steps is a whole number from 1\. Got 0"),
        (lambda: MetaInit(rate=1.5), r"rate is a number above 0 and below 1\. Got 1\.5"),
        (lambda: MetaInit(momentum=-0.1), "momentum is a number from 0 and below 1"),
        (lambda: MetaInit(epsilon=0), "epsilon is a number above 0 and below inf"),
        (lambda: GradInit(step_size=0), "GradInit: step_size is a number above 0"),
        (lambda: GradInit(gradient_bound=-1), "gradient_bound is a number above 0"),
        (lambda: GradInit(lowest=1.0), "lowest is a number above 0 and below 1"),
    ],
)
def test_settings_out_of_range(make: Callable[[], object], message: str) -> None:
    with pytest.raises(ArgumentError, match=message):
        make()


def test_an_unknown_optimizer_is_told_the_known_ones() -> None:
    wrong: Any = "adamw"
    with pytest.raises(UnknownNameError, match="Did you mean adam"):
        GradInit(wrong)


def test_models_that_cannot_learn() -> None:
    batch = torch.randn(8, 8)
    with pytest.raises(PlanError, match="calibrate: every parameter and buffer has values"):
        calibrate(nn.Linear(8, 8, device="meta"), batch, "metainit")
    with pytest.raises(CalibrationError, match=r"scales parameters that training.* of 2\. Unfr"):
        calibrate(nn.Linear(8, 8).requires_grad_(False), batch, "metainit")
    with pytest.raises(CalibrationError, match="Got none, of 0"):
        calibrate(nn.ReLU(), batch, "metainit")
