"""Torch's own layers in a deferred context: devices, copies, nesting, threads, parametrizations."""

from __future__ import annotations

import copy
import threading
from collections.abc import Callable

import pytest
import torch
from torch import nn
from torch.nn.utils import parametrizations, parametrize

from fanin.errors import PlanError
from fanin.model.construction import deferred, is_computed, materialize
from fanin.model.construction.deferred import asked_device


def test_layers_are_deferred_and_buffers_are_real() -> None:
    with deferred():
        model = nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2), nn.LSTM(2, 3), nn.Linear(3, 1))
    assert all(parameter.is_meta for parameter in model.parameters())
    assert all(not buffer.is_meta for buffer in model.buffers())
    assert torch.equal(model[1].running_var, torch.ones(2))


def test_dtype_and_default_dtype_are_kept() -> None:
    torch.set_default_dtype(torch.float64)
    try:
        with deferred():
            model = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2, dtype=torch.bfloat16))
    finally:
        torch.set_default_dtype(torch.float32)
    assert [layer.weight.dtype for layer in model] == [torch.float64, torch.bfloat16]


def test_meta_that_was_asked_for_stays_meta() -> None:
    with deferred():
        with torch.device("meta"):
            outer = nn.BatchNorm1d(2)
        inner = nn.Linear(2, 2, device="meta")
    assert outer.running_var.is_meta
    assert asked_device(outer.weight) is asked_device(inner.weight) is None


def test_deep_copies_of_a_layer_are_deferred() -> None:
    with deferred():
        layer = nn.TransformerEncoderLayer(8, 2, 8)
        model = nn.ModuleList([layer, copy.deepcopy(layer)])
    assert all(parameter.is_meta for parameter in model.parameters())


def test_lazy_parameters_stay_lazy() -> None:
    with deferred():
        layer = nn.LazyLinear(3)
        assert isinstance(layer.weight, nn.UninitializedParameter)
    materialize(layer)
    assert layer(torch.ones(2, 4)).shape == (2, 3)


def test_nested_contexts_are_one() -> None:
    with deferred():
        with deferred():
            inner = nn.Linear(2, 2)
        outer = nn.Linear(2, 2)
    after = nn.Linear(2, 2)
    assert inner.weight.is_meta
    assert outer.weight.is_meta
    assert not after.weight.is_meta


def test_an_error_inside_ends_the_context() -> None:
    with pytest.raises(RuntimeError, match="mine"), deferred():
        raise RuntimeError("mine")
    assert not nn.Linear(2, 2).weight.is_meta


def test_other_threads_build_as_always() -> None:
    def build_elsewhere() -> None:
        built.append(nn.BatchNorm1d(2))

    built: list[nn.BatchNorm1d] = []
    with deferred():
        thread = threading.Thread(target=build_elsewhere)
        thread.start()
        thread.join()
        here = nn.BatchNorm1d(2)
    assert not built[0].weight.is_meta
    assert not is_computed(built[0].weight)
    assert here.weight.is_meta


def test_contexts_come_and_go_while_other_threads_build() -> None:
    """torch's dictionary of hooks does not change while a registration goes through it."""
    with deferred():
        pass
    hooks = torch.nn.modules.module._global_parameter_registration_hooks
    for _ in hooks.values():  # as `register_parameter` does in another thread
        with deferred():
            layer = nn.Linear(2, 2)
    assert layer.weight.is_meta


def test_a_model_is_finished_outside() -> None:
    with deferred():
        model = nn.Sequential(nn.Linear(2, 2))
    model.append(nn.Linear(2, 1))
    assert [layer.weight.is_meta for layer in model] == [True, False]
    materialize(model)
    assert model(torch.ones(1, 2)).shape == (1, 1)


@pytest.mark.filterwarnings("ignore:.*weight_norm:FutureWarning")
@pytest.mark.parametrize("norm", [parametrizations.weight_norm, nn.utils.weight_norm])
def test_weight_norm_is_deferred_with_its_layer(norm: Callable[[nn.Module], nn.Module]) -> None:
    with deferred():
        layer = norm(nn.Linear(3, 2))
    assert all(parameter.is_meta for parameter in layer.parameters())
    materialize(layer)
    for parameter in layer.parameters():
        nn.init.ones_(parameter)
    assert torch.allclose(layer(torch.ones(1, 3)), torch.tensor(1 + 3**0.5))


@pytest.mark.parametrize(
    ("parametrized", "features"),
    [
        (parametrizations.spectral_norm, 2),
        (parametrizations.orthogonal, 2),
        (parametrizations.orthogonal, 3),
    ],
)
def test_parametrizations_that_need_the_value_are_refused(
    parametrized: Callable[[nn.Module], nn.Module], features: int
) -> None:
    with (
        pytest.raises(PlanError, match=r"needs that of 'weight' of Linear.*after fanin.initialize"),
        deferred(),
    ):
        parametrized(nn.Linear(features, 2))


def test_a_parametrization_of_a_computed_value_is_real() -> None:
    with deferred():
        embedding = nn.Embedding.from_pretrained(torch.eye(2))
        parametrizations.orthogonal(embedding)
    assert torch.allclose(embedding.weight.abs(), torch.eye(2), atol=1e-6)


def test_a_parametrization_without_state_is_deferred() -> None:
    class Symmetric(nn.Module):
        def forward(self, weight: torch.Tensor) -> torch.Tensor:
            return weight.triu() + weight.triu(1).mT

    with deferred():
        layer = nn.Linear(2, 2)
        parametrize.register_parametrization(layer, "weight", Symmetric())
    assert layer.parametrizations.weight.original.is_meta


def test_the_compiler_is_not_imported() -> None:
    import subprocess
    import sys

    program = (
        "import sys; from torch import nn; from fanin.model.construction import deferred\n"
        "with deferred(): nn.Linear(2, 2)\n"
        "print('torch._dynamo' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.stdout == "False\n", done.stderr
