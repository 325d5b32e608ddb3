"""After a probe everything is as it was, whether its passes return or raise."""

from __future__ import annotations

import copy
import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from fanin.errors import ProbeError
from fanin.probing import probe
from fanin.probing.measuring.isolation import undisturbed
from fanin.probing.measuring.tensors import copied


class FailsBackward(torch.autograd.Function):
    """The identity; its backward raises."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        return x.clone()

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        random.random()
        torch.rand(1)
        raise ValueError("no way back")


class Restless(nn.Module):
    """Changes whatever a forward pass can change, then raises where it is told to."""

    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.BatchNorm1d(4)
        self.drop = nn.Dropout(0.5)
        self.layer = nn.utils.parametrizations.spectral_norm(nn.Linear(4, 4))
        self.frozen = nn.Linear(4, 4).requires_grad_(False)
        self.register_buffer("replaced", torch.zeros(2))
        self.register_buffer("written", torch.zeros(2))
        self.register_buffer("reshaped", torch.zeros(2))
        self.raises = ""

    def forward(self, x: Tensor) -> Tensor:
        self.replaced = torch.ones(2)
        self.written += 1
        self.reshaped.data = torch.ones(3)
        self.register_buffer("new", torch.ones(1), persistent=False)
        random.random()
        np.random.rand()
        self.drop.train(not self.drop.training)
        self.frozen.requires_grad_(True)
        y = self.drop(self.layer(self.frozen(self.norm(x))))
        torch.set_grad_enabled(True)
        y.sum().backward(retain_graph=True)
        torch.autograd.set_detect_anomaly(True)
        if self.raises == "forward":
            raise ValueError("no way on")
        return FailsBackward.apply(y) if self.raises == "backward" else y


@contextmanager
def unchanged(model: nn.Module) -> Iterator[None]:
    """Fails where a body leaves anything of a model, or of the process, other than it was."""
    state = copy.deepcopy(dict(model.state_dict()))
    places = {name: id(tensor) for name, tensor in model.named_buffers()}
    gradients = {name: p.grad for name, p in model.named_parameters()}
    values = {name: g.clone() for name, g in gradients.items() if g is not None}
    requires = {name: p.requires_grad for name, p in model.named_parameters()}
    before = _snapshot(model)
    yield
    now = model.state_dict()
    assert list(now) == list(state)
    assert all(torch.equal(now[name], state[name]) for name in state)
    assert {name: id(tensor) for name, tensor in model.named_buffers()} == places
    for name, parameter in model.named_parameters():
        assert parameter.grad is gradients[name]
        assert parameter.requires_grad == requires[name]
        if parameter.grad is not None:
            assert torch.equal(parameter.grad, values[name])
    assert _snapshot(model) == before


def _snapshot(model: nn.Module) -> object:
    hooks = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")
    flags = ("_forward_hooks_with_kwargs", "_forward_hooks_always_called")
    return (
        [[list(getattr(m, kind).items()) for kind in (*hooks, *flags)] for m in model.modules()],
        [m.training for m in model.modules()],
        [p._backward_hooks for p in model.parameters()],
        [dict(p._post_accumulate_grad_hooks or {}) for p in model.parameters()],
        torch.get_rng_state().tolist(),
        random.getstate(),
        np.random.get_state()[1].tolist(),
        torch.is_grad_enabled(),
        torch.is_anomaly_enabled(),
        torch.is_anomaly_check_nan_enabled(),
        torch.is_inference_mode_enabled(),
        torch.overrides._get_current_function_mode_stack(),
        torch.is_autocast_enabled("cpu"),
    )


@pytest.fixture
def model() -> Restless:
    torch.manual_seed(0)
    made = Restless()
    made.layer.parametrizations.weight.original.grad = torch.ones(4, 4)
    made.norm.weight.grad = torch.ones(4)
    made.layer.register_forward_hook(lambda *_: None)
    return made


def test_a_probe_leaves_nothing(model: Restless) -> None:
    with unchanged(model):
        probe(model, torch.randn(8, 4, generator=torch.Generator().manual_seed(1)))


@pytest.mark.parametrize("where", ["forward", "backward"])
def test_a_probe_that_raises_leaves_nothing(model: Restless, where: str) -> None:
    model.raises = where
    x = torch.ones(8, 4)
    with unchanged(model), pytest.raises(ProbeError, match=f"the {where} pass runs through") as it:
        probe(model, x)
    assert isinstance(it.value.__cause__, ValueError)


def test_a_loss_that_raises_leaves_nothing(model: Restless) -> None:
    def loss(output: Tensor) -> Tensor:
        raise KeyError("labels")

    with unchanged(model), pytest.raises(ProbeError, match=r"loss= takes .* Got KeyError"):
        probe(model, torch.ones(8, 4), loss=loss)


def test_an_interrupt_leaves_nothing(model: Restless) -> None:
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt("enough")

    handle = model.layer.register_forward_hook(interrupt)
    with unchanged(model), pytest.raises(KeyboardInterrupt, match="enough"):
        probe(model, torch.ones(8, 4))
    handle.remove()


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode, torch.enable_grad])
def test_gradients_come_whatever_the_mode(mode: Callable[[], Any]) -> None:
    model = nn.Linear(4, 4)
    x = torch.ones(2, 4)
    with mode(), unchanged(model):
        report = probe(model, x)
    assert report.rows[0].gradient is not None


def test_an_output_that_is_a_parameter_keeps_no_hook() -> None:
    class Table(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight = nn.Parameter(torch.ones(3, 2))

        def forward(self, x: Tensor) -> Tensor:
            return self.weight

    model = nn.Sequential(Table(), nn.Tanh())
    with unchanged(model):
        report = probe(model, torch.ones(1))
    assert report.rows[0].gradient is not None


def test_an_optimizer_in_the_backward_pass_does_not_step() -> None:
    model = nn.Linear(2, 2)
    fired = []
    model.weight.register_post_accumulate_grad_hook(fired.append)
    with undisturbed(model):
        model(torch.ones(1, 2)).sum().backward()
    assert not fired
    assert model.weight.grad is None
    model(torch.ones(1, 2)).sum().backward()
    assert len(fired) == 1


def test_a_graph_that_the_user_holds_survives() -> None:
    model = nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4)).eval()
    loss = model(torch.ones(2, 4)).sum()
    probe(model, torch.ones(2, 4))
    model.train()
    probe(model, torch.randn(2, 4))
    loss.backward()
    assert model[0].weight.grad is not None


def test_gradients_of_inputs_stay() -> None:
    x = torch.ones(2, 4, requires_grad=True)
    probe(nn.Linear(4, 4), x)
    assert x.grad is None


def test_inputs_that_a_layer_overwrites_stay() -> None:
    class Sums(nn.Module):
        def forward(self, both: list[Tensor], more: dict[str, tuple[Tensor, ...]]) -> Tensor:
            return both[0].relu_() + more["c"][0].mul_(2)

    x, y = torch.linspace(-1, 1, 8).reshape(2, 4), torch.ones(2, 4)
    probe(nn.Sequential(nn.ReLU(inplace=True), nn.Linear(4, 4)), x)
    probe(Sums(), {"both": [x], "more": {"c": (y,)}})
    assert torch.equal(x, torch.linspace(-1, 1, 8).reshape(2, 4))
    assert torch.equal(y, torch.ones(2, 4))


@dataclass(frozen=True)
class Inputs:
    """What a model may take."""

    x: Tensor
    lengths: list[int]


def test_copies_keep_types_and_what_is_one() -> None:
    x = torch.randn(3, 2, requires_grad=True)
    packed = nn.utils.rnn.pack_padded_sequence(x.detach()[None], [3], batch_first=True)
    given = ([x, x], Inputs(x * 2, [1]), {"packed": packed}, "word", None)
    (first, second), inputs, mapping, *rest = copied(given)
    assert first is second is not x
    assert first.is_leaf
    assert first.requires_grad
    assert not inputs.x.is_leaf
    assert torch.equal(inputs.x, x * 2)
    assert inputs.lengths is given[1].lengths
    assert type(mapping["packed"]) is type(packed)
    assert mapping["packed"].data.data_ptr() != packed.data.data_ptr()
    assert rest == ["word", None]


@pytest.mark.parametrize("use_reentrant", [False, True])
def test_the_graph_that_inputs_come_from_survives(use_reentrant: bool) -> None:
    class Checkpointed(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Linear(4, 4)

        def forward(self, x: Tensor) -> Tensor:
            return checkpoint(self.layer, x, use_reentrant=use_reentrant)

    upstream = torch.ones(4, 4, requires_grad=True)
    x = torch.tanh(torch.ones(3, 4) @ upstream)
    probe(Checkpointed(), x)
    assert upstream.grad is None
    x.sum().backward()
    assert upstream.grad is not None


def test_nan_is_no_error_under_anomaly_detection() -> None:
    model = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2))
    with torch.autograd.set_detect_anomaly(True):
        report = probe(model, torch.full((1, 2), torch.nan), loss=lambda y: (y * y).sum())
    assert report.rows[0].gradient is not None
    assert report.rows[0].gradient.nans
