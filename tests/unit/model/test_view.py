from __future__ import annotations

import copy
import weakref
from collections.abc import Callable

import pytest
import torch
from torch import nn
from torch.distributed.algorithms._checkpoint.checkpoint_wrapper import checkpoint_wrapper
from torch.distributed.fsdp import FlatParameter
from torch.nn.utils.parametrizations import weight_norm
from torch.optim.swa_utils import AveragedModel

from fanin.errors import PlanError
from fanin.model import entries, sites


def compiled(model: nn.Module) -> nn.Module:
    return torch.compile(model, backend="eager")


def names(model: nn.Module) -> list[str]:
    return [entry.name for entry in entries(model)]


def net() -> nn.Sequential:
    return nn.Sequential(nn.Linear(2, 3), nn.ReLU(), nn.Linear(3, 1))


PLAIN = ["0.weight", "0.bias", "2.weight", "2.bias"]


@pytest.mark.parametrize(
    "wrap",
    [
        nn.DataParallel,
        AveragedModel,
        checkpoint_wrapper,
        compiled,
        lambda model: compiled(AveragedModel(checkpoint_wrapper(model))),
    ],
    ids=["DataParallel", "AveragedModel", "checkpoint", "compile", "nested"],
)
def test_a_wrapper_contributes_no_component(wrap: Callable[[nn.Module], nn.Module]) -> None:
    assert names(wrap(net())) == PLAIN


def test_a_wrapper_inside_a_model_contributes_none_either() -> None:
    model = net()
    model[0] = checkpoint_wrapper(model[0])
    assert names(model) == PLAIN


