from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn.utils import parametrizations, parametrize
from transformers.pytorch_utils import Conv1D

from fanin.errors import ArgumentError, LayoutError
from fanin.geometry import Layout
from fanin.initializers import zeros
from fanin.model import layout_of, missing_adapter, register_adapter, sites
from fanin.model.adapters import registry
from fanin.planning import Recipe, make_plan


def layouts(module: nn.Module) -> dict[str, Layout | None]:
    return {site.name: layout_of(site) for site in sites(module)}


def fans(module: nn.Module, name: str = "weight") -> tuple[float, float]:
    layout = layouts(module)[name]
    assert layout is not None
    return layout.fans.fan_in, layout.fans.fan_out


@pytest.mark.parametrize(
    ("module", "expected"),
    [
        (nn.Linear(5, 3), (5, 3)),
        (nn.Bilinear(2, 3, 4), (6, 4)),
        (nn.Conv1d(4, 6, 3), (12, 18)),
        (nn.Conv2d(9, 9, 3, groups=9), (9, 9)),
        (nn.Conv3d(4, 8, 2, groups=2), (16, 32)),
        (nn.ConvTranspose2d(6, 4, 3, stride=2, groups=2), (27, 18)),
        (nn.Embedding(11, 4), (1, 4)),
        (nn.EmbeddingBag(11, 4), (1, 4)),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, nn.Module) else "",
)
def test_fans_belong_to_the_module(module: nn.Module, expected: tuple[int, int]) -> None:
    assert fans(module) == expected


def test_a_packed_projection_has_the_fans_of_its_parts() -> None:
    attention = nn.MultiheadAttention(8, 2)
    assert fans(attention, "in_proj_weight") == (8, 8)
    layout = layouts(attention)["in_proj_bias"]
    assert layout is not None
    assert [name for name, *_ in layout.split()] == ["q", "k", "v"]


def test_separate_projections_have_their_own_fans() -> None:
    attention = nn.MultiheadAttention(8, 2, kdim=4, vdim=6)
    assert fans(attention, "k_proj_weight") == (4, 8)
    assert fans(attention, "v_proj_weight") == (6, 8)


@pytest.mark.parametrize(
    ("module", "gates"),
    [
        (nn.LSTM(3, 4, num_layers=2, bidirectional=True, proj_size=2), 4),
        (nn.LSTMCell(3, 4), 4),
        (nn.GRU(3, 4), 3),
        (nn.GRUCell(3, 4), 3),
        (nn.RNN(3, 4), 0),
        (nn.RNNCell(3, 4), 0),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, nn.Module) else "",
)
def test_recurrent_weights_have_a_part_for_each_gate(module: nn.Module, gates: int) -> None:
    for name, layout in layouts(module).items():
        assert layout is not None
        assert len(layout.parts) == (0 if "weight_hr" in name else gates)
        if name.startswith("weight_ih_l0") or name == "weight_ih":
            assert (layout.fans.fan_in, layout.fans.fan_out) == (3, 4)


def test_a_base_class_says_in_its_mode_what_it_packs() -> None:
    layout = layouts(nn.RNNBase("LSTM", 3, 4))["weight_hh_l0"]
    assert layout is not None
    assert [name for name, *_ in layout.split()] == ["i", "f", "g", "o"]


class Experts(nn.Module):
    def __init__(self, *shape: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(shape))


