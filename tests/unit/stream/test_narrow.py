"""The rounding against the formats themselves: all their values, and the nearest one by search."""

from __future__ import annotations

import bisect

import numpy as np
import pytest
import torch

from fanin.errors import DtypeError
from fanin.stream.narrow import FORMATS, float_format, narrow

each_format = pytest.mark.parametrize("dtype", FORMATS, ids=lambda dtype: str(dtype)[6:])


def magnitudes(dtype: torch.dtype) -> list[float]:
    """The non-negative finite values of a dtype by code, as torch reads them."""
    bits = 8 * dtype.itemsize
    codes = torch.arange(2 ** (bits - 1)).to(torch.int16 if bits == 16 else torch.int8)
    values = codes.view(dtype).double()
    return values[values.isfinite()].tolist()


def nearest(x: float, values: list[float]) -> int:
    """Code of the value nearest to |x|, the even one of two; the largest for all beyond it."""
    above = bisect.bisect_left(values, abs(x))
    if above == len(values):
        return above - 1
    if above == 0:
        return 0
    below = above - 1
    left, right = abs(x) - values[below], values[above] - abs(x)  # exact: few bits
    if left == right:
        return below if below % 2 == 0 else above
    return below if left < right else above


def code_of(rounded: torch.Tensor) -> np.ndarray:
    bits = 8 * rounded.dtype.itemsize
    integer = torch.int16 if bits == 16 else torch.int8
    return rounded.view(integer).numpy().astype(np.int64) & (2**bits - 1)


@each_format
def test_every_value_of_the_format_stays(dtype: torch.dtype) -> None:
    values = magnitudes(dtype)
    rounded = narrow(torch.tensor(values, dtype=torch.float32), dtype)
    assert np.array_equal(code_of(rounded), np.arange(len(values)))


@each_format
def test_ties_and_their_neighbours(dtype: torch.dtype) -> None:
    """Midpoints of all neighbours, subnormals and the gap to 0 among them, and one float beside."""
    values = np.array(magnitudes(dtype))
    middle = ((values[1:] + values[:-1]) / 2).astype(np.float32)
    lower = np.arange(len(middle))
    expected = {
        "tie": (middle, lower + lower % 2),
        "below": (np.nextafter(middle, np.float32(0)), lower),
        "above": (np.nextafter(middle, np.float32(np.inf)), lower + 1),
    }
    for name, (x, codes) in expected.items():
        if dtype == torch.bfloat16:  # float32's own smallest numbers: no midpoint is lost
            assert np.array_equal(middle.astype(np.float64), (values[1:] + values[:-1]) / 2)
        assert np.array_equal(code_of(narrow(torch.from_numpy(x), dtype)), codes), name


@each_format
def test_any_float_goes_to_the_nearest(dtype: torch.dtype) -> None:
    values = magnitudes(dtype)
    bits = np.random.default_rng(5).integers(0, 2**32, 20000, dtype=np.uint32)
    # Evenly over the format's exponents, and four beyond them on both sides where float32 goes on.
    lowest, highest = np.log2(values[1]) - 4, min(np.log2(values[-1]) + 4, 127.9)
    exponents = np.random.default_rng(6).uniform(lowest, highest, 5000)
    within = np.exp2(exponents).astype(np.float32)
    x = np.concatenate([bits.view(np.float32), within, -within])
    x = x[np.isfinite(x)]
    sign = np.signbit(x) * 2 ** (8 * dtype.itemsize - 1)
    expected = np.array([nearest(float(v), values) for v in x])
    if not FORMATS[dtype].signed_zero:
        sign = np.where(expected == 0, 0, sign)
    assert np.array_equal(code_of(narrow(torch.from_numpy(x), dtype)), expected + sign)


@each_format
def test_overflow_saturates(dtype: torch.dtype) -> None:
    largest = torch.finfo(dtype).max
    x = torch.tensor([torch.finfo(torch.float32).max, torch.inf])
    assert narrow(x, dtype).double().tolist() == [largest] * 2
    assert narrow(-x, dtype).double().tolist() == [-largest] * 2


@each_format
def test_zero_and_what_rounds_to_it(dtype: torch.dtype) -> None:
    """The fnuz formats have no minus zero: its code is their NaN."""
    tiny = torch.tensor([0.0, -0.0, 2.0**-149, -(2.0**-149)])
    minus = 2 ** (8 * dtype.itemsize - 1) if FORMATS[dtype].signed_zero else 0
    assert code_of(narrow(tiny, dtype)).tolist() == [0, minus, 0, minus]


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_halves_agree_with_torch_below_saturation(dtype: torch.dtype) -> None:
    x = torch.from_numpy(np.random.default_rng(7).standard_normal(50000, dtype=np.float32))
    for scale in (1.0, 1e-7, 1e4 if dtype == torch.float16 else 1e37):
        assert torch.equal(narrow(x * scale, dtype), (x * scale).to(dtype))


@pytest.mark.parametrize("dtype", [torch.int8, torch.float8_e8m0fnu, torch.complex64])
def test_other_dtypes_are_refused(dtype: torch.dtype) -> None:
    with pytest.raises(DtypeError, match=f"float8_e5m2fnuz. Got {str(dtype)[6:]}"):
        float_format(dtype)
