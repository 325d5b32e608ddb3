from __future__ import annotations

import pytest
import torch

from fanin.errors import ArgumentError
from fanin.geometry import Region

SHAPE = (4, 6)


def test_whole() -> None:
    region = Region.whole([4, 6])
    assert (region.shape, region.local_shape, region.numel, region.is_whole) == (
        SHAPE,
        SHAPE,
        24,
        True,
    )
    assert torch.equal(region.linear_indices(), torch.arange(24).view(4, 6))


def test_of_a_tensor_is_all_of_it_whatever_its_strides() -> None:
    assert Region.of(torch.empty(6, 4).t()) == Region.whole(SHAPE)


def test_runs_in_any_order_and_more_than_once() -> None:
    region = Region(SHAPE, (((2, 4), (0, 1)), ((5, 6), (5, 6))))
    assert region.local_shape == (3, 2)
    assert region.linear_indices().tolist() == [[17, 17], [23, 23], [5, 5]]
    assert not region.is_whole


def test_whole_dims_in_pieces_are_not_whole_but_hold_the_same() -> None:
    region = Region(SHAPE, (((0, 2), (2, 4)), ((0, 6),)))
    assert not region.is_whole
    assert torch.equal(region.linear_indices(), Region.whole(SHAPE).linear_indices())


@pytest.mark.parametrize("runs", [((3, 5),), ((-1, 2),), ((2, 1),)])
def test_a_run_outside_its_dim(runs: tuple[tuple[int, int], ...]) -> None:
    with pytest.raises(
        ArgumentError, match=r"0 <= start <= stop <= size. Got \(.*\) for dim 0 of size 4"
    ):
        Region(SHAPE, (runs, ((0, 6),)))


def test_runs_for_every_dim() -> None:
    with pytest.raises(
        ArgumentError, match=r"one tuple of runs for each dim. Got 1 for shape \(4, 6\)"
    ):
        Region(SHAPE, (((0, 4),),))


@pytest.mark.parametrize(
    "part",
    [
        (slice(None), slice(None)),
        (slice(1, 3), slice(-2, None)),
        (slice(-3, -1), slice(0, 0)),
        (slice(None, None, 2), slice(1, 100, 3)),
        (slice(3, 1), slice(None)),
    ],
)
def test_block_is_indexing(part: tuple[slice, ...]) -> None:
    expected = torch.arange(24).view(SHAPE)[part]
    assert torch.equal(Region.block(SHAPE, part).linear_indices(), expected)


def test_block_with_a_negative_step_runs_backwards() -> None:
    region = Region.block((5,), [slice(None, None, -2)])
    assert region.linear_indices().tolist() == [4, 2, 0]


def test_block_needs_a_slice_for_every_dim() -> None:
    with pytest.raises(ValueError, match="shorter"):
        Region.block(SHAPE, [slice(None)])


def test_parts_are_a_trailing_dim_held_in_full() -> None:
    region = Region.block(SHAPE, [slice(1, 2), slice(2, 4)]).with_parts(2)
    assert region.shape == (4, 6, 2)
    assert region.linear_indices().tolist() == [[[16, 17], [18, 19]]]


def test_narrow_cuts_across_runs() -> None:
    region = Region((10,), (((0, 2), (4, 4), (5, 9)),))
    assert region.narrow(0, 1, 4).runs == (((1, 2), (5, 7)),)
    assert region.narrow(0, 3, 3).runs == ((),)
    assert region.narrow(0, 0, 6).indices(0).tolist() == [0, 1, 5, 6, 7, 8]


def test_split_hands_out_slices_of_the_local_buffer() -> None:
    region = Region.block((6, 5), [slice(0, 6, 2), slice(1, 4)])
    pieces = [(piece, part.linear_indices().tolist()) for piece, part in region.split(6)]
    assert pieces == [
        ((slice(0, 2),), [[1, 2, 3], [11, 12, 13]]),
        ((slice(2, 3),), [[21, 22, 23]]),
    ]


def test_split_of_what_fits_is_one_piece() -> None:
    region = Region.whole(SHAPE)
    assert list(region.split(24)) == [((), region)]


def test_split_cuts_inside_a_row_that_is_too_long() -> None:
    sizes = [part.numel for _, part in Region.whole((2, 7)).split(3)]
    assert sizes == [3, 3, 1, 3, 3, 1]


@pytest.mark.parametrize("shape", [(0,), (3, 0), (0, 3)])
def test_empty_shapes(shape: tuple[int, ...]) -> None:
    region = Region.whole(shape)
    assert (region.numel, region.is_whole) == (0, True)
    assert region.linear_indices().shape == shape
    assert sum(part.numel for _, part in region.split(5)) == 0


def test_a_scalar_has_one_element() -> None:
    region = Region.whole(())
    assert (region.numel, region.is_whole, region.local_shape) == (1, True, ())
    assert region.linear_indices().tolist() == 0


def test_indices_stay_exact_beyond_32_bits() -> None:
    region = Region((2**31, 2**31), (((2**31 - 1, 2**31),), ((5, 7),)))
    assert region.linear_indices().tolist() == [[2**62 - 2**31 + 5, 2**62 - 2**31 + 6]]


def test_indices_are_on_the_cpu_whatever_the_default_device() -> None:
    with torch.device("meta"):
        assert Region.whole(SHAPE).linear_indices().device.type == "cpu"


def test_a_shape_with_more_elements_than_indices_is_refused() -> None:
    with pytest.raises(ArgumentError, match=r"Region: indices are below 2\*\*63 - 1"):
        Region((2**40, 2**40), (((0, 1),), ((0, 1),)))
