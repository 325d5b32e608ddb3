from __future__ import annotations

import functools
import json
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn.utils import parametrize
from torch.nn.utils.parametrizations import weight_norm

from fanin.errors import ArgumentError, PlanError, UnknownNameError
from fanin.model.construction import deferred
from fanin.model.inspection import inspect
from fanin.model.inspection.module_view import ModuleView


def perceptron() -> nn.Sequential:
    return nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 2))


def block(width: int = 4) -> nn.Sequential:
    return nn.Sequential(nn.Linear(width, width), nn.LayerNorm(width))


def named(root: ModuleView) -> dict[str, ModuleView]:
    return {module.name: module for module in root.walk()}


def row(model: nn.Module, label: str) -> str:
    """The one line of the tree with this label."""
    lines = str(inspect(model)).splitlines()
    (found,) = (line for line in lines if line.replace("│", " ").split()[1:2] == [label])
    return found


def test_the_tree_of_a_small_model() -> None:
    assert str(inspect(perceptron())).splitlines() == [
        "name          class or shape  dtype    parameters  notes",
        "------------  --------------  -------  ----------  -----",
        "(model)       Sequential                       26",
        "├─ 0          Linear                           16",
        "│  ├─ weight  4×3             float32          12",
        "│  └─ bias    4               float32           4",
        "├─ 1          Tanh",
        "└─ 2          Linear                           10",
        "   ├─ weight  2×4             float32           8",
        "   └─ bias    2               float32           2",
        "",
        "26 parameters in 4 tensors; 104 B.",
    ]


def test_what_is_registered_is_there_and_nothing_else() -> None:
    model = nn.Sequential(nn.BatchNorm1d(3), nn.LSTM(2, 2), block())
    root = inspect(model).root
    assert set(named(root)) == {name for name, _ in model.named_modules()}
    expected = {*dict(model.named_parameters()), *dict(model.named_buffers())}
    assert {tensor.name for tensor in root.all_tensors()} == expected


def test_ties_count_once_and_are_stated() -> None:
    model = perceptron()
    model.append(nn.Linear(3, 4))
    model[3].weight = model[0].weight
    found = inspect(model)
    assert found.totals.parameters == sum(p.numel() for p in model.parameters())
    assert [t.tied_to for t in found.root.all_tensors() if t.name == "3.weight"] == ["0.weight"]
    assert "= 0.weight" in str(found)


def test_a_shared_module_refers_to_its_first_place() -> None:
    shared = nn.Linear(2, 2)
    model = nn.ModuleDict({"a": shared, "b": nn.Sequential(shared)})
    found = named(inspect(model).root)
    assert (found["a"].same_as, found["b.0"].same_as) == ("", "a")
    assert inspect(model).totals.parameters == 6
    assert str(inspect(model)).count("weight") == 1


def test_buffers_saved_or_not() -> None:
    model = nn.Module()
    model.register_buffer("kept", torch.zeros(2, dtype=torch.int64))
    model.register_buffer("derived", torch.zeros(3), persistent=False)
    assert row(model, "kept").endswith("int64                buffer")
    assert row(model, "derived").endswith("buffer, not saved")
    totals = inspect(model).totals
    assert (totals.parameters, totals.buffer_tensors, totals.buffer_bytes) == (0, 2, 28)


def test_frozen_parameters_and_gradients() -> None:
    model = nn.Linear(2, 1)
    model.bias.requires_grad_(False)
    model(torch.ones(1, 2)).sum().backward()
    assert row(model, "weight").endswith("has grad")
    assert row(model, "bias").endswith("frozen")
    assert str(inspect(model)).endswith("3 parameters in 2 tensors, 2 of them trainable; 12 B.")


def log(*args: object) -> None:
    pass


REGISTRATIONS: dict[str, Callable[[nn.Module, Callable[..., None]], object]] = {
    "forward pre-hooks": nn.Module.register_forward_pre_hook,
    "forward hooks": nn.Module.register_forward_hook,
    "backward pre-hooks": nn.Module.register_full_backward_pre_hook,
    "backward hooks": nn.Module.register_full_backward_hook,
    "state_dict pre-hooks": nn.Module.register_state_dict_pre_hook,
    "state_dict hooks": nn.Module.register_state_dict_post_hook,
    "load_state_dict pre-hooks": nn.Module.register_load_state_dict_pre_hook,
    "load_state_dict post-hooks": nn.Module.register_load_state_dict_post_hook,
}


