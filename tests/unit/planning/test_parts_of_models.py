"""A stage of a pipeline, initialized alone, has the values that it has in the whole model."""

from __future__ import annotations

import pytest
import torch
from torch import nn

import fanin
from fanin import rule
from fanin.errors import ArgumentError, PlanError
from fanin.initializers import normal, zeros
from fanin.planning import Plan

RECIPE = fanin.Recipe(
    "pipeline",
    1,
    (
        rule("**", normal(std=0.5)),
        rule("head.bias", zeros()),
        rule("blocks.3.weight", normal(std=2.0)),
    ),
    ties={"head.weight": "embed.weight"},
)


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(7, 4)
        self.blocks = nn.ModuleList(nn.Linear(4, 4) for _ in range(5))
        self.head = nn.Linear(4, 7)


@pytest.fixture
def whole() -> Net:
    model = Net()
    model.head.weight = model.embed.weight
    fanin.initialize(model, RECIPE, seed=1)
    return model


@pytest.mark.parametrize("prefix", ["blocks.3", "blocks.3."])
def test_a_module_alone_has_the_bits_of_the_whole(whole: Net, prefix: str) -> None:
    layer = nn.Linear(4, 4, device="meta")
    plan = fanin.initialize(layer, RECIPE, seed=1, prefix=prefix)
    assert [step.name for step in plan.steps] == ["blocks.3.weight", "blocks.3.bias"]
    assert torch.equal(layer.weight, whole.blocks[3].weight)
    assert torch.equal(layer.bias, whole.blocks[3].bias)


def test_a_stage_with_the_names_of_the_whole(whole: Net) -> None:
    stage = Net()
    del stage.embed, stage.blocks[:3]  # blocks[3] is called blocks.0 now
    stage.blocks = nn.ModuleDict({"3": stage.blocks[0], "4": stage.blocks[1]})
    fanin.initialize(stage, RECIPE, seed=1, prefix="")
    held = dict(whole.named_parameters(remove_duplicate=False))
    for name, parameter in stage.named_parameters():  # the tied head has its owner's stream
        assert torch.equal(parameter, held[name]), name


def test_rules_for_other_parts_are_listed() -> None:
    layer = nn.Linear(4, 4)
    with pytest.raises(PlanError, match=r"fits at least one parameter. Got none for .*head.bias"):
        fanin.plan(layer, RECIPE, seed=1)
    plan = fanin.plan(layer, RECIPE, seed=1, prefix="blocks.0")
    assert [text.split(":")[0] for text in plan.unused] != []
    assert all("head.bias" in text or "blocks.3" in text for text in plan.unused)
    assert len(plan.unused) == 2


def test_the_plan_of_a_part_is_whole(whole: Net) -> None:
    layer = nn.Linear(4, 4)
    plan = fanin.plan(layer, RECIPE, seed=1, prefix="blocks.3", skip="blocks.3.bias")
    assert Plan.from_json(plan.to_json()) == plan
    Plan.from_json(plan.to_json()).apply(layer)
    assert torch.equal(layer.weight, whole.blocks[3].weight)
    observed = plan.table(layer).rows[0][5]
    assert observed not in ("-", "")
    with pytest.raises(PlanError, match=r"lacks 'blocks.3.bias', 'blocks.3.weight'"):
        fanin.plan(layer, RECIPE, seed=1, prefix="blocks.3").apply(Net())


def test_buffers_of_a_part_get_memory() -> None:
    with torch.device("meta"):
        part = nn.Linear(2, 2)
        part.register_buffer("scale", torch.empty(3))
    fanin.initialize(part, {"**": normal()}, seed=1, prefix="layers.0")
    assert part.scale.count_nonzero() == 3


@pytest.mark.parametrize("prefix", [".1", "1..", " 1", "*", 5])
def test_a_prefix_is_a_name(prefix: object) -> None:
    with pytest.raises(ArgumentError, match="the name of a module in a larger model"):
        fanin.plan(nn.Linear(2, 2), "kaiming", seed=0, prefix=prefix)


class Block(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.c_fc = nn.Linear(4, 8)
        self.c_proj = nn.Linear(8, 4)


def test_the_blocks_of_a_stage_scale_as_those_of_the_whole() -> None:
    model = nn.ModuleDict({"h": nn.ModuleList(Block() for _ in range(6))})
    fanin.initialize(model, "gpt2", seed=1)
    whole = dict(model.named_parameters())
    stages: list[tuple[nn.Module, str]] = [
        (nn.ModuleDict({"h": nn.ModuleList([Block(), Block()])}), ""),  # h.0 and h.1
        (nn.ModuleDict({"h": nn.ModuleDict({"2": Block(), "3": Block()})}), ""),
        (nn.ModuleList([Block(), Block()]), "h"),
        (Block(), "h.5"),
    ]
    for stage, prefix in stages:
        fanin.initialize(stage, "gpt2(num_layers=6)", seed=1, prefix=prefix)
        for name, parameter in stage.named_parameters():
            full = f"{prefix}.{name}".removeprefix(".")
            assert torch.equal(parameter, whole[full]), full


def test_a_stage_does_not_show_how_many_blocks_there_are() -> None:
    words = r"of 2 Block, in a part of a model \(prefix= says so\), around 'h.0.c_proj.weight"
    with pytest.raises(PlanError, match=rf"{words}.*Say gpt2\(num_layers=12\)"):
        fanin.plan(nn.ModuleList(Block() for _ in range(2)), "gpt2", seed=1, prefix="h")
    with pytest.raises(PlanError, match=r"in a part of a model.*Say gpt2\(num_layers=12\)"):
        fanin.plan(nn.ModuleDict({"h": nn.ModuleList([Block()])}), "gpt2", seed=1, prefix="")
    with pytest.raises(PlanError, match=r"no list, in a part.*Say gpt2\(num_layers=12\)"):
        fanin.plan(Block(), "gpt2", seed=1, prefix="h.3")
