from __future__ import annotations

import math

import pytest
import torch

from fanin.drawing import draw, householder
from fanin.drawing.orthogonal import draw_orthogonal, fill_plain_matrix
from fanin.errors import ArgumentError, DtypeError, LayoutError
from fanin.fills import DeltaOrthogonal, Normal, Orthogonal
from fanin.geometry import Region
from fanin.stream import Key

KEY = Key(7, "weight")
# 129 and more need a second block of reflections, the smallest have special vectors.
SHAPES = [
    (1, 1),
    (1, 7),
    (7, 1),
    (2, 2),
    (5, 5),
    (9, 4),
    (4, 9),
    (150, 150),
    (300, 140),
    (140, 300),
]
DTYPES = [torch.float32, torch.float64, torch.complex64, torch.complex128]
TOLERANCE = {
    torch.float32: 4e-6,
    torch.complex64: 4e-6,
    torch.float64: 1e-13,
    torch.complex128: 1e-13,
}


@pytest.fixture(autouse=True, params=["one by one", "in blocks"])
def way(request, monkeypatch):
    """Whole small matrices are made by C++, all others by products: each way passes every test."""
    if request.param == "in blocks":
        monkeypatch.setattr(householder, "_SMALL", 0)


one_by_one = pytest.mark.parametrize("way", ["one by one"], indirect=True)


def drawn(shape, fill=None, *, region=None, dtype=torch.float32, key=KEY):
    region = region or Region.whole(shape)
    out = torch.full(region.local_shape, math.nan, dtype=dtype)
    draw(fill or Orthogonal(), key, region, out)
    return out


def by_definition(shape, dtype, batch=0, batches=1):
    """The product of dense reflections, in double precision."""
    n, m = sorted(shape)
    normal = torch.empty(batches, n, m, dtype=dtype)
    draw(Normal(), KEY, Region.whole(normal.shape), normal)
    normal = normal[batch].to(torch.promote_types(dtype, torch.float64))
    product = torch.eye(m, dtype=normal.dtype)
    factors = []
    for k in range(n):
        x = torch.zeros(m, dtype=normal.dtype)
        x[k:] = normal[k, k:]
        s = x[k] / x[k].abs()
        if k == m - 1:
            factors.append(s)
            continue
        v = x.clone()
        v[k] += s * x.norm()
        reflection = torch.eye(m, dtype=x.dtype) - 2 * torch.outer(v, v.conj()) / v.norm() ** 2
        product = product @ reflection
        factors.append(-s)
    tall = product[:, :n] * torch.stack(factors)
    return tall if shape[0] >= shape[1] else tall.T


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", SHAPES)
def test_is_the_product_that_the_stream_defines(shape, dtype):
    expected = by_definition(shape, dtype)
    torch.testing.assert_close(
        drawn(shape, dtype=dtype).to(expected.dtype), expected, atol=TOLERANCE[dtype], rtol=0
    )


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", SHAPES)
def test_the_shorter_side_is_orthonormal(shape, dtype):
    q = drawn(shape, Orthogonal(2.5), dtype=dtype) / 2.5
    gram = q.mH @ q if shape[0] >= shape[1] else q @ q.mH
    eps = torch.finfo(dtype).eps
    # Entries of the product of n reflections carry an error of some eps·√n.
    tolerance = 8 * eps * math.sqrt(max(shape))
    torch.testing.assert_close(gram, torch.eye(min(shape), dtype=dtype), atol=tolerance, rtol=0)


REGIONS = {
    "first columns": (slice(None), slice(0, 3)),
    "last columns": (slice(None), slice(-3, None)),
    "interleaved columns": (slice(None), slice(1, None, 3)),
    "first rows": (slice(0, 3), slice(None)),
    "last rows": (slice(-3, None), slice(None)),
    "interleaved rows": (slice(1, None, 3), slice(None)),
    "block": (slice(1, 8), slice(2, 9)),
    "one element": (slice(-1, None), slice(-1, None)),
    "nothing": (slice(0, 0), slice(None)),
}


