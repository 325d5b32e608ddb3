"""What a trace refuses, and what it leaves as it was."""

from __future__ import annotations

import copy
import random
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from fanin.errors import ArgumentError, TraceError
from fanin.flow import trace


class Reads(nn.Module):
    """Branches on what its weight computes."""

    def __init__(self) -> None:
        super().__init__()
        self.gate = nn.Linear(4, 1)

    def forward(self, x: Tensor) -> Tensor:
        return x if self.gate(x).mean().item() > 0 else -x


def test_values_that_depend_on_parameters_are_not_read() -> None:
    model = nn.Sequential(nn.Linear(4, 4), Reads())
    with pytest.raises(
        TraceError, match=r"RuntimeError in '1' \(Reads\).*depend on parameters"
    ) as e:
        trace(model, torch.empty(2, 4))
    assert isinstance(e.value.__cause__, RuntimeError)


def test_inputs_that_do_not_fit() -> None:
    with pytest.raises(TraceError, match=r"in '0' \(Linear\).*Correct example_inputs"):
        trace(nn.Sequential(nn.Linear(4, 4)), torch.empty(2, 3))


def test_lazy_parameters() -> None:
    with pytest.raises(TraceError, match=r"lazy ones: 'weight', 'bias'.*example_inputs"):
        trace(nn.LazyLinear(3), torch.empty(2, 4))


def test_what_is_no_module() -> None:
    wrong: Any = torch.relu
    with pytest.raises(ArgumentError, match=r"is an nn\.Module\. Got builtin"):
        trace(wrong, torch.empty(2))


def test_what_cannot_be_copied() -> None:
    model = nn.Linear(2, 2)
    vars(model)["source"] = (i for i in range(3))
    with pytest.raises(TraceError, match=r"from copy.deepcopy: cannot pickle"):
        trace(model, torch.empty(1, 2))


class Everything(nn.Module):
    """Draws, writes buffers and attributes, and may raise."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.utils.parametrizations.weight_norm(nn.Linear(4, 4))
        self.norm = nn.BatchNorm1d(4)
        self.dropout = nn.Dropout()
        self.num_calls = 0

    def forward(self, x: Tensor, fails: bool) -> Tensor:
        self.num_calls += 1
        if torch.rand([]) > 2 or random.random() > 2 or np.random.rand() > 2:
            return x
        x = self.dropout(self.norm(self.linear(x)))
        if fails:
            raise ValueError("asked to")
        return x


@pytest.mark.parametrize("fails", [False, True])
def test_nothing_changes(fails: bool) -> None:
    model, x = Everything(), torch.randn(3, 4)
    hooked: list[object] = []
    model.norm.register_forward_hook(lambda *_: hooked.append(1))
    before, hooks = copy.deepcopy(model.state_dict()), dict(model.norm._forward_hooks)
    states = torch.get_rng_state(), random.getstate(), repr(np.random.get_state())
    given = x.clone()
    if fails:
        with pytest.raises(TraceError, match=r"ValueError in 'the model'.*asked to"):
            trace(model, (x, True))
    else:
        found = trace(model, (x, False))
        assert found.notes == ("The hooks of 'norm' do not run.",)
    assert hooked == []
    assert model.num_calls == 0
    assert model.norm._forward_hooks == hooks
    assert not model._forward_hooks
    assert not model._forward_pre_hooks
    assert all(torch.equal(before[name], tensor) for name, tensor in model.state_dict().items())
    assert torch.equal(x, given)
    assert torch.equal(states[0], torch.get_rng_state())
    assert states[1] == random.getstate()
    assert states[2] == repr(np.random.get_state())
    assert torch.is_grad_enabled()
    assert model.training
    assert torch.empty(1).device.type == "cpu"


def test_inside_inference_mode() -> None:
    with torch.inference_mode():
        model = nn.Sequential(nn.Linear(3, 3), nn.ReLU(inplace=True))
        assert trace(model, torch.empty(1, 3)).followed_by("0.weight") == ("relu",)
        assert torch.is_inference_mode_enabled()


def test_experts_that_are_picked_by_index_are_refused_in_words() -> None:
    class Picked(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.router, self.expert = nn.Linear(4, 2), nn.Linear(4, 4)

        def forward(self, x: Tensor) -> Tensor:
            rows = (self.router(x).argmax(-1) == 0).nonzero()[:, 0]
            return self.expert(x[rows])

    with pytest.raises(TraceError, match=r"computes all entries and masks the results") as caught:
        trace(Picked(), torch.empty(3, 4))
    assert "torch.fx" not in str(caught.value)
