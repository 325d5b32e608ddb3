"""Values that constructors computed: kept while they are there, missed when they are not."""

from __future__ import annotations

import io
from collections.abc import Callable

import pytest
import torch
from torch import nn

import fanin
from fanin.errors import PlanError
from fanin.model.construction import deferred, is_computed


class Scaled(nn.Module):
    """Values of several kinds next to layers without any."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.arange(8.0))
        self.table = nn.Embedding.from_pretrained(torch.eye(200))
        self.small = nn.Parameter(torch.full((3, 4), 1e-6).t())
        self.turns = nn.Parameter(torch.polar(torch.ones(5), torch.arange(5.0)))
        self.mix = nn.Linear(4, 4)
        with torch.no_grad():
            self.mix.weight.copy_(torch.eye(4))
        self.nothing = nn.Parameter(torch.zeros(0, 3))
        self.one = nn.Parameter(torch.tensor(2.0))


KEPT = ["scale", "small", "turns", "nothing", "one", "table.weight", "mix.weight"]


def built() -> Scaled:
    with deferred():
        return Scaled()


def kept(model: nn.Module) -> list[str]:
    plan = fanin.plan(model, "kaiming", seed=0)
    return [step.name for step in plan.steps if step.rule == "from the constructor"]


def replaced(model: nn.Module, number: float) -> None:
    """New memory that holds one number, as `Module.to_empty` may well leave it."""
    model._apply(lambda tensor: torch.full_like(tensor, number, device="cpu"))


@pytest.mark.parametrize("number", [0.0, 1.0, float("nan")])
def test_other_memory_does_not_pass_for_a_value(number: float) -> None:
    model = built()
    replaced(model, number)
    message = r"(?s)other numbers, for\n  scale  \(8,\)\n.*to_empty"
    with pytest.raises(PlanError, match=message) as told:
        fanin.initialize(model, "kaiming", seed=0)
    for name in KEPT:
        assert (f"  {name}  " in str(told.value)) == (name != "nothing"), name
    assert fanin.initialize(model, "kaiming", seed=0, skip=KEPT).seed == 0


def test_to_empty_is_noticed() -> None:
    model = built()
    before = [parameter.untyped_storage() for parameter in model.parameters()]  # not used again
    model.to_empty(device="cpu")
    with pytest.raises(PlanError, match=r"  table.weight  \(200, 200\)"):
        fanin.initialize(model, "kaiming", seed=0)
    assert before


def test_keep_needs_a_value_too() -> None:
    model = built()
    recipe = fanin.get_recipe("kaiming") + {name: fanin.keep() for name in KEPT}
    fanin.initialize(model, recipe, seed=0)
    replaced(model, 0.0)
    with pytest.raises(PlanError, match=r"(?s)other numbers, for\n  scale  \(8,\)\n.*skip="):
        fanin.initialize(model, recipe, seed=0)
    fanin.initialize(model, recipe, seed=0, skip=KEPT)


def test_a_rule_by_name_writes_it_all_the_same() -> None:
    model = built()
    replaced(model, 0.0)
    rules = {name: fanin.initializers.constant(2.0) for name in KEPT}
    fanin.initialize(model, fanin.recipes.get_recipe("kaiming") + rules, seed=0)
    assert model.scale.eq(2).all()


@pytest.mark.parametrize(
    "change",
    [
        lambda model: model.double(),
        lambda model: model.bfloat16().float(),
        lambda model: model.to(torch.float8_e5m2) and model.to(torch.float32),
        lambda model: model.scale.data.mul_(3),
        lambda model: model.load_state_dict({n: t + 1 for n, t in model.state_dict().items()}),
    ],
)
def test_what_is_converted_or_written_in_place_is_kept(
    change: Callable[[nn.Module], object],
) -> None:
    model = built()
    fanin.initialize(model, "kaiming", seed=0)
    del model.turns  # Module.to(dtype) takes its real part, and warns
    del model.small  # 1e-6 is nothing in float8
    with torch.no_grad():
        change(model)
    assert kept(model) == [name for name in KEPT if name not in ("turns", "small")]


def test_a_conversion_by_initialize_follows_what_was_trained() -> None:
    model = built()
    del model.turns
    fanin.initialize(model, "kaiming", seed=0)
    with torch.no_grad():
        model.scale.mul_(3)
    fanin.initialize(model, "kaiming", seed=0, dtype=torch.float64)
    assert kept(model) == [name for name in KEPT if name != "turns"]
    assert torch.equal(model.scale, 3 * torch.arange(8.0, dtype=torch.float64))


def test_a_saved_model_still_knows() -> None:
    file = io.BytesIO()
    torch.save(built(), file)
    file.seek(0)
    model = torch.load(file, weights_only=False)
    assert kept(model) == KEPT
    replaced(model, 0.0)
    with pytest.raises(PlanError, match="to_empty"):
        kept(model)


def test_a_saved_parameter_loads_without_code() -> None:
    file = io.BytesIO()
    torch.save(built().scale, file)
    file.seek(0)
    assert is_computed(torch.load(file, weights_only=True))


def test_what_moved_to_another_module_is_missed_too() -> None:
    model, other = built(), nn.Module()
    other.scale = model.scale
    assert kept(other) == ["scale"]
    replaced(other, 0.0)
    with pytest.raises(PlanError, match="  scale  "):
        kept(other)


def test_a_last_number_written_in_the_constructor_counts() -> None:
    class Late(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.scale = nn.Parameter(torch.ones(3))
            self.scale.data.mul_(4)

    with deferred():
        model = Late()
    assert kept(model.double()) == ["scale"]