@pytest.fixture
def adapters(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a test registers is forgotten after it."""
    monkeypatch.setattr(registry, "_ADAPTERS", dict(registry._ADAPTERS))


def code_in(message: str) -> str:
    return "\n".join(line[4:] for line in message.splitlines() if line.startswith("    "))


@pytest.mark.parametrize("shape", [(6, 5), (2, 6, 5)])
@pytest.mark.usefixtures("adapters")
def test_an_unknown_module_has_no_layout_and_an_adapter_to_paste(shape: tuple[int, ...]) -> None:
    site = next(sites(Experts(*shape)))
    assert layout_of(site) is None
    pasted = missing_adapter(site)
    exec(code_in(pasted), {"Experts": Experts})  # the message is code that runs
    assert layout_of(site) == Layout(shape, out_axes=(0,), in_axes=(1,))
    assert ("Stacked experts" in pasted) == (len(shape) == 3)


@pytest.mark.parametrize(
    ("module", "shape"),
    [
        (nn.ParameterList([torch.empty(4, 3)]), (4, 3)),
        (nn.ParameterDict({"a b": torch.empty(2, 4, 3)}), (2, 4, 3)),
    ],
    ids=["ParameterList", "ParameterDict"],
)
def test_parameters_in_a_container_get_a_rule_to_paste(
    module: nn.Module, shape: tuple[int, ...]
) -> None:
    site = next(sites(module))
    code = (
        code_in(missing_adapter(site)).replace("rule(", "pasted = rule(").replace("...", "zeros()")
    )
    scope: dict[str, Any] = {"zeros": zeros}
    exec(code, scope)
    step = make_plan(module, Recipe("pasted", 1, (scope["pasted"],)), seed=0).steps[0]
    assert step.layout == Layout(shape, out_axes=(0,), in_axes=(1,))


def test_a_vector_is_told_how_it_could_have_a_fan() -> None:
    assert "layout=Layout(in_axes=(0,))" in missing_adapter(next(sites(Experts(3))))
    assert Layout((3,), in_axes=(0,)).fans.fan_in == 3


def test_a_subclass_inherits_and_may_have_its_own() -> None:
    class Transposed(nn.Linear):
        pass

    assert fans(Transposed(5, 3)) == (5, 3)
    register_adapter(
        Transposed,
        lambda module, name: (
            Layout.linear_transposed(*module.weight.shape) if name == "weight" else None
        ),
    )
    assert fans(Transposed(5, 3)) == (3, 5)
    assert layouts(Transposed(5, 3))["bias"] == Layout.vector(3)


def test_a_parametrized_weight_has_the_layout_of_its_module() -> None:
    module = parametrizations.spectral_norm(nn.Conv2d(4, 6, 3, groups=2))
    norm: Any = module.parametrizations["weight"][0]
    before = norm._u.clone()
    assert fans(module) == (18, 27)
    assert torch.equal(norm._u, before)  # nothing asked for the weight, which would advance it


def test_an_adapter_may_read_any_weight_of_a_parametrized_module() -> None:
    class Scaled(nn.Linear):
        pass

    module = Scaled(5, 3)
    for name in ("weight", "bias"):
        parametrize.register_parametrization(module, name, nn.Identity())
    register_adapter(Scaled, lambda module, name: Layout.vector(module.weight.shape[0]))
    assert layouts(module)["bias"] == Layout.vector(3)


def test_equal_shapes_share_a_layout() -> None:
    first, second = (layouts(nn.Linear(5, 3))["weight"] for _ in range(2))
    assert first is second


def test_stated_stacks_are_known_wherever_the_class_was_written() -> None:
    class Stack(nn.Module):
        """What `use_experts_implementation` of transformers leaves on an instance."""

        def __init__(self, *, is_transposed: bool) -> None:
            super().__init__()
            self.is_transposed, self.is_concatenated = is_transposed, True
            self.has_gate, self.has_bias = True, False
            self.gate_up_proj = nn.Parameter(torch.empty(3, 8, 8))
            self.scale = nn.Parameter(torch.empty(3, 8, 8))

    for is_transposed, dim in ((True, 2), (False, 1)):
        found = layouts(Stack(is_transposed=is_transposed))
        assert found["gate_up_proj"] == Layout(
            (3, 8, 8), in_axes=(3 - dim,), out_axes=(dim,), batch_axes=(0,)
        ).packed(("gate", "up"), dim=dim)
        assert found["scale"] is None


def test_an_adapter_is_for_a_module_type() -> None:
    with pytest.raises(ArgumentError, match="for a module type"):
        register_adapter(Experts(2), lambda module, name: None)


def test_an_adapter_is_a_function() -> None:
    with pytest.raises(ArgumentError, match="called with a module and a parameter's name"):
        register_adapter(Experts, "weight")


@pytest.mark.parametrize(
    ("adapter", "message"),
    [
        (lambda module, name: module.weights, "AttributeError: .* for 'weight' of shape"),
        (lambda module, name: Layout.linear(*module.weight.shape), "TypeError: "),
        (lambda module, name: module.weight.shape, r"Got torch.Size\(\[2, 6, 5\]\) for"),
    ],
    ids=["attribute", "dims", "no layout"],
)
@pytest.mark.usefixtures("adapters")
def test_an_adapter_that_fails_is_named(
    adapter: Callable[[Any, str], Layout | None], message: str
) -> None:
    register_adapter(Experts, adapter)
    with pytest.raises(LayoutError, match=f"an adapter returns a Layout.*{message}.*of Experts,"):
        layouts(Experts(2, 6, 5))


@pytest.mark.usefixtures("adapters")
def test_an_adapter_for_all_modules_is_asked_last() -> None:
    register_adapter(nn.Module, lambda module, name: Layout(module.weight.shape, batch_axes=(0,)))
    assert layouts(Experts(2, 6, 5))["weight"] == Layout((2, 6, 5), batch_axes=(0,))
    assert fans(Conv1D(3, 5)) == (5, 3)  # transformers' own: (in, out)
    assert fans(nn.Linear(5, 3)) == (5, 3)
