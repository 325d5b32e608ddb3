"""Whole models as on a GPU: tensors of the CPU play those of a card that executes the kernels.

From a plan to memory all of fanin takes part: which tensors share launches, packed and rearranged
parts, structures around drawn numbers, conversions. What is not here is a device of torch's.
"""

from __future__ import annotations

from collections.abc import Iterator
from importlib import import_module

import pytest
import torch
from ptx.device import Device, device
from torch import nn
from triton.runtime import JITFunction

import fanin
from cuda_cases import bits_of
from fanin import fills, stream, zoo
from fanin.drawing import draw
from fanin.geometry import Region
from fanin.stream import Key
from fanin.stream.cuda import launching

KERNELS = [each for each in vars(launching).values() if isinstance(each, JITFunction)]
DRAWING = [import_module(f"fanin.drawing.{name}")
           for name in ("dispatch", "elementwise", "orthogonal", "sparse", "together")]  # fmt: skip


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TRITON_CACHE_DIR", str(tmp_path_factory.mktemp("triton")))
        yield


@pytest.fixture
def card(cache, monkeypatch: pytest.MonkeyPatch) -> Iterator[Device]:
    """Every tensor is on it, from now on."""
    with device(90, KERNELS) as made:

        def fill_together(fills) -> None:
            made.lent = [out for *_, out in fills]
            launching.fill_together(fills)

        monkeypatch.setattr(launching, "_checked", set())
        monkeypatch.setattr(stream, "fill", launching.fill)
        monkeypatch.setattr(stream, "fill_together", fill_together)
        monkeypatch.setattr(stream, "native_is_active", lambda: False)
        for module in DRAWING:
            for name, answer in (("is_plain", False), ("is_reachable", True)):
                if hasattr(module, name):
                    monkeypatch.setattr(module, name, lambda tensor, answer=answer: answer)
        yield made


def convolutions() -> nn.Module:
    return nn.Sequential(nn.Conv2d(3, 8, 3, groups=1), nn.ConvTranspose2d(8, 4, 2, groups=2))


def attention() -> nn.Module:
    return nn.ModuleList([nn.MultiheadAttention(24, 3, add_bias_kv=True), nn.LSTM(7, 5)])


def table() -> nn.Module:
    return nn.Sequential(nn.Embedding(30, 8, padding_idx=2), nn.Linear(8, 70_000 // 8))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=["float32", "bfloat16"])
@pytest.mark.parametrize(
    ("build", "recipe"),
    [
        (zoo.lenet, "torch_default"),
        (convolutions, "kaiming"),
        (attention, "xavier"),
        (table, "lecun"),
    ],
    ids=["LeNet", "convolutions", "attention and gates", "a table and a large layer"],
)
def test_a_model_has_the_bits_of_the_cpu(build, recipe: str, dtype, request) -> None:
    here, there = build().to(dtype), build().to(dtype)
    plan = fanin.plan(here, recipe, seed=0)
    plan.apply(here)
    card = request.getfixturevalue("card")
    plan.apply(there)
    assert card.launched
    for (name, a), b in zip(here.state_dict().items(), there.state_dict().values(), strict=True):
        assert torch.equal(bits_of(a), bits_of(b)), name


@pytest.mark.parametrize(
    "fill",
    [fills.Sparse(0.3), fills.Orthogonal(2.0), fills.Rearranged(fills.Normal(), (1, 0))],
    ids=lambda fill: fill.name,
)
def test_structures_around_drawn_numbers(fill, request) -> None:
    region = Region.block((40, 30), [slice(1, 40, 2), slice(3, 20)])
    here, there = torch.empty(region.local_shape), torch.empty(region.local_shape)
    draw(fill, Key(0, "weight"), region, here)
    card = request.getfixturevalue("card")
    draw(fill, Key(0, "weight"), region, there)
    assert card.launched
    assert torch.equal(here, there)
