from __future__ import annotations

import gc
import weakref
from collections.abc import Callable

import pytest
import torch
from torch import nn
from torch.autograd.graph import get_gradient_edge, register_multi_grad_hook
from torch.distributed import HashStore, destroy_process_group, init_process_group
from torch.distributed.fsdp import fully_shard

from fanin.errors import ArgumentError, PlanError
from fanin.model.construction import deferred, materialize
from fanin.model.construction.deferred import asked_device

Log = list[str]


def linear() -> nn.Linear:
    with deferred():
        return nn.Linear(2, 2)


def ready(model: nn.Module, **arguments: object) -> None:
    """Materialise, and zero what came."""
    materialize(model, **arguments)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.zero_()


def step(model: nn.Module) -> None:
    """A forward and a backward pass."""
    model(torch.ones(1, 2)).sum().backward()


def test_parameters_keep_their_identity_and_get_memory() -> None:
    layer = linear()
    before = dict(layer.named_parameters())
    materialize(layer)
    for name, parameter in layer.named_parameters():
        assert parameter is before[name]
        assert type(parameter) is nn.Parameter
        assert parameter.device == torch.device("cpu")
        assert parameter.is_leaf


def test_ties_hold() -> None:
    with deferred():
        model = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2))
        model[1].weight = model[0].weight
    ready(model)
    assert model[0].weight is model[1].weight
    step(model)
    assert model[0].weight.grad is model[1].weight.grad is not None


def test_requires_grad_and_attributes_hold() -> None:
    layer = linear()
    layer.weight.requires_grad_(False)
    layer.weight.tag = "mine"
    layer.bias.tag = "also"
    materialize(layer)
    assert (layer.weight.requires_grad, layer.bias.requires_grad) == (False, True)
    assert (layer.weight.tag, layer.bias.tag) == ("mine", "also")
    assert asked_device(layer.weight) is None


TENSOR_HOOKS: dict[str, Callable[[nn.Parameter, Log], object]] = {
    "register_hook": lambda weight, log: weight.register_hook(lambda grad: log.append("fired")),
    "register_post_accumulate_grad_hook": lambda weight, log: (
        weight.register_post_accumulate_grad_hook(lambda weight: log.append("fired"))
    ),
    "register_multi_grad_hook": lambda weight, log: register_multi_grad_hook(
        [weight], lambda grad: log.append("fired"), mode="any"
    ),
}


@pytest.mark.parametrize("kind", TENSOR_HOOKS)
def test_tensor_hooks_fire(kind: str) -> None:
    layer, log = linear(), Log()
    handle = TENSOR_HOOKS[kind](layer.weight, log)
    ready(layer)
    step(layer)
    assert log == ["fired"]
    handle.remove()
    step(layer)
    assert log == ["fired"]


def test_a_tensor_hook_changes_the_gradient() -> None:
    layer = linear()
    layer.weight.register_hook(lambda grad: 3 * grad)
    ready(layer)
    step(layer)
    assert torch.equal(layer.weight.grad, torch.full((2, 2), 3.0))


MODULE_HOOKS: dict[str, Callable[[nn.Module, Log], object]] = {
    "forward_pre": lambda m, log: m.register_forward_pre_hook(lambda *_: log.append("fired")),
    "forward_pre, kwargs": lambda m, log: m.register_forward_pre_hook(
        lambda *_: log.append("fired"), with_kwargs=True
    ),
    "forward": lambda m, log: m.register_forward_hook(lambda *_: log.append("fired")),
    "forward, kwargs, always": lambda m, log: m.register_forward_hook(
        lambda *_: log.append("fired"), with_kwargs=True, always_call=True
    ),
    "full_backward_pre": lambda m, log: m.register_full_backward_pre_hook(
        lambda *_: log.append("fired")
    ),
    "full_backward": lambda m, log: m.register_full_backward_hook(lambda *_: log.append("fired")),
    "state_dict_pre": lambda m, log: m.register_state_dict_pre_hook(lambda *_: log.append("fired")),
    "state_dict_post": lambda m, log: m.register_state_dict_post_hook(
        lambda *_: log.append("fired")
    ),
    "load_state_dict_pre": lambda m, log: m.register_load_state_dict_pre_hook(
        lambda *_: log.append("fired")
    ),
    "load_state_dict_post": lambda m, log: m.register_load_state_dict_post_hook(
        lambda *_: log.append("fired")
    ),
}


@pytest.mark.parametrize("kind", MODULE_HOOKS)
def test_module_hooks_fire(kind: str) -> None:
    layer, log = linear(), Log()
    MODULE_HOOKS[kind](layer, log)
    ready(layer)
    layer(torch.ones(1, 2, requires_grad=True)).sum().backward()
    layer.load_state_dict(nn.Linear(2, 2).state_dict())
    layer.state_dict()
    assert log == ["fired"]


def test_optimizers_hold_the_same_parameters() -> None:
    layer = linear()
    optimizer = torch.optim.SGD(layer.parameters(), lr=1.0)
    ready(layer)
    step(layer)
    optimizer.step()
    assert torch.equal(layer.weight, torch.full((2, 2), -1.0))


def test_weak_references_hold() -> None:
    layer = linear()
    reference = weakref.ref(layer.weight)
    materialize(layer)
    gc.collect()
    assert reference() is layer.weight


def test_recurrent_layers_know_their_new_memory() -> None:
    with deferred():
        layer = nn.LSTM(2, 3, num_layers=2, bidirectional=True)
    parameters = list(layer.parameters())
    ready(layer)
    assert all(a is b for a, b in zip(layer.parameters(), parameters, strict=True))
    assert all(a is b for a, b in zip(layer._flat_weights, parameters, strict=True))
    layer(torch.ones(1, 1, 2))[0].sum().backward()
    assert all(parameter.grad is not None for parameter in parameters)