@pytest.mark.parametrize("shape", [(9, 6), (6, 9), (200, 200), (2, 5, 3)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
@one_by_one
def test_bits_of_a_small_matrix_depend_on_the_key_alone(shape, dtype, use_threads):
    fill = Orthogonal(2.0, batch_dims=len(shape) - 2)
    whole = drawn(shape, fill, dtype=dtype)
    use_threads(1)
    assert torch.equal(drawn(shape, fill, dtype=dtype), whole)
    strided = torch.empty(*shape[:-1], 2 * shape[-1], dtype=dtype)[..., ::2]
    draw(fill, KEY, Region.whole(shape), strided)
    assert torch.equal(strided, whole)
    last = Region.block(shape, [slice(-1, None), *(slice(None) for _ in shape[1:])])
    if fill.batch_dims:
        assert torch.equal(drawn(shape, fill, region=last, dtype=dtype), whole[-1:])


@pytest.mark.parametrize("shape", [(9, 6), (6, 9), (5, 4, 3)])
@one_by_one
def test_the_short_way_to_a_plain_matrix(shape):
    out = torch.nn.Parameter(torch.empty(shape))
    version = out._version
    fill_plain_matrix(2.0, KEY, out)
    assert torch.equal(out.detach(), drawn(shape, Orthogonal(2.0)))
    assert out._version > version
    assert out.is_leaf


@pytest.mark.parametrize("dtype", [torch.float32, torch.complex128])
@pytest.mark.parametrize("shape", [(12, 12), (40, 10), (10, 40), (300, 140), (140, 300)])
@pytest.mark.parametrize("name", REGIONS)
def test_a_region_is_that_part_of_the_whole(name, shape, dtype):
    fill = Orthogonal(3.0)
    part = drawn(shape, fill, region=Region.block(shape, REGIONS[name]), dtype=dtype)
    whole = drawn(shape, fill, dtype=dtype)[REGIONS[name]]
    torch.testing.assert_close(part, whole, atol=3 * TOLERANCE[dtype], rtol=0)


@pytest.mark.parametrize("shape", [(9, 6), (6, 9), (7, 7), (30, 4)])
def test_runs_may_come_in_any_order(shape):
    rows = ((4, 6), (0, 1))
    columns = ((3, 4), (0, 2))
    part = drawn(shape, region=Region(shape, (rows, columns)))
    whole = drawn(shape)[torch.tensor([4, 5, 0])][:, torch.tensor([3, 0, 1])]
    torch.testing.assert_close(part, whole, atol=4e-6, rtol=0)
    part = drawn(shape, region=Region(shape, (((0, shape[0]),), columns)))
    torch.testing.assert_close(part, drawn(shape)[:, torch.tensor([3, 0, 1])], atol=4e-6, rtol=0)


def test_slabs_join_where_the_vectors_need_several(monkeypatch):
    shape = (41, 12)
    whole = drawn(shape)
    monkeypatch.setattr(householder, "_SLAB", 60)
    monkeypatch.setattr(householder, "_BLOCK", 5)
    torch.testing.assert_close(drawn(shape), whole, atol=4e-6, rtol=0)
    rows = Region.block(shape, (slice(3, None, 4), slice(None)))
    torch.testing.assert_close(drawn(shape, region=rows), whole[3::4], atol=4e-6, rtol=0)


def test_columns_cost_only_the_vectors_up_to_the_last(monkeypatch):
    elements = counted_elements(monkeypatch)
    drawn((600, 500), region=Region.block((600, 500), (slice(None), slice(0, 20))))
    assert sum(elements) == 20 * 600


def test_rows_of_a_tall_matrix_never_take_its_memory(monkeypatch):
    monkeypatch.setattr(householder, "_SLAB", 4096)
    elements = counted_elements(monkeypatch)
    drawn((2000, 64), region=Region.block((2000, 64), (slice(0, 100), slice(None))))
    assert max(elements) <= 4096


def counted_elements(monkeypatch):
    elements = []
    original = householder.draw_elementwise

    def counting(fill, key, region, out):
        elements.append(out.numel())
        original(fill, key, region, out)

    monkeypatch.setattr(householder, "draw_elementwise", counting)
    return elements


@pytest.mark.parametrize("shape", [(4, 4), (6, 3), (3, 6)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.complex64])
@pytest.mark.parametrize("zero", [0.0, -0.0])
def test_zero_vectors_reflect_nothing(shape, dtype, zero, monkeypatch):
    monkeypatch.setattr(
        householder, "draw_elementwise", lambda fill, key, region, out: out.fill_(zero)
    )
    assert torch.equal(drawn(shape, dtype=dtype), torch.eye(*shape, dtype=dtype))


def test_a_first_element_of_zero_counts_as_positive(monkeypatch):
    def second_axis(fill, key, region, out):
        out.copy_(torch.tensor([[[-0.0, 2.0]]]))

    monkeypatch.setattr(householder, "draw_elementwise", second_axis)
    assert torch.equal(drawn((2, 1)), torch.tensor([[0.0], [1.0]]))


@pytest.mark.parametrize("rows", [slice(None), slice(0, 5)])
def test_gain_is_applied_once(rows):
    region = Region.block((20, 4), (rows, slice(None)))
    once = drawn((20, 4), Orthogonal(1.0), region=region)
    torch.testing.assert_close(
        drawn((20, 4), Orthogonal(-3.0), region=region), -3 * once, atol=1e-6, rtol=1e-5
    )
    assert (drawn((20, 4), Orthogonal(0.0), region=region) == 0).all()


def test_leading_dims_hold_one_matrix_each():
    shape, fill = (2, 3, 5, 4), Orthogonal(batch_dims=2)
    whole = drawn(shape, fill)
    for batch, q in enumerate(whole.view(6, 5, 4)):
        expected = by_definition((5, 4), torch.float32, batch, 6).float()
        torch.testing.assert_close(q, expected, atol=4e-6, rtol=0)
    slices = (slice(1, 2), slice(0, 3, 2), slice(None), slice(1, 3))
    part = drawn(shape, fill, region=Region.block(shape, slices))
    torch.testing.assert_close(part, whole[slices], atol=4e-6, rtol=0)


@pytest.mark.parametrize("row_dims", [1, 2, 3])
def test_dims_are_flattened_to_rows_and_columns(row_dims):
    shape = (3, 4, 2, 5)
    fill = Orthogonal(row_dims=row_dims)
    matrix = (math.prod(shape[:row_dims]), math.prod(shape[row_dims:]))
    whole = drawn(shape, fill)
    torch.testing.assert_close(whole, drawn(matrix).view(shape), atol=4e-6, rtol=0)
    slices = (slice(1, 3), slice(0, 4, 2), slice(None), slice(2, 5))
    part = drawn(shape, fill, region=Region.block(shape, slices))
    torch.testing.assert_close(part, whole[slices], atol=4e-6, rtol=0)


@pytest.mark.parametrize(
    "dtype",
    [torch.float16, torch.bfloat16, torch.float8_e4m3fn, torch.float8_e5m2, torch.float8_e4m3fnuz],
)
def test_narrow_dtypes_are_float32_rounded_once(dtype):
    wide = drawn((9, 6), Orthogonal(1.5))
    assert torch.equal(drawn((9, 6), Orthogonal(1.5), dtype=dtype).float(), wide.to(dtype).float())


@pytest.mark.parametrize("dtype", [torch.float16, torch.float8_e5m2, torch.float8_e4m3fn])
def test_a_gain_beyond_the_dtype_saturates(dtype):
    assert drawn((4, 4), Orthogonal(1e9), dtype=dtype).float().isfinite().all()


@pytest.mark.parametrize(
    ("fill", "shape"), [(Orthogonal(1e39), (4, 4)), (DeltaOrthogonal(1e39), (4, 4, 3))]
)
def test_a_gain_beyond_the_arithmetic_is_refused_before_anything_is_written(fill, shape):
    out = torch.ones(shape)
    with pytest.raises(ArgumentError, match=r"gain must be finite .* Got gain=1e\+39 for float32"):
        draw(fill, KEY, Region.whole(shape), out)
    assert (out == 1).all()
    assert drawn(shape, fill, dtype=torch.float64).isfinite().all()


@pytest.mark.parametrize(
    "make",
    [
        lambda shape: torch.empty(shape[::-1]).T,
        lambda shape: torch.empty(2 * shape[0], 3 * shape[1])[::2, ::3],
        lambda shape: torch.nn.Parameter(torch.empty(shape)),
        lambda shape: torch.empty(shape, dtype=torch.complex64).conj(),
    ],
    ids=["transposed", "strided", "parameter", "conjugated"],
)
@pytest.mark.parametrize("shape", [(7, 4), (4, 7)])
def test_any_tensor_can_be_written(make, shape):
    out = make(shape)
    version = out._version
    draw(Orthogonal(), KEY, Region.whole(shape), out)
    assert out._version > version
    torch.testing.assert_close(out.detach(), drawn(shape, dtype=out.dtype), atol=4e-6, rtol=0)


def test_threads_move_nothing_beyond_the_tolerance(use_threads):
    whole = drawn((200, 180))
    use_threads(1)
    torch.testing.assert_close(drawn((200, 180)), whole, atol=4e-6, rtol=0)


@pytest.mark.parametrize("shape", [(0, 4), (4, 0), (0, 0), (3, 0, 2)])
def test_empty_tensors_are_quiet(shape):
    assert drawn(shape).shape == shape


@pytest.mark.parametrize(
    ("shape", "fill"),
    [
        ((), Orthogonal()),
        ((4,), Orthogonal()),
        ((2, 3), Orthogonal(batch_dims=1)),
        ((2, 3, 4), Orthogonal(batch_dims=1, row_dims=2)),
    ],
)
def test_a_tensor_without_a_matrix_is_refused_unchanged(shape, fill):
    out = torch.zeros(shape)
    with pytest.raises(LayoutError, match=r"orthogonal: a matrix has two or more dims.*Got shape"):
        draw_orthogonal(fill, KEY, Region.whole(shape), out)
    assert (out == 0).all()


@pytest.mark.parametrize("dtype", [torch.int64, torch.bool, torch.float8_e8m0fnu])
@pytest.mark.parametrize(
    ("fill", "shape"), [(Orthogonal(), (2, 2)), (DeltaOrthogonal(), (2, 2, 3))]
)
def test_a_dtype_without_random_numbers_is_refused_unchanged(fill, shape, dtype):
    out = torch.ones(shape).to(dtype)
    with pytest.raises(DtypeError, match="random values are float32"):
        draw(fill, KEY, Region.whole(shape), out)
    assert (out.float() == 1).all()


@pytest.mark.parametrize("shard", [slice(None), slice(0, 8)])  # by columns, and by blocks
def test_autocast_changes_no_bit(shard):
    region = Region.block((300, 40), (shard, slice(None)))
    expected = drawn(region.shape, region=region)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(drawn(region.shape, region=region), expected)
        assert torch.is_autocast_enabled("cpu")
