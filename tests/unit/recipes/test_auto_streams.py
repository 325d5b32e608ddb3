"""Residual streams, lookups and buffers under `auto`."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import fanin
from fanin.errors import PlanError

X = torch.empty(8, 64, device="meta")
BLOCKS = 4


class Stream(nn.Module):
    """Blocks of two branches, put together by a function of the stream and the branches."""

    def __init__(self, block: Callable[..., Tensor]) -> None:
        super().__init__()
        self.pairs = nn.ModuleList(
            nn.ModuleList((nn.Linear(64, 64), nn.Linear(64, 64))) for _ in range(BLOCKS)
        )
        self.block = block

    def forward(self, x: Tensor) -> Tensor:
        for first, second in self.pairs:
            x = self.block(x, first, second)
        return x


def normed(x: Tensor) -> Tensor:
    return F.layer_norm(x, x.shape[-1:])


def serial(x: Tensor, a: nn.Module, b: nn.Module) -> Tensor:
    x = x + a(normed(x))
    return x + b(normed(x))


def parallel(x: Tensor, a: nn.Module, b: nn.Module) -> Tensor:
    y = normed(x)
    return x + a(y) + b(y)


def parallel_first(x: Tensor, a: nn.Module, b: nn.Module) -> Tensor:
    y = normed(x)
    return (a(y) + b(y)) + x


def subtracted(x: Tensor, a: nn.Module, b: nn.Module) -> Tensor:
    x = x - a(normed(x))
    return x - b(normed(x))


def halved(x: Tensor, a: nn.Module, b: nn.Module) -> Tensor:
    x = x + 0.5 * a(normed(x))
    return x + 0.3 * b(normed(x))


def averaged(x: Tensor, a: nn.Module, b: nn.Module) -> Tensor:
    x = (x + a(normed(x))) / math.sqrt(2)
    return (x + b(normed(x))) * 0.8


def averaged_at_once(x: Tensor, a: nn.Module, b: nn.Module) -> Tensor:
    y = normed(x)
    return (x + a(y) + b(y)) * 0.5


@pytest.mark.parametrize(
    "block",
    [serial, parallel, parallel_first, subtracted, halved, averaged, averaged_at_once],
)
def test_streams_end_below_e_times_their_start(block: Callable[..., Tensor]) -> None:
    model = Stream(block)
    plan = fanin.plan(model, "auto", seed=0, example_inputs=X)
    found = fanin.predict(model, plan, X)
    count = 2 * BLOCKS
    last = found.values[found.trace.outputs[0]].moments.second
    # Two branches at once add 2/N to what both found, 5 % less than one after the other.
    assert last == pytest.approx((1 + 1 / count) ** count, rel=0.06)


def test_streams_that_grow_by_their_start_do_so_beside_a_factor() -> None:
    model = Stream(averaged)
    plan = fanin.plan(model, "auto(residual=sqrt_depth)", seed=0, example_inputs=X)
    found = fanin.predict(model, plan, X)
    last = found.values[found.trace.outputs[0]].moments.second
    assert last == pytest.approx(1 + 2 * BLOCKS, rel=0.01)


class Projecting(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 16, 3, padding=1)
        self.a, self.b = nn.Conv2d(16, 32, 3, 2, 1), nn.Conv2d(32, 32, 3, padding=1)
        self.shortcut = nn.Sequential(nn.Conv2d(16, 32, 1, 2), nn.BatchNorm2d(32))
        self.norm = nn.BatchNorm2d(32)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        return self.norm(self.b(F.relu(self.a(x)))) + self.shortcut(x)


def test_a_branch_beside_a_projection_ends_one() -> None:
    model, x = Projecting(), torch.empty(4, 3, 16, 16)
    plan = fanin.plan(model, "auto(residual=constant)", seed=0, example_inputs=x)
    stds = {step.name: step.moments for step in plan.steps}
    assert stds["norm.weight"] == (0.0, 0.0)
    assert stds["shortcut.1.weight"] == (1.0, 0.0)


@pytest.mark.parametrize("scale", ["number", "buffer"])
def test_a_lookup_gives_one_where_the_model_uses_it(scale: str) -> None:
    class Scaled(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.table, self.head = nn.Embedding(50, 64), nn.Linear(64, 50)
            self.register_buffer("root", torch.tensor(8.0))

        def forward(self, ids: Tensor) -> Tensor:
            looked_up = self.table(ids) * (8.0 if scale == "number" else self.root)
            return self.head(normed(looked_up))

    model, ids = Scaled(), torch.zeros(2, 8, dtype=torch.long)
    plan = fanin.plan(model, "auto", seed=0, example_inputs=ids)
    first = plan.steps[0]
    assert first.moments is not None
    assert first.moments[1] == pytest.approx(1 / 8)
    assert first.rule == "lookup, 1 / 8"


def test_buffers_count_with_their_values() -> None:
    class Whitened(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.register_buffer("std", torch.full((64,), 4.0))
            self.layer = nn.Linear(64, 64)

        def forward(self, x: Tensor) -> Tensor:
            return self.layer(x / self.std).relu()

    plan = fanin.plan(Whitened(), "auto", seed=0, example_inputs=X)
    assert plan.steps[0].moments is not None
    assert plan.steps[0].moments[1] == pytest.approx(4 / 8)


def test_a_plan_says_where_a_std_comes_from() -> None:
    plan = fanin.plan(Stream(serial), "auto", seed=0, example_inputs=X)
    assert plan.steps[0].rule == "branch 1 of 8, √(0.125 / (64 · 1))"
    assert "branch 1 of 8" in str(plan.explain("pairs.0.0.weight"))
    net = nn.Sequential(nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 5))
    shown = fanin.plan(net, "auto(balance=backward)", seed=0, example_inputs=X)
    assert shown.steps[0].rule == "layer, √(1 / (64 · 1)) · (64 / 32)^0.5"
    assert shown.steps[2].rule == "head, √(0.0625 / (32 · 1))"


@pytest.mark.parametrize(
    "function",
    [
        nn.PReLU(),
        nn.PReLU(64),
    ],
)
def test_functions_with_parameters(function: nn.Module) -> None:
    model = nn.Sequential(nn.Linear(64, 64), function, nn.Linear(64, 64), nn.Tanh())
    plan = fanin.plan(model, "auto", seed=0, example_inputs=X)
    found = next(step.moments for step in plan.steps if step.name == "2.weight")
    assert found is not None
    assert found[1] == pytest.approx(math.sqrt(2 / (1 + 0.25**2) / 64))


def test_comparisons_and_routes_have_no_slope() -> None:
    class Routed(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.router, self.up = nn.Linear(64, 8), nn.Parameter(torch.empty(8, 64, 64))
            self.down = nn.Linear(64, 64)

        def forward(self, x: Tensor) -> Tensor:
            chosen, at = self.router(x).softmax(-1).topk(2, -1)
            shares = torch.zeros(8, 8).scatter(-1, at, chosen)
            made = torch.einsum("bd,edh,be->bh", x, self.up, shares)
            return self.down(torch.where(made > 0, made, 0.1 * made))

    plan = fanin.plan(Routed(), "auto", seed=0, example_inputs=X)
    assert all(step.moments is not None for step in plan.steps)


def test_where_new_tensors_are_by_default_is_no_matter() -> None:
    model = nn.Sequential(nn.Conv2d(3, 8, 3), nn.GELU(), nn.Flatten(), nn.Linear(8 * 36, 4))
    x = torch.empty(2, 3, 8, 8, device="meta")
    made = fanin.plan(model, "auto", seed=0, example_inputs=x)
    predicted = fanin.predict(model, made, x)
    with torch.device("meta"):
        assert fanin.plan(model, "auto", seed=0, example_inputs=x) == made
        assert str(fanin.predict(model, made, x)) == str(predicted)


def test_buffers_without_values_are_not_chosen() -> None:
    class Turning(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.register_buffer("angles", torch.arange(8.0))
            self.layer, self.scale = nn.Linear(8, 8), nn.Parameter(torch.ones(8))

        def forward(self, x: Tensor) -> Tensor:
            turned: Tensor = self.layer(x) * self.scale * self.get_buffer("angles").cos()
            return turned

    with torch.device("meta"):
        model, x = Turning(), torch.empty(4, 8)
    with pytest.raises(PlanError, match=r"Got none for\n  angles  \(8,\) of Turning"):
        fanin.plan(model, "auto", seed=0, example_inputs=x)
