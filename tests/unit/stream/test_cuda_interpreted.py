"""The kernels as Triton's interpreter runs them on the CPU, against the reference, bit by bit."""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor

import interpreter
import pytest
import torch
from interpreter import Asked
from torch import Tensor

from cuda_cases import DTYPES, KEY, LAWS, LAYOUTS, REGIONS, STARTS, row
from fanin.geometry import Region
from fanin.stream import reference
from fanin.stream.laws import Law

Run = Callable[[Callable[[list[Asked]], list[Tensor]], list[Asked]], None]

each_dtype = pytest.mark.parametrize("dtype", DTYPES, ids=lambda dtype: str(dtype)[6:])
each_law = pytest.mark.parametrize("law", LAWS.values(), ids=list(LAWS))


@pytest.fixture(scope="module")
def check() -> Iterator[Run]:
    """Draw in the other process, and compare all memory with what the reference writes."""
    spawn = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, spawn, initializer=interpreter.start) as process:

        def run(draw: Callable[[list[Asked]], list[Tensor]], asked: list[Asked]) -> None:
            drawn = process.submit(draw, interpreter.portable(asked)).result()
            for number, (law, key, region, out) in enumerate(asked):
                expected = torch.empty(region.local_shape, dtype=law.dtype)
                reference.fill(law, key, region, expected)
                out.copy_(expected)
                memory = torch.empty(0, dtype=torch.uint8).set_(out.untyped_storage())
                assert torch.equal(drawn[number], memory), number

        yield run


def asked(law: Law, region: Region, out: Tensor | None = None) -> Asked:
    """A tensor inside of a larger one, whose other elements no kernel may write."""
    if out is None:
        size = region.numel
        memory = torch.full((size + 128,), 0.25).to(law.dtype)
        out = memory[64 : 64 + size].view(region.local_shape)
    return law, KEY, region, out


@each_law
def test_every_law_and_dtype(law, check) -> None:
    check(
        interpreter.draw_all,
        [
            asked(law(dtype), region)
            for dtype in DTYPES
            for region in (row(67, 1500), REGIONS["every third column"])
        ],
    )


@pytest.mark.parametrize("law", [LAWS[name] for name in ("uniform", "normal", "one-sided")])
def test_far_indices(law, check) -> None:
    """Of runs and of single places."""
    dtypes = (torch.float32, torch.float64)
    check(
        interpreter.draw_all,
        [
            asked(law(dtype), row(start, count))
            for dtype in dtypes
            for start in STARTS
            for count in (250, 20)
        ],
    )


@pytest.mark.parametrize("region", REGIONS.values(), ids=list(REGIONS))
def test_every_region(region: Region, check) -> None:
    pairs = [("uniform", torch.bfloat16), ("normal", torch.float32), ("truncated", torch.float64)]
    check(interpreter.draw_all, [asked(LAWS[name](dtype), region) for name, dtype in pairs])


@pytest.mark.parametrize("layout", LAYOUTS.values(), ids=list(LAYOUTS))
def test_every_layout(layout, check) -> None:
    law = LAWS["normal"](torch.float32)
    names = ("no dims", "whole", "columns", "blocks apart", "many dims")
    check(
        interpreter.draw_all,
        [asked(law, REGIONS[name], layout(REGIONS[name].local_shape, law.dtype)) for name in names],
    )


def test_a_group_of_tensors(check) -> None:
    """Unlike ones: each law and dtype is a launch of its own, none starts at a round address."""
    dtypes = (torch.float32, torch.float64, torch.float16, torch.float8_e5m2)
    laws = [LAWS[name](dtype) for name in ("uniform", "normal", "truncated") for dtype in dtypes]
    regions = [Region.whole((size,)) for size in (3, 600, 0)]
    many = [asked(law, region) for law in laws for region in regions]
    check(
        interpreter.draw_group,
        [
            (law, (key + 2**61 * number) % 2**64, *rest)
            for number, (law, key, *rest) in enumerate(many)
        ],
    )
