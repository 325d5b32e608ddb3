from __future__ import annotations

import math

import pytest
import torch

from fanin.drawing import draw
from fanin.errors import DtypeError, LayoutError
from fanin.fills import Constant, DeltaOrthogonal, Dirac, Eye, Orthogonal
from fanin.geometry import Layout, Region
from fanin.initializers import delta_orthogonal
from fanin.stream import Key

KEY = Key(3, "conv.weight")
DTYPES = [
    torch.float64,
    torch.float16,
    torch.bfloat16,
    torch.complex64,
    torch.float8_e4m3fn,
    torch.float8_e5m2fnuz,
]


def drawn(fill, shape, *, region=None, dtype=torch.float32):
    region = region or Region.whole(shape)
    out = torch.full(region.local_shape, 7.0, dtype=dtype)
    draw(fill, KEY, region, out)
    return out


@pytest.mark.parametrize("shape", [(4, 4), (3, 5), (5, 3), (1, 1), (0, 3), (3, 0)])
def test_eye_is_the_identity_times_gain(shape):
    assert torch.equal(drawn(Eye(2.5), shape), 2.5 * torch.eye(*shape))


@pytest.mark.parametrize("dtype", DTYPES)
def test_eye_in_every_dtype(dtype):
    for region in (Region.whole((3, 4)), Region.block((3, 4), (slice(0, 2), slice(None)))):
        expected = (1.5 * torch.eye(3, 4))[: region.local_shape[0]].to(dtype)
        actual = drawn(Eye(1.5), (3, 4), region=region, dtype=dtype)
        assert torch.equal(actual.to(torch.complex64), expected.to(torch.complex64))


@pytest.mark.parametrize("dtype", [torch.float8_e4m3fn, torch.float8_e5m2, torch.float16])
def test_a_gain_beyond_the_dtype_saturates(dtype):
    assert drawn(Eye(1e9), (2, 2), dtype=dtype)[0, 0].float() == torch.finfo(dtype).max


def test_eye_writes_strided_tensors_and_parameters():
    out = torch.empty(8, 9)[::2, ::3]
    draw(Eye(), KEY, Region.whole(out.shape), out)
    assert torch.equal(out, torch.eye(4, 3))
    parameter = torch.nn.Parameter(torch.empty(2, 3))
    draw(Eye(), KEY, Region.whole((2, 3)), parameter)
    assert torch.equal(parameter.detach(), torch.eye(2, 3))


DIRAC = [
    ((4, 4, 3), 1),
    ((6, 3, 5), 2),
    ((4, 6, 3, 3), 2),
    ((6, 2, 3, 5), 3),
    ((8, 8, 1, 3, 5), 4),
    ((3, 3, 2, 4), 1),
    ((4, 0, 3), 2),
    ((0, 4, 3), 1),
    ((4, 4, 0), 1),
]


@pytest.mark.parametrize(("shape", "groups"), [case for case in DIRAC if 0 not in case[0]])
def test_dirac_is_what_torch_means(shape, groups):
    expected = torch.nn.init.dirac_(torch.empty(shape), groups)
    assert torch.equal(drawn(Dirac(groups), shape), expected)


@pytest.mark.parametrize(("shape", "groups"), DIRAC)
def test_dirac_of_nothing_is_quiet(shape, groups):
    assert drawn(Dirac(groups), shape).shape == shape


@pytest.mark.parametrize("groups", [1, 2])
def test_dirac_hands_its_input_through(groups):
    conv = torch.nn.Conv2d(6, 6, 3, padding=1, groups=groups, bias=False)
    draw(Dirac(groups), KEY, Region.whole(conv.weight.shape), conv.weight)
    x = torch.arange(2.0 * 6 * 5 * 5).view(2, 6, 5, 5)
    assert torch.equal(conv(x), x)


@pytest.mark.parametrize("dtype", DTYPES)
def test_dirac_in_every_dtype(dtype):
    expected = drawn(Dirac(), (3, 4, 3))
    assert torch.equal(drawn(Dirac(), (3, 4, 3), dtype=dtype).to(torch.complex64), expected + 0j)


SLICES = {
    "rows": (slice(1, 3), slice(None), slice(None), slice(None)),
    "interleaved rows": (slice(1, None, 2), slice(None), slice(None), slice(None)),
    "columns": (slice(None), slice(1, 4, 2), slice(None), slice(None)),
    "without the centre": (slice(None), slice(None), slice(0, 1), slice(None)),
    "only the centre": (slice(2, 5), slice(0, 2), slice(1, 2), slice(2, 3)),
    "nothing": (slice(0, 0), slice(None), slice(None), slice(None)),
}