@pytest.mark.parametrize("kind", REGISTRATIONS)
def test_hooks_of_every_kind_are_named(kind: str) -> None:
    model = nn.Linear(2, 2)
    assert inspect(model).root.hooks == {}
    REGISTRATIONS[kind](model, log)
    assert inspect(model).root.hooks == {kind: ("log",)}
    assert f"({kind})" in str(inspect(model))


def test_hooks_of_any_callable_and_of_tensors() -> None:
    class Recorder:
        def __call__(self, *args: object) -> None:
            pass

    model = nn.Linear(2, 2)
    model.register_forward_hook(functools.partial(log, 1))
    model.register_forward_hook(Recorder())
    model.weight.register_hook(log)
    model.weight.register_post_accumulate_grad_hook(Recorder())
    model.register_load_state_dict_pre_hook(Recorder())
    assert inspect(model).root.hooks == {
        "forward hooks": ("log", "Recorder"),
        "load_state_dict pre-hooks": ("Recorder",),
    }
    assert row(model, "weight").endswith("hooks: log, Recorder")


def test_wrappers_are_shown_and_name_nothing() -> None:
    found = inspect(nn.DataParallel(perceptron()))
    assert [module.label for module in found.root.modules] == ["(module)"]
    assert [tensor.name for tensor in found.root.all_tensors()] == [
        "0.weight",
        "0.bias",
        "2.weight",
        "2.bias",
    ]


def test_a_module_inside_itself_is_shown_once() -> None:
    model = nn.Module()
    model.inner = nn.Module()
    model.inner.outer = model
    assert named(inspect(model).root)["inner.outer"].same_as == "(model)"


def test_a_parametrized_weight_says_what_it_is_computed_from() -> None:
    model = nn.Sequential(weight_norm(nn.Linear(3, 2)))
    found = inspect(model)
    (weight,) = (tensor for tensor in found.root.all_tensors() if tensor.name == "0.weight")
    assert named(found.root)["0"].type_name == "Linear"
    assert weight.shape == (2, 3)
    assert weight.computed_from == (
        ("parametrizations.weight.original0", (2, 1)),
        ("parametrizations.weight.original1", (2, 3)),
    )
    assert found.totals.parameters == sum(p.numel() for p in model.parameters())


def test_a_lazy_module_has_no_shape_yet() -> None:
    model = nn.Sequential(nn.LazyLinear(2), nn.Linear(2, 1))
    found = inspect(model)
    assert found.root.modules[0].type_name == "LazyLinear"
    assert found.root.modules[0].tensors[0].shape is None
    assert str(found).endswith(
        "3 parameters in 2 tensors; 12 B. 2 lazy tensors without a shape yet."
    )
    model(torch.ones(1, 3))
    assert inspect(model).root.modules[0].type_name == "Linear"
    assert inspect(model).totals.parameters == 11


def test_devices_are_shown_where_they_differ() -> None:
    assert "device" not in str(inspect(perceptron()))
    with deferred():
        model = nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2, affine=False))
    assert row(model, "weight").split()[-1] == "meta"
    assert row(model, "running_mean").split()[-2:] == ["cpu", "buffer"]
    assert "device" not in str(inspect(model).table(devices=False))
    assert str(inspect(model[:1])).endswith("On meta: no values yet.")


def test_like_siblings_are_shown_once() -> None:
    model = nn.Sequential(*[block() for _ in range(4)], nn.Linear(4, 2))
    lines = str(inspect(model)).splitlines()
    assert any(line.startswith("├─ 0 … 3 (4 ×)") and line.endswith("4 × 28") for line in lines)
    assert sum("LayerNorm" in line for line in lines) == 1
    assert (
        sum("LayerNorm" in line for line in str(inspect(model, collapse=False)).splitlines()) == 4
    )