def test_strides_hold() -> None:
    with deferred():
        layer = nn.Conv2d(4, 4, 3)
    layer.to(memory_format=torch.channels_last)
    materialize(layer)
    assert layer.weight.is_contiguous(memory_format=torch.channels_last)


def test_a_real_model_is_left_alone() -> None:
    layer = nn.Linear(2, 2)
    results = layer(torch.ones(1, 2))  # a live graph is no obstacle
    pointers = [parameter.data_ptr() for parameter in layer.parameters()]
    materialize(layer)
    assert [parameter.data_ptr() for parameter in layer.parameters()] == pointers
    results.sum().backward()
    assert layer.weight.grad is not None


def test_dtype_is_for_numbers_with_a_fraction() -> None:
    with deferred():
        model = nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2))
    model.append(nn.Linear(2, 2))
    parameters = list(model.parameters())
    ready(model, dtype=torch.float64)
    assert {parameter.dtype for parameter in model.parameters()} == {torch.float64}
    assert all(a is b for a, b in zip(model.parameters(), parameters, strict=True))
    assert model[1].running_var.dtype == torch.float64
    assert model[1].num_batches_tracked.dtype == torch.int64


def test_hooks_of_parameters_that_are_only_cast_fire() -> None:
    layer, log = nn.Linear(2, 2), Log()
    layer.weight.register_hook(lambda grad: log.append("fired"))
    materialize(layer, dtype=torch.float64)
    layer(torch.ones(1, 2, dtype=torch.float64)).sum().backward()
    assert log == ["fired"]


def test_device_none_means_where_it_was_asked_for() -> None:
    layer = linear()
    with torch.device("meta"):
        other = nn.Linear(2, 2)
    with torch.device("cpu"):
        materialize(nn.ModuleList([layer, other]))
    assert layer.weight.device == other.weight.device == torch.device("cpu")


def test_settings_come_back() -> None:
    torch.__future__.set_swap_module_params_on_conversion(True)
    try:
        ready(linear())
        assert torch.__future__.get_swap_module_params_on_conversion()
    finally:
        torch.__future__.set_swap_module_params_on_conversion(False)


def test_meta_buffers_are_refused_by_name() -> None:
    with torch.device("meta"):
        model = nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2))
    with pytest.raises(PlanError, match=r"'1.running_mean', '1.running_var', .*fanin.deferred"):
        materialize(model)
    assert all(parameter.is_meta for parameter in model.parameters())


def test_meta_buffers_that_will_be_written_get_memory() -> None:
    with torch.device("meta"):
        model = nn.Sequential(nn.BatchNorm1d(2))
    buffers = dict(model.named_buffers())
    materialize(model, buffers=set(buffers), dtype=torch.float64)
    assert all(not buffer.is_meta for buffer in model.buffers())
    assert model[0].running_mean is buffers["0.running_mean"]
    assert [buffer.dtype for buffer in model.buffers()] == [torch.float64] * 2 + [torch.int64]


def test_lazy_parameters_move_and_stay_lazy() -> None:
    with torch.device("meta"):
        model = nn.Sequential(nn.LazyLinear(2), nn.LazyConv1d(2, 1))
    materialize(model, dtype=torch.float64)
    assert isinstance(model[0].weight, nn.UninitializedParameter)
    assert model[0](torch.ones(1, 3, dtype=torch.float64)).shape == (1, 2)


@pytest.mark.parametrize(
    "hold",
    [
        lambda weight: get_gradient_edge(weight).node,
        lambda weight: register_multi_grad_hook([weight], lambda grads: None, mode="all"),
        lambda weight: (weight * 2).sum(),
        lambda weight: setattr(weight, "grad", torch.ones_like(weight)),
    ],
)
def test_what_would_be_lost_is_refused(hold: Callable[[nn.Parameter], object]) -> None:
    model = nn.Sequential(linear(), linear())
    held = hold(model[1].weight)
    with pytest.raises(PlanError, match=r"hook on its gradient's node for '1.weight'"):
        materialize(model)
    assert all(parameter.is_meta for parameter in model.parameters())
    del held


def test_shared_memory_is_refused() -> None:
    layer = linear()
    layer.again = nn.Parameter(layer.weight.data)
    with pytest.raises(PlanError, match="'weight' and 'again'"):
        materialize(layer)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"device": "meta"}, "memory is on a real device"),
        ({"dtype": torch.int8}, r"Got torch.int8"),
    ],
)
def test_arguments_are_checked(arguments: dict[str, object], message: str) -> None:
    with pytest.raises(ArgumentError, match=message):
        materialize(linear(), **arguments)


def test_a_meta_default_device_is_refused() -> None:
    layer = linear()
    with torch.device("meta"), pytest.raises(ArgumentError, match="memory is on a real device"):
        materialize(layer)


def test_sharded_parameters_get_their_shard() -> None:
    log = Log()
    init_process_group("gloo", store=HashStore(), rank=0, world_size=1)
    try:
        model = nn.Sequential(linear(), linear())
        for layer in (*model, model):
            fully_shard(layer, mesh=torch.distributed.init_device_mesh("cpu", (1,)))
        weight = model[0].weight
        weight.tag = "mine"
        weight.register_hook(lambda grad: log.append("fired"))
        materialize(model)
        assert model[0].weight is weight
        assert weight.to_local().device == torch.device("cpu")
        assert weight.tag == "mine"
        weight.sum().backward()
        assert log == ["fired"]
        model(torch.ones(1, 2)).sum().backward()
    finally:
        destroy_process_group()
