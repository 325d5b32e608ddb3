"""What a probe refuses, and the unusual that it bears."""

from __future__ import annotations

import copy
import math
import warnings
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from small_models import Calls, X, names
from torch import Tensor, nn
from torch.distributed import HashStore
from torch.distributed.device_mesh import DeviceMesh, init_device_mesh
from torch.distributed.fsdp import fully_shard

import fanin
from fanin.errors import ArgumentError, PlanError, ProbeError
from fanin.probing import probe

# What a probe refuses.


def test_a_model_without_values() -> None:
    model = nn.Linear(4, 4, device="meta")
    with pytest.raises(PlanError, match=r"Got the meta device for 'weight', 'bias'\. Initialize"):
        probe(model, X)


@pytest.mark.filterwarnings("ignore:Lazy modules")
def test_a_model_without_shapes() -> None:
    with pytest.raises(PlanError, match=r"Got lazy ones: 'weight', 'bias'\. Give them shapes"):
        probe(nn.LazyLinear(4), X)


def test_the_module_that_raises_is_named() -> None:
    model = nn.Sequential(nn.Linear(4, 4), nn.Sequential(nn.Tanh(), nn.Linear(5, 4)))
    with pytest.raises(ProbeError, match=r"Got RuntimeError \(mat1 .*\) in '1\.1' \(Linear\)"):
        probe(model, X)
    with pytest.raises(ProbeError, match=r"Got TypeError .* in Sequential"):
        probe(model, (X, X))


def test_a_batch_of_nothing() -> None:
    for model in (nn.Linear(4, 4), nn.Sequential(nn.Linear(4, 4), nn.ReLU())):
        with pytest.raises(
            ProbeError, match=r"Got none in the output of .* \(Linear\)\. Pass inputs"
        ):
            probe(model, X[:0])


def test_the_gradient_that_arrived_last_is_named() -> None:
    def forward(m: Any, x: Tensor) -> Tensor:
        hidden = m.first(x)
        hidden = hidden * 1
        hidden.register_hook(lambda gradient: gradient[0, 0, 0])
        return m.last(hidden)

    model = Calls(forward, first=nn.Linear(4, 4), last=nn.Linear(4, 4))
    with pytest.raises(ProbeError, match=r"IndexError .* after 'last' had got its gradient"):
        probe(model, X)


@pytest.mark.parametrize(
    ("loss", "got"),
    [
        (lambda y: y, r"a torch.float32 tensor of shape \(3, 4\)"),
        (lambda y: 1.0, "1.0"),
        (lambda y: y.argmax(), r"a torch.int64 tensor of shape \(\)"),
    ],
)
def test_a_loss_is_one_number(loss: Any, got: str) -> None:
    with pytest.raises(ArgumentError, match=f"one floating-point number as a tensor. Got {got}"):
        probe(nn.Linear(4, 4), X, loss=loss)


def test_the_plan_of_another_model() -> None:
    plan = fanin.plan(nn.Sequential(nn.Linear(4, 4)), "kaiming", seed=0)
    with pytest.raises(ArgumentError, match=r"Got one for '0.bias', '0.weight', and a model with"):
        probe(nn.Linear(4, 4), X, plan=plan)


# Models and arguments that a probe cannot take, or takes with a note.


def test_what_is_no_module_and_no_plan() -> None:
    function: Any = torch.tanh
    name: Any = "kaiming"
    with pytest.raises(ArgumentError, match=r"the model is an nn.Module. Got builtin_function"):
        probe(function, X)
    with pytest.raises(ArgumentError, match=r"plan= is a Plan. Got 'kaiming'. Make one with"):
        probe(nn.Linear(4, 4), X, plan=name)


def test_a_program_of_torch_jit_is_refused() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch.jit is deprecated
        program = torch.jit.trace(nn.Sequential(nn.Linear(4, 4), nn.ReLU()), X)
    with pytest.raises(ArgumentError, match=r"torch.jit program does not. Got one for all of it"):
        probe(program, X)
    with pytest.raises(ArgumentError, match=r"torch.jit program does not. Got one for '1'\. Probe"):
        probe(nn.Sequential(nn.ReLU(), program), X)


def test_shards_are_refused(one_process_mesh: DeviceMesh) -> None:
    model = nn.Sequential(nn.Linear(4, 4), nn.ReLU())
    fully_shard(model, mesh=one_process_mesh)
    with pytest.raises(ArgumentError, match=r"Got pieces, or DTensors, for '0.weight', '0.bias'\."):
        probe(model, X)


@pytest.fixture
def one_process_mesh() -> Iterator[DeviceMesh]:
    torch.distributed.init_process_group("gloo", rank=0, world_size=1, store=HashStore())
    yield init_device_mesh("cpu", (1,))
    torch.distributed.destroy_process_group()


def test_calls_inside_vmap_have_no_row_but_a_note() -> None:
    model = Calls(lambda m, x: torch.func.vmap(lambda v: torch.tanh(m.l(v)))(x), l=nn.Linear(4, 4))
    report = probe(model, X)
    assert names(report) == [""]
    assert "no rows inside torch.func transforms: 'l'" in report.notes
    gradient = {row.name: row.gradient_rms for row in report.weights}["l.weight"]
    assert gradient is not None
    assert gradient > 0


def test_a_frozen_float8_parameter_is_measured() -> None:
    model = nn.Linear(4, 4)
    values = torch.linspace(-1, 1, 6000).reshape(2, 3000).t().to(torch.float8_e4m3fn)
    model.scales = nn.Parameter(values, requires_grad=False)
    (row,) = [row for row in probe(model, X).weights if row.name == "scales"]
    assert row.std == pytest.approx(float(values.double().std(correction=0)))
    assert row.histogram is not None
    assert (row.histogram.low, row.histogram.high) == (-1, 1)


@pytest.mark.parametrize("backward", [True, False])
def test_a_model_made_in_inference_mode(backward: bool) -> None:
    with torch.inference_mode():
        model = nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4))
    with pytest.raises(ProbeError, match=r"Make the model outside torch.inference_mode\(\), or"):
        probe(model, X, backward=backward)
    assert probe(copy.deepcopy(model), X).rows[0].gradient is not None


def test_inputs_made_in_inference_mode() -> None:
    with torch.inference_mode():
        x = torch.ones(3, 4)
    assert probe(nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4)), x).rows[0].gradient is not None


def test_a_computed_weight_has_no_gradient_but_a_note() -> None:
    report = probe(nn.Sequential(nn.utils.parametrizations.weight_norm(nn.Linear(4, 4))), X)
    assert "no gradients of weights that are computed: '0.weight'" in report.notes
    assert {row.name: row.gradient_rms is None for row in report.weights} == {
        "0.weight": True,
        "0.bias": False,
    }


def test_a_loss_that_is_nan_is_reported() -> None:
    loss = probe(nn.Linear(4, 4), X, loss=lambda y: (y * torch.inf).sum()).loss
    assert loss is not None
    assert not math.isfinite(loss)
