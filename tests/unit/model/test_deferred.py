"""`deferred`: what has memory, and what is known of values."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import nn

import fanin
from fanin.errors import PlanError
from fanin.model.construction import deferred, is_computed, materialize
from fanin.model.construction.deferred import asked_device


class Holder(nn.Module):
    """A module whose constructor is the function it is given."""

    def __init__(self, build: Callable[[Holder], object]) -> None:
        super().__init__()
        self.kept: object = None
        build(self)


def holder(build: Callable[[Holder], object]) -> Holder:
    with deferred():
        return Holder(build)


def register(module: nn.Module, value: torch.Tensor, name: str = "p") -> nn.Parameter:
    parameter = nn.Parameter(value)
    module.register_parameter(name, parameter)
    return parameter


@pytest.mark.parametrize(
    "empty",
    [
        lambda: torch.empty(2, 3),
        lambda: torch.Tensor(2, 3),
        lambda: torch.FloatTensor(2, 3),
        lambda: torch.empty_like(torch.ones(2, 3)),
        lambda: torch.ones(2).new_empty(2, 3),
        lambda: torch.empty_strided((2, 3), (3, 1)),
        lambda: torch.empty(3, 2).t(),
        lambda: torch.empty(2, 3, dtype=torch.float64).float(),
        lambda: torch.empty(2, 3).clone(),
        lambda: torch.empty(6).view(2, 3),
        lambda: torch.empty(0, 3),
    ],
)
def test_memory_that_nobody_wrote_is_deferred(empty: Callable[[], torch.Tensor]) -> None:
    strides = empty().stride()
    parameter = holder(lambda self: register(self, empty())).p
    assert parameter.is_meta
    assert not is_computed(parameter)
    assert parameter.stride() == strides


@pytest.mark.parametrize(
    "value",
    [
        lambda: torch.ones(3),
        lambda: torch.log(torch.arange(1.0, 4)),
        lambda: torch.empty(3).fill_(2),
        lambda: nn.init.constant_(torch.empty(3), 2.0),
        lambda: torch.full((3,), 2.0, out=torch.empty(3)),
        lambda: torch._foreach_add([torch.empty(3).zero_()], 1.0)[0],
        lambda: torch.tensor([1.0, 2.0, 3.0]),
        lambda: fanin.init.constant_(torch.empty(3), 2.0),
    ],
)
def test_a_computed_value_stays(value: Callable[[], torch.Tensor]) -> None:
    parameter = holder(lambda self: register(self, value())).p
    assert is_computed(parameter)
    assert torch.equal(parameter, value())


def test_a_write_through_a_view_is_a_write() -> None:
    def build(self: Holder) -> None:
        memory = torch.empty(2, 3)
        torch._foreach_zero_([memory[0], memory[1]])
        register(self, memory)

    assert torch.equal(holder(build).p, torch.zeros(2, 3))


def test_pretrained_embeddings_stay() -> None:
    table = torch.arange(6.0).view(2, 3)
    with deferred():
        embedding = nn.Embedding.from_pretrained(table)
    assert is_computed(embedding.weight)
    assert torch.equal(embedding.weight, table)


def test_a_part_of_a_larger_memory_stays_and_is_not_called_computed() -> None:
    parameter = holder(lambda self: register(self, torch.empty(6)[:3])).p
    assert not parameter.is_meta
    assert not is_computed(parameter)


def test_nothing_is_drawn_for_deferred_parameters() -> None:
    torch.manual_seed(0)
    expected = torch.rand(3)
    torch.manual_seed(0)
    with deferred():
        nn.init.trunc_normal_(nn.Linear(4, 4).weight)
        drawn = torch.rand(3)
    assert torch.equal(drawn, expected)


def test_a_whole_value_that_is_copied_in_later_is_kept() -> None:
    def build(self: Holder) -> None:
        parameter = register(self, torch.empty(3, 2).t())
        with torch.no_grad():
            parameter.copy_(torch.arange(6.0).view(2, 3))
            parameter[0].zero_()
            parameter.mul_(2)
        self.kept = parameter

    model = holder(build)
    assert torch.equal(model.p, torch.tensor([[0.0, 0, 0], [6, 8, 10]]))
    assert is_computed(model.p)
    assert model.kept is model.p
    assert model.p.is_leaf
    assert model.p.requires_grad


def test_a_value_that_is_assigned_later_is_kept() -> None:
    """On the meta device torch refuses such an assignment."""
    table = torch.eye(3)
    with deferred():
        layer, other = nn.Linear(3, 3), nn.Linear(3, 3)
        weight = layer.weight
        layer.weight.data = table
        other.weight = layer.weight
        layer.bias.data = torch.empty(2)
        other.bias.data = other.bias.data[:2]
    assert layer.weight is weight is other.weight
    assert torch.equal(weight, table)
    assert weight.requires_grad
    assert is_computed(weight)
    for bias in (layer.bias, other.bias):
        assert (bias.is_meta, bias.shape) == (True, (2,))
    materialize(nn.ModuleList([layer, other]))
    assert torch.equal(weight, table)


def test_a_value_that_is_not_there_is_not_assigned() -> None:
    message = r"assignment to \.data, which needs that of 'weight' of Linear"
    with deferred():
        layer, table = nn.Linear(3, 3), nn.Embedding.from_pretrained(torch.eye(3))
        with pytest.raises(PlanError, match=message):
            table.weight.data = layer.weight.data


def test_a_value_computed_on_the_device_of_a_deferred_parameter_is_real() -> None:
    def build(self: Holder) -> None:
        parameter = register(self, torch.empty(3))
        device = parameter.device
        assert device == parameter.data.device == torch.device("cpu")
        self.register_buffer("steps", torch.arange(3, device=device))
        self.register_buffer("mask", torch.ones_like(parameter))
        with torch.no_grad():
            parameter.copy_(torch.tensor([1.0, 2.0, 3.0], device=device))

    model = holder(build)
    assert torch.equal(model.steps, torch.arange(3))
    assert torch.equal(model.mask, torch.ones(3))
    assert torch.equal(model.p, torch.tensor([1.0, 2.0, 3.0]))


def test_a_fill_after_a_copied_value_defers_again() -> None:
    def build(self: Holder) -> None:
        parameter = register(self, torch.empty(3))
        parameter.data.copy_(torch.ones(3))
        nn.init.normal_(parameter)

    assert holder(build).p.is_meta


def test_a_part_that_is_copied_in_leaves_the_rest_unknown() -> None:
    def build(self: Holder) -> None:
        register(self, torch.empty(3)).data[:2].copy_(torch.ones(2))

    assert holder(build).p.is_meta


@pytest.mark.filterwarnings("ignore:for .*copying from a non-meta parameter")
def test_a_checkpoint_loaded_by_a_constructor_is_kept() -> None:
    source = nn.Linear(3, 2)
    with deferred():
        layer = nn.Linear(3, 2)
        layer.load_state_dict(source.state_dict())
        normed = nn.utils.parametrizations.weight_norm(layer)
    assert torch.allclose(normed.weight, source.weight)
    assert torch.equal(normed.bias, source.bias)


def test_who_holds_the_parameter_keeps_it() -> None:
    fired: list[str] = []

    def build(self: Holder) -> None:
        parameter = nn.Parameter(torch.empty(2), requires_grad=True)
        parameter.tag = "mine"
        parameter.register_hook(lambda grad: fired.append("hook"))
        self.kept = [parameter]
        self.p = parameter
        self.again = parameter

    model = holder(build)
    assert isinstance(model.kept, list)
    assert model.kept[0] is model.p is model.again
    assert model.p.tag == "mine"
    assert type(model.p) is nn.Parameter
    materialize(model)
    model.p.sum().backward()
    assert fired == ["hook"]


def test_subclasses_and_frozen_parameters_stay_what_they_are() -> None:
    class Special(nn.Parameter):
        pass

    def build(self: Holder) -> None:
        self.p = Special(torch.empty(2))
        self.frozen = nn.Parameter(torch.empty(2), requires_grad=False)

    model = holder(build)
    assert type(model.p) is Special
    assert model.p.is_meta
    assert not model.frozen.requires_grad


def test_the_device_that_was_asked_for_is_remembered() -> None:
    with deferred():
        layer = nn.Linear(2, 2, device="cpu")
        derived = Holder(lambda self: register(self, layer.weight.detach().clone()))
    assert asked_device(layer.weight) == asked_device(derived.p) == torch.device("cpu")


@pytest.mark.parametrize(
    "read",
    [
        lambda weight: float(weight.sum()),
        lambda weight: weight.sum().item(),
        lambda weight: weight.nonzero(),
        lambda weight: bool((weight > 0).all()),
        lambda weight: torch.zeros(2).copy_(weight),
        lambda weight: torch.dot(weight, torch.ones(2), out=torch.zeros(())),
    ],
)
def test_reading_a_value_that_is_not_there_is_refused(
    read: Callable[[torch.Tensor], object],
) -> None:
    with pytest.raises(PlanError, match="values of deferred parameters are drawn"), deferred():
        read(nn.Linear(2, 1, bias=False).weight.detach()[0])


def test_a_buffer_computed_from_a_deferred_parameter_is_refused() -> None:
    with pytest.raises(PlanError, match="buffer 'norm' of Holder, which needs that of 'weight'"):
        holder(lambda self: self.register_buffer("norm", nn.Linear(2, 2).weight.detach().norm()))


def test_two_parameters_over_one_memory_are_refused_by_name() -> None:
    def build(self: Holder) -> None:
        memory = torch.empty(3)
        register(self, memory, "first")
        register(self, memory, "second")

    with pytest.raises(PlanError, match="'first' and 'second'"):
        materialize(holder(build))
