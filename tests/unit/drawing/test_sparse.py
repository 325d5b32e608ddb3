from __future__ import annotations

import math

import pytest
import torch

from fanin.drawing import draw, sparse
from fanin.errors import LayoutError
from fanin.fills import Normal, Sparse
from fanin.geometry import Region
from fanin.stream import Key, choose

KEY = Key(5, "weight")
DTYPES = [
    torch.float32,
    torch.float64,
    torch.float16,
    torch.bfloat16,
    torch.float8_e4m3fn,
    torch.float8_e5m2fnuz,
    torch.complex64,
    torch.complex128,
]


def drawn(fill, shape, *, region=None, dtype=torch.float32):
    region = region or Region.whole(shape)
    out = torch.full(region.local_shape, math.nan).to(dtype)
    draw(fill, KEY, region, out)
    return out


def bits(tensor):
    return tensor.contiguous().view(torch.uint8)


@pytest.mark.parametrize("dim", [0, 1])
@pytest.mark.parametrize("sparsity", [0.0, 0.01, 0.1, 0.5, 0.51, 0.9, 1.0])
def test_every_slice_has_its_number_of_zeros_and_the_rest_is_normal(sparsity, dim):
    fill = Sparse(sparsity, std=0.3, dim=dim)
    weight = drawn(fill, (37, 23))
    zeros = weight == 0
    assert (zeros.sum(dim) == fill.num_zeros(weight.shape[dim])).all()
    normal = drawn(Normal(0.0, 0.3), (37, 23))
    assert torch.equal(weight, normal.masked_fill(zeros, 0.0))


@pytest.mark.parametrize("dim", [0, 1])
@pytest.mark.parametrize("sparsity", [0.25, 0.75])
def test_places_are_those_the_stream_chooses(sparsity, dim):
    weight = drawn(Sparse(sparsity, std=1.0, dim=dim), (12, 12))
    places = choose(KEY.value, 0, 12, 12, 3)
    picked = torch.zeros(12, 12, dtype=torch.bool).scatter_(1, places, True)
    picked = picked if dim == 1 else picked.T
    assert torch.equal(weight == 0, picked if sparsity < 0.5 else ~picked)


REGIONS = {
    "rows": (slice(3, 20), slice(None)),
    "columns": (slice(None), slice(5, 9)),
    "interleaved rows": (slice(1, None, 3), slice(None)),
    "interleaved columns": (slice(None), slice(0, None, 4)),
    "block": (slice(2, 30, 5), slice(7, 19)),
    "one element": (slice(8, 9), slice(8, 9)),
    "nothing": (slice(0, 0), slice(None)),
}


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("dim", [0, 1])
@pytest.mark.parametrize("sparsity", [0.2, 0.8])
@pytest.mark.parametrize("name", REGIONS)
def test_a_region_is_that_part_of_the_whole(name, sparsity, dim, dtype):
    fill, shape = Sparse(sparsity, dim=dim), (31, 26)
    part = drawn(fill, shape, region=Region.block(shape, REGIONS[name]), dtype=dtype)
    whole = drawn(fill, shape, dtype=dtype)
    assert torch.equal(bits(part), bits(whole[REGIONS[name]]))


@pytest.mark.parametrize("dim", [0, 1])
def test_runs_may_come_in_any_order(dim):
    region = Region((9, 8), (((5, 9), (0, 2)), ((6, 7), (1, 4))))
    rows, columns = (torch.cat([torch.arange(*run) for run in runs]) for runs in region.runs)
    part = drawn(Sparse(0.4, dim=dim), (9, 8), region=region)
    assert torch.equal(part, drawn(Sparse(0.4, dim=dim), (9, 8))[rows][:, columns])


@pytest.mark.parametrize("dim", [0, 1])
@pytest.mark.parametrize("sparsity", [0.3, 0.7])
def test_chunks_of_partly_held_slices_join(sparsity, dim, monkeypatch):
    fill, shape, slices = Sparse(sparsity, dim=dim), (20, 30), (slice(2, 17), slice(4, 29))
    whole = drawn(fill, shape)
    monkeypatch.setattr(sparse, "_CHUNK", 70)
    assert torch.equal(drawn(fill, shape, region=Region.block(shape, slices)), whole[slices])


@pytest.mark.parametrize(
    "make",
    [
        lambda: torch.empty(8, 9).T,
        lambda: torch.empty(18, 24)[::2, ::3],
        lambda: torch.nn.Parameter(torch.empty(9, 8)),
    ],
    ids=["transposed", "strided", "parameter"],
)
@pytest.mark.parametrize("sparsity", [0.0, 0.3, 1.0])
def test_any_tensor_can_be_written(make, sparsity):
    out = make()
    version = out._version
    draw(Sparse(sparsity), KEY, Region.whole((9, 8)), out)
    assert out._version > version
    assert torch.equal(out.detach(), drawn(Sparse(sparsity), (9, 8)))


@pytest.mark.parametrize("shape", [(0, 4), (4, 0), (0, 0)])
def test_empty_tensors_are_quiet(shape):
    assert drawn(Sparse(0.5), shape).shape == shape


@pytest.mark.parametrize("shape", [(), (4,), (2, 3, 4)])
def test_a_tensor_that_is_no_matrix_is_refused_unchanged(shape):
    out = torch.ones(shape)
    with pytest.raises(LayoutError, match=r"sparse: slices are the columns.*Got shape"):
        draw(Sparse(0.5), KEY, Region.whole(shape), out)
    assert (out == 1).all()