@pytest.mark.parametrize("name", SLICES)
@pytest.mark.parametrize(
    ("fill", "tolerance"), [(Dirac(2), 0), (Dirac(3), 0), (DeltaOrthogonal(2.0), 8e-6)]
)
def test_a_region_of_a_kernel_is_that_part_of_the_whole(name, fill, tolerance):
    shape = (6, 4, 3, 5)
    part = drawn(fill, shape, region=Region.block(shape, SLICES[name]))
    torch.testing.assert_close(part, drawn(fill, shape)[SLICES[name]], atol=tolerance, rtol=0)


@pytest.mark.parametrize(
    "runs", [(((2, 4), (0, 1)), ((3, 5),)), (((0, 5),), ((4, 6), (1, 2)))], ids=["rows", "columns"]
)
def test_a_region_of_eye_may_hold_runs_in_any_order(runs):
    part = drawn(Eye(), (5, 6), region=Region((5, 6), runs))
    rows, columns = (torch.cat([torch.arange(*run) for run in dim]) for dim in runs)
    assert torch.equal(part, torch.eye(5, 6)[rows][:, columns])


def test_delta_orthogonal_is_an_orthogonal_matrix_at_the_centre():
    kernel = drawn(DeltaOrthogonal(2.0), (8, 5, 3, 3))
    torch.testing.assert_close(
        kernel[:, :, 1, 1], drawn(Orthogonal(2.0), (8, 5)), atol=8e-6, rtol=0
    )
    kernel[:, :, 1, 1] = 0
    assert (kernel == 0).all()


@pytest.mark.parametrize("groups", [2, 4])  # fewer, and more, than output channels a group
def test_delta_orthogonal_draws_one_matrix_for_each_group(groups):
    layout = Layout.conv(8, 2 * groups, 3, groups=groups)
    kernel = drawn(delta_orthogonal(gain=2.0).resolve(layout), layout.shape)
    view = Orthogonal(2.0, batch_dims=1)
    centre = drawn(view, (groups, 8 // groups, 2)).flatten(0, 1)
    torch.testing.assert_close(kernel[:, :, 1], centre, atol=8e-6, rtol=0)
    assert (kernel[:, :, [0, 2]] == 0).all()
    rows = Region.block(layout.shape, [slice(1, 8, 3), slice(2), slice(3)])
    part = drawn(delta_orthogonal(gain=2.0).resolve(layout), layout.shape, region=rows)
    torch.testing.assert_close(part, kernel[1::3], atol=8e-6, rtol=0)


@pytest.mark.parametrize(
    ("fill", "dtype"),
    [
        (Constant(0.5), torch.int32),
        (Constant(300.0), torch.uint8),
        (Constant(0.5), torch.bool),
        (Constant(math.nan), torch.int64),
        (Constant(1e6), torch.float16),
        (Constant(1e6), torch.float8_e4m3fn),
        (Eye(0.5), torch.int32),
    ],
)
def test_a_value_that_the_dtype_cannot_hold_is_refused_unchanged(fill, dtype):
    out = torch.ones(3, 3).to(dtype).mT
    with pytest.raises(DtypeError, match=f"{fill.name}: the tensor's dtype must hold the value"):
        draw(fill, KEY, Region.whole((3, 3)), out)
    assert (out.float() == 1).all()


@pytest.mark.parametrize("channels", [(6, 6), (4, 9)])
def test_delta_orthogonal_keeps_the_norm_of_its_input(channels):
    kernel = drawn(DeltaOrthogonal(), (channels[1], channels[0], 3, 3), dtype=torch.float64)
    x = torch.linspace(-1, 2, channels[0] * 49, dtype=torch.float64).view(1, channels[0], 7, 7)
    y = torch.nn.functional.conv2d(x, kernel, padding=1)
    torch.testing.assert_close(y.norm(), x.norm())


@pytest.mark.parametrize(
    ("fill", "shape", "message"),
    [
        (Eye(), (3,), "eye: the identity has exactly two dims"),
        (Eye(), (3, 3, 3), "eye: the identity has exactly two dims"),
        (Dirac(), (3, 3), "dirac: a kernel is .* three to five dims"),
        (Dirac(), (3,) * 6, "dirac: a kernel is .* three to five dims"),
        (Dirac(2), (3, 3, 3), "dirac: groups must divide the output channels"),
        (DeltaOrthogonal(), (3, 3), "delta_orthogonal: a kernel is"),
        (DeltaOrthogonal(), (3, 4, 3), "Use orthogonal\\(\\), or widen the layer"),
    ],
)
def test_a_tensor_of_another_layout_is_refused_unchanged(fill, shape, message):
    out = torch.full(shape, math.pi)
    with pytest.raises(LayoutError, match=message):
        draw(fill, KEY, Region.whole(shape), out)
    assert (out == math.pi).all()
