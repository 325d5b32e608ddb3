from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy import special

from fanin.geometry import Region
from fanin.stream import laws, reference
from fanin.stream.narrow import FORMATS
from fanin.stream.philox import LOW_HALVES, words

KEY = 0xFEDCBA9876543210
INDEX = torch.arange(20000)
DTYPES = [torch.float32, torch.float64, *FORMATS]

each_dtype = pytest.mark.parametrize("dtype", DTYPES, ids=lambda dtype: str(dtype)[6:])


def uniform_words(index: torch.Tensor) -> np.ndarray:
    """64 bits an element as a float in (0, 1): precise enough to check a formula with."""
    high, low = words(KEY, index).double(), words(KEY, index, LOW_HALVES).double()
    return ((high + (low + 0.5) * 2.0**-32) * 2.0**-32).numpy()


def test_uniform_is_the_top_bits() -> None:
    single = reference.values(laws.uniform_law(0.0, 1.0, torch.float32), KEY, INDEX)
    assert torch.equal((single.double() * 2.0**24).long(), words(KEY, INDEX) >> 8)
    double = reference.values(laws.uniform_law(0.0, 1.0, torch.float64), KEY, INDEX)
    bits = (words(KEY, INDEX) << 21) | (words(KEY, INDEX, LOW_HALVES) >> 11)
    assert torch.equal((double * 2.0**53).long(), bits)


@pytest.mark.parametrize(("dtype", "error"), [(torch.float32, 3e-6), (torch.float64, 1e-14)])
def test_normal_is_box_muller_of_a_pair(dtype: torch.dtype, error: float) -> None:
    z = reference.values(laws.normal_law(0.0, 1.0, dtype), KEY, INDEX).double().numpy()
    even = INDEX & ~16
    radius = np.sqrt(-2 * np.log(uniform_words(even)))
    angle = 2 * math.pi * uniform_words(even + 16)
    expected = radius * np.where((INDEX & 16) == 0, np.cos(angle), np.sin(angle))
    # float32 cannot see how near to 1 the first number is: dr = du / r.
    assert (np.abs(z - expected) < error * (1 + 1 / radius)).all()


@pytest.mark.parametrize(("dtype", "error"), [(torch.float32, 3e-6), (torch.float64, 1e-9)])
@pytest.mark.parametrize("bounds", [(-2.0, 2.0), (5.0, 6.0), (-math.inf, -11.0), (0.5, 0.75)])
def test_truncated_is_the_inverse_of_the_cdf(bounds, dtype: torch.dtype, error: float) -> None:
    """z from the mass on its own side of the draw, to the error of the 32-bit masses."""
    low, high = bounds
    z = (
        reference.values(laws.truncated_law(0.0, 1.0, low, high, dtype), KEY, INDEX)
        .double()
        .numpy()
    )
    u = uniform_words(INDEX)
    if low > 0:  # by symmetry: small masses
        low, high, u, z = -high, -low, 1 - u, -z
    mass = special.ndtr(low) + u * (special.ndtr(high) - special.ndtr(low))
    assert np.abs(z - special.ndtri(mass)).max() < error * 12


def test_mean_and_std_are_two_roundings() -> None:
    z = reference.values(laws.normal_law(0.0, 1.0, torch.float32), KEY, INDEX).numpy()
    scaled = reference.values(laws.normal_law(0.3, 0.7, torch.float32), KEY, INDEX).numpy()
    assert np.array_equal(scaled, np.float32(0.3) + np.float32(0.7) * z)


@pytest.mark.parametrize("low_high", [(0.0, 1.0), (1.0, 2.0), (-1.0, 0.0), (0.1, 0.3)], ids=str)
@each_dtype
def test_extreme_words_stay_inside(low_high, dtype: torch.dtype, monkeypatch) -> None:
    """The words that come once in 2³² draws, at either end."""
    low, high = low_high
    for word in (0, 1, 2**31 - 1, 2**31, 2**32 - 256, 2**32 - 1):
        monkeypatch.setattr(reference, "words", lambda _key, index, *_, w=word: index * 0 + w)
        x = reference.values(laws.uniform_law(low, high, dtype), KEY, torch.zeros(1, dtype=int))
        assert low <= x.double().item() < high
        law = laws.truncated_law(0.0, 1.0, low, high, dtype)
        z = reference.values(law, KEY, torch.zeros(1, dtype=int))
        assert low <= z.double().item() <= high


def test_fill_writes_a_region_of_several_chunks() -> None:
    law = laws.normal_law(0.0, 1.0, torch.float32)
    region = Region.block((300, 400), [slice(1, 300, 2), slice(5, 399)])
    assert region.numel > reference.CHUNK
    out = torch.empty(region.local_shape)
    reference.fill(law, KEY, region, out)
    assert torch.equal(out, reference.values(law, KEY, region.linear_indices()))


def test_default_dtype_and_device_do_not_matter() -> None:
    law = laws.truncated_law(0.0, 1.0, -2.0, 2.0, torch.float32)
    expected = reference.values(law, KEY, INDEX)
    torch.set_default_dtype(torch.float64)
    try:
        with torch.device("meta"):
            out = torch.empty(20000, dtype=torch.float32, device="cpu")
            reference.fill(law, KEY, Region.whole((20000,)), out)
    finally:
        torch.set_default_dtype(torch.float32)
    assert torch.equal(out, expected)