def test_a_users_own_attribute_called_module_keeps_its_name() -> None:
    class Own(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.module = nn.Linear(2, 2)
            self._orig_mod = nn.Linear(2, 2, bias=False)

    assert names(Own()) == ["module.weight", "module.bias", "_orig_mod.weight"]
    assert names(nn.DataParallel(Own())) == names(Own())


def test_two_parameters_of_one_canonical_name_are_refused() -> None:
    wrapped = nn.DataParallel(nn.Linear(2, 2))
    wrapped.register_parameter("weight", nn.Parameter(torch.zeros(1)))
    with pytest.raises(PlanError, match="two called 'weight'"):
        entries(wrapped)


def test_tied_parameters_are_one_entry_of_the_first_name() -> None:
    model = nn.ModuleDict({"wte": nn.Embedding(5, 3), "head": nn.Linear(3, 5, bias=False)})
    model["head"].weight = model["wte"].weight
    (entry,) = entries(model)
    assert entry.names == ("wte.weight", "head.weight")
    assert isinstance(entry.owner.module, nn.Embedding)


def test_the_owner_can_be_stated() -> None:
    model = nn.ModuleDict({"head": nn.Linear(3, 5, bias=False), "wte": nn.Embedding(5, 3)})
    model["head"].weight = model["wte"].weight
    (entry,) = entries(model, ties={"head.weight": "wte.weight"})
    assert entry.names == ("wte.weight", "head.weight")


def test_names_stated_as_tied_that_are_not_are_refused() -> None:
    with pytest.raises(PlanError, match="stated as tied"):
        entries(net(), ties={"2.bias": "0.bias"})


def test_a_shared_module_is_reached_by_every_name() -> None:
    shared = nn.Linear(2, 2, bias=False)
    assert entries(nn.Sequential(shared, nn.ReLU(), shared))[0].names == ("0.weight", "2.weight")


def test_two_parameters_over_the_same_memory_are_one_entry() -> None:
    model = net()
    model.register_parameter("copy", nn.Parameter(model[0].weight.data))
    assert entries(model)[0].names == ("copy", "0.weight")


def test_what_fsdp_joined_is_refused() -> None:
    model = nn.Module()
    model.register_parameter("_flat_param", nn.Parameter(torch.zeros(20)))
    model._flat_param._is_flat_param = True  # by which torch recognises its FlatParameter
    assert isinstance(model._flat_param, FlatParameter)
    model._flat_param._fsdp_flattened = True
    with pytest.raises(PlanError, match=r"'_flat_param', a FlatParameter.*summon_full_params"):
        entries(model)


def over(build: Callable[[torch.Tensor], tuple[torch.Tensor, torch.Tensor]]) -> nn.Module:
    """A model of two parameters that look at one storage of 4 x 6 numbers."""
    model = nn.Module()
    a, b = build(torch.zeros(4, 6))
    model.a, model.b = nn.Parameter(a), nn.Parameter(b)
    return model


@pytest.mark.parametrize(
    "build",
    [
        lambda table: (table[:3], table[2:]),
        lambda table: (table, table.t()),
        lambda table: (table, table[1, 2]),
        lambda table: (table[:, :4], table[:, 3:]),
        lambda table: (table[:, ::2], table[:, :3]),
        lambda table: (table[0].expand(4, 6), table[:, 5]),
        lambda table: (table, table.view(torch.float64)[:, :1]),
    ],
    ids=["rows", "transposed", "one element", "columns", "steps", "expanded", "other dtype"],
)
def test_memory_that_is_shared_in_part_is_refused(
    build: Callable[[torch.Tensor], tuple[torch.Tensor, torch.Tensor]],
) -> None:
    with pytest.raises(PlanError, match="one writer"):
        entries(over(build))


@pytest.mark.parametrize(
    "build",
    [
        lambda table: (table[:2], table[2:]),
        lambda table: (table[:, :3], table[:, 3:]),
        lambda table: (table[:, ::2], table[:, 1::2]),
        lambda table: (table[:, :2], table.view(torch.float64)[:, 1:]),
    ],
    ids=["rows", "columns", "steps", "other dtype"],
)
def test_parameters_side_by_side_in_one_storage_are_apart(
    build: Callable[[torch.Tensor], tuple[torch.Tensor, torch.Tensor]],
) -> None:
    assert names(over(build)) == ["a", "b"]


def test_memory_behind_a_parametrized_weight_is_not_shared_either() -> None:
    model = nn.Sequential(weight_norm(nn.Linear(3, 3)), nn.Linear(3, 3))
    direction = model[0].get_parameter("parametrizations.weight.original1")
    model[1].weight = nn.Parameter(direction.data.t())
    with pytest.raises(PlanError, match=r"'0.weight' and '1.weight' over the same memory"):
        entries(model)


def test_meta_and_empty_parameters_are_apart() -> None:
    model = nn.Module()
    model.a, model.b = (nn.Parameter(torch.empty(3, device="meta")) for _ in "ab")
    model.c, model.d = (nn.Parameter(torch.empty(0)) for _ in "cd")
    assert names(model) == ["a", "b", "c", "d"]


def test_a_model_that_holds_itself_is_walked_once() -> None:
    model = net()
    model._modules["again"] = model
    assert names(model) == PLAIN


def test_deep_copies_have_the_same_names() -> None:
    assert names(copy.deepcopy(net())) == PLAIN


def test_a_site_knows_its_parents() -> None:
    model = nn.Sequential(net())
    site = next(sites(model))
    assert [type(parent) for parent in site.parents] == [nn.Sequential, nn.Sequential, nn.Linear]


def test_a_site_holds_no_value_of_a_parametrized_weight() -> None:
    site = next(sites(weight_norm(nn.Linear(2, 3))))
    value = site.tensor
    reference = weakref.ref(value)
    del value
    assert reference() is None
    assert (site.shape, site.dtype) == ((3, 2), torch.float32)
    assert torch.equal(site.tensor, site.module.weight)


def test_a_site_shows_what_hangs_there_now() -> None:
    model = net()
    site = next(sites(model))
    model[0].weight = nn.Parameter(torch.ones(5, 2))
    assert site.tensor is model[0].weight
    assert site.shape == (5, 2)