def test_what_differs_is_not_collapsed() -> None:
    model = nn.Sequential(*[block() for _ in range(5)])
    model[1][0].bias.requires_grad_(False)
    text = str(inspect(model))
    assert "2 … 4 (3 ×)" in text
    assert text.count("frozen") == 1


def test_blocks_with_ties_inside_and_to_one_place_are_alike() -> None:
    model = nn.Sequential(*[nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2)) for _ in range(4)])
    for blocks in model:
        blocks[1].weight = blocks[0].weight
        blocks[1].bias = model[0][0].bias
    text = str(inspect(model))
    assert "1 … 3 (3 ×)" in text
    assert inspect(model).totals.parameters == sum(p.numel() for p in model.parameters())


def test_a_pair_is_not_collapsed_nor_are_names() -> None:
    assert "×)" not in str(inspect(nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2))))
    assert "×)" not in str(inspect(nn.ModuleDict({name: nn.Linear(2, 2) for name in "qkvo"})))


def test_names_choose_tensors_and_whole_modules() -> None:
    model = nn.ModuleDict({"body": block(), "head": nn.Linear(4, 2)})
    biases = inspect(model, "**.bias")
    assert [t.name for t in biases.root.all_tensors()] == [
        "body.0.bias",
        "body.1.bias",
        "head.bias",
    ]
    assert biases.totals == inspect(model).totals
    assert "The whole model: 38 parameters" in str(biases)
    chosen = inspect(model, ["body.1", "head.weight"])
    assert [tensor.name for tensor in chosen.root.all_tensors()] == [
        "body.1.weight",
        "body.1.bias",
        "head.weight",
    ]


def test_a_name_that_fits_nothing_is_refused_with_near_ones() -> None:
    with pytest.raises(UnknownNameError, match=r"'0\.wieght'.* Near: 0\.weight"):
        inspect(perceptron(), "0.wieght")
    with pytest.raises(UnknownNameError, match=r"Names look like: 0\.weight, 0\.bias, 2\.weight"):
        inspect(perceptron(), "zzz")
    with pytest.raises(ArgumentError, match=r"names and name patterns\. Got 3"):
        inspect(perceptron(), [3])
    with pytest.raises(UnknownNameError, match="It holds none"):
        inspect(nn.Module(), "weight")


def test_the_flat_table_has_full_names() -> None:
    (table,) = inspect(perceptron()).tables()
    assert table.rows[0] == ("0.weight", "Linear", "4×3", "float32", "cpu", "12", "")
    assert len(table.rows) == 4


def test_json_holds_all_of_it() -> None:
    model = nn.Sequential(*[block() for _ in range(3)])
    model[0].register_forward_hook(log)
    content = json.loads(inspect(model).to_json())
    assert content["totals"]["parameters"] == 84
    assert len(content["modules"]) == 10
    assert content["modules"][1] == {
        "name": "0",
        "type": "Sequential",
        "hooks": {"forward hooks": ["log"]},
        "same_as": None,
    }
    assert content["tensors"][0]["name"] == "0.0.weight"
    assert content["tensors"][0]["shape"] == [4, 4]
    assert content["tensors"][0]["tied_to"] is None


@pytest.mark.parametrize("model", [3, None, nn.Linear, nn.Linear(2, 2).state_dict()])
def test_a_model_is_a_module(model: Any) -> None:
    with pytest.raises(ArgumentError, match=r"inspect: a model is an nn\.Module"):
        inspect(model)


@pytest.mark.parametrize("names", [3, [3], b"weight"])
def test_names_are_texts(names: Any) -> None:
    with pytest.raises(ArgumentError, match=r"inspect: names= takes names and name patterns"):
        inspect(nn.Linear(2, 2), names)


def test_a_parametrization_that_raises_is_named() -> None:
    class Broken(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            raise ValueError("too small")

    layer = nn.Linear(2, 2)
    parametrize.register_parametrization(layer, "weight", Broken(), unsafe=True)
    with pytest.raises(PlanError, match=r"ValueError \(too small\) for 'weight' of Linear through"):
        inspect(layer)
