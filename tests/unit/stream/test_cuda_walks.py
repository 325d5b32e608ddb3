from __future__ import annotations

import itertools

import pytest
import torch

from cuda_cases import LAYOUTS, REGIONS, row
from fanin.geometry import Region
from fanin.stream.cuda.walks import Step, Walk, walks

PLACES = {name: region for name, region in REGIONS.items() if name != "wide rows apart"}


def followed(walk: Walk) -> list[tuple[int, int]]:
    """Index and memory of each place, in order."""
    ranges = (range(step.size) for step in walk.steps)
    return [
        (
            walk.first + sum(i * step.in_stream for i, step in zip(at, walk.steps, strict=True)),
            walk.memory + sum(i * step.in_memory for i, step in zip(at, walk.steps, strict=True)),
        )
        for at in itertools.product(*ranges)
    ]


@pytest.mark.parametrize("layout", LAYOUTS.values(), ids=list(LAYOUTS))
@pytest.mark.parametrize("region", PLACES.values(), ids=list(PLACES))
def test_walks_are_the_region(region: Region, layout) -> None:
    """However the walk is turned or cut, each place is reached once, with its own index."""
    out = layout(region.local_shape, torch.float32)
    memory = torch.arange(out.untyped_storage().nbytes() // 4).as_strided(out.shape, out.stride())
    expected = sorted(
        zip(region.linear_indices().flatten().tolist(), memory.flatten().tolist(), strict=True)
    )
    all_walks = list(walks(region, out.stride()))
    for variant in (
        all_walks,
        [walk.by_memory() for walk in all_walks],
        [part for walk in all_walks for part in walk.shorter(2)],
    ):
        assert sorted(place for walk in variant for place in followed(walk)) == expected
        assert sum(walk.count for walk in variant) == region.numel


def test_what_lies_together_is_one_step() -> None:
    whole = Region.whole((3, 4, 5))
    assert list(walks(whole, (20, 5, 1))) == [Walk(0, 0, (Step(60, 1, 1),))]
    rows = Region.block((9, 4, 5), [slice(2, 5), slice(4), slice(5)])
    assert list(walks(rows, (20, 5, 1))) == [Walk(40, 0, (Step(60, 1, 1),))]
    columns = Region.block((3, 10), [slice(3), slice(4, 8)])
    assert list(walks(columns, (4, 1))) == [Walk(4, 0, (Step(3, 10, 4), Step(4, 1, 1)))]


def test_a_transposed_tensor_is_walked_along_its_memory() -> None:
    (walk,) = walks(Region.whole((3, 4)), (1, 3))
    assert walk.by_memory().steps == (Step(4, 1, 3), Step(3, 4, 1))


def test_equal_runs_are_one_walk() -> None:
    strided = Region((12,), (((0, 2), (4, 6), (8, 10)),))
    assert list(walks(strided, (1,))) == [Walk(0, 0, (Step(3, 4, 2), Step(2, 1, 1)))]


def test_runs_in_no_order_are_followed_as_they_come() -> None:
    backwards = Region((12,), (((8, 10), (4, 6), (0, 2), (11, 12)),))
    assert [index for walk in walks(backwards, (1,)) for index, _ in followed(walk)] == (
        [8, 9, 4, 5, 0, 1, 11]
    )


def test_the_largest_index() -> None:
    (walk,) = walks(row(2**63 - 11, 10), (1,))
    assert (walk.first, walk.count) == (2**63 - 11, 10)


def test_nothing_is_no_walk() -> None:
    assert list(walks(Region.block((4, 5), [slice(2, 2), slice(5)]), (5, 1))) == []
