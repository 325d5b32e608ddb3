"""Hypothesis properties of regions and of the stream: what is drawn does not depend on how."""

from __future__ import annotations

import itertools
import math

import numpy as np
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from fanin import stream
from fanin.geometry import Region
from fanin.stream import Key, laws, reference
from fanin.stream.philox import words

KEY = Key(7, "blocks.0.mlp.weight")
LAW = laws.normal_law(0.0, 1.0, torch.float32)

quick = settings(derandomize=True, max_examples=60, deadline=None)
shapes = st.lists(st.integers(0, 9), max_size=4).map(tuple)


@st.composite
def regions(draw: st.DrawFn) -> Region:
    """A shape with any runs per dim: empty, touching, overlapping, out of order."""
    shape = draw(shapes)
    runs = []
    for size in shape:
        edges = st.tuples(st.integers(0, size), st.integers(0, size)).map(sorted).map(tuple)
        runs.append(tuple(draw(st.lists(edges, max_size=3))))
    return Region(shape, tuple(runs))


@st.composite
def partitions(draw: st.DrawFn) -> tuple[tuple[int, ...], list[list[list[int]]]]:
    """A shape, and for each dim a way to hand its indices out to owners, as sorted lists."""
    shape = draw(shapes)
    owned = []
    for size in shape:
        owner = draw(st.lists(st.integers(0, 2), min_size=size, max_size=size))
        owned.append([[i for i in range(size) if owner[i] == who] for who in range(3)])
    return shape, owned


def slices(size: int) -> st.SearchStrategy[slice]:
    edge = st.none() | st.integers(-size - 2, size + 2)
    return st.builds(slice, edge, edge, st.sampled_from([None, 1, 2, 3, -1, -2]))


@st.composite
def sliced_shapes(draw: st.DrawFn) -> tuple[tuple[int, ...], tuple[slice, ...]]:
    shape = draw(shapes)
    return shape, tuple(draw(slices(size)) for size in shape)


def runs_of(indices: list[int]) -> tuple[tuple[int, int], ...]:
    """The fewest (start, stop) pairs that give these increasing indices."""
    runs: list[tuple[int, int]] = []
    for i in indices:
        if runs and runs[-1][1] == i:
            runs[-1] = (runs[-1][0], i + 1)
        else:
            runs.append((i, i + 1))
    return tuple(runs)


def filled(region: Region) -> torch.Tensor:
    out = torch.full(region.local_shape, math.nan)
    stream.fill(LAW, KEY.value, region, out)
    return out


def whole_at(region: Region) -> torch.Tensor:
    """The region's elements, taken from the whole tensor."""
    whole = filled(Region.whole(region.shape))
    return whole.flatten()[region.linear_indices().flatten()].view(region.local_shape)


@quick
@given(regions())
def test_a_region_holds_its_part_of_the_whole(region: Region) -> None:
    assert torch.equal(filled(region), whole_at(region))


@quick
@given(partitions())
def test_a_partition_joins_to_the_whole(partition) -> None:
    shape, owned = partition
    joined = torch.full(shape, math.nan)
    for mine in itertools.product(*owned):
        region = Region(shape, tuple(runs_of(indices) for indices in mine))
        index = [torch.tensor(indices, dtype=torch.int64) for indices in mine]
        joined[torch.meshgrid(*index, indexing="ij") if index else ...] = filled(region)
    assert torch.equal(joined, filled(Region.whole(shape)))


@quick
@given(regions(), st.integers(1, 40))
def test_split_covers_every_element_once(region: Region, limit: int) -> None:
    covered = torch.zeros(region.local_shape, dtype=torch.int64)
    index = region.linear_indices()
    for piece, part in region.split(limit):
        assert part.numel <= limit
        assert torch.equal(part.linear_indices(), index[piece])
        covered[piece] += 1
    assert bool((covered == 1).all())


@quick
@given(regions(), st.data())
def test_narrow_is_a_slice_of_the_local_indices(region: Region, data: st.DataObject) -> None:
    for dim, size in enumerate(region.local_shape):
        start, stop = sorted(data.draw(st.tuples(*[st.integers(0, size)] * 2)))
        narrowed = region.narrow(dim, start, stop)
        assert torch.equal(narrowed.indices(dim), region.indices(dim)[start:stop])
        assert narrowed.local_shape[:dim] == region.local_shape[:dim]


@quick
@given(sliced_shapes())
def test_block_is_indexing(case) -> None:
    shape, part = case
    region = Region.block(shape, part)
    for dim, (size, piece) in enumerate(zip(shape, part, strict=True)):
        assert region.indices(dim).tolist() == list(range(size))[piece]
    whole = filled(Region.whole(shape)).numpy()  # torch refuses negative steps
    assert np.array_equal(filled(region).numpy(), whole[part])


@quick
@given(st.permutations(range(6)))
def test_order_does_not_matter(order: list[int]) -> None:
    """Rows drawn in any order, with other streams drawn between, are the rows of the whole."""
    out = torch.empty(6, 33)
    for i in order:
        out[i] = filled(Region.block((6, 33), [slice(i, i + 1), slice(None)]))[0]
        stream.bits(Key(i, "other"), i, 3)
    assert torch.equal(out, filled(Region.whole((6, 33))))


@quick
@given(st.integers(0, 2**64 - 1), st.integers(0, 2**63 - 300), st.integers(0, 200))
def test_a_word_alone_is_its_place_in_a_range(key: int, start: int, offset: int) -> None:
    together = stream.bits(Key.from_bits(key), start, 201).view(torch.int32)
    alone = int(words(key, torch.tensor(start + offset)))
    assert int(together[offset]) & 0xFFFFFFFF == alone


@quick
@given(st.integers(0, 2**63 - 300), st.integers(1, 130), st.sampled_from([0, 1, 2]))
def test_a_number_alone_is_its_place_in_a_run(start: int, count: int, which: int) -> None:
    law = (
        laws.uniform_law(0.0, 1.0, torch.float64),
        LAW,
        laws.truncated_law(0.0, 1.0, -2.0, 2.0, torch.bfloat16),
    )[which]
    out = torch.empty(count, dtype=law.dtype)
    stream.fill(law, KEY.value, Region((2**63 - 1,), (((start, start + count),),)), out)
    at = start + count // 2
    alone = reference.values(law, KEY.value, torch.tensor(at))
    assert float(out[count // 2]) == float(alone)
