"""Errors of the elementary functions against references with more digits.

Largest errors in units in the last place of the exact value, relative errors in brackets. float32,
over all arguments down to 2⁻³³: logarithm 1.22 (1.2e-7), cosine and sine 2.01 (1.5e-7), quantile
3.50 centrally (2.3e-7) and 3.40 in the tail (2.6e-7); over samples: 3.0 in the deep tail, 1.8 for
subnormal p. float64, over samples: logarithm 1.5, cosine and sine 1.9, quantile 2.2.
"""

from __future__ import annotations

from collections.abc import Callable

import mpmath
import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from scipy.special import ndtri

from fanin.stream import elementary

CENTRAL = elementary.CENTRAL
QUARTER = 2**30  # a quarter turn in float32's words

Floats = NDArray[np.float64]


def test_float32_log_is_within_2_ulp() -> None:
    rng = np.random.default_rng(0)
    u = np.concatenate(
        [
            np.exp2(-33 * rng.random(2**20)),
            1 - np.arange(2**20) * 2.0**-24,  # every float32 next to 1
            rng.random(2**19),
            2.0 ** -np.arange(34),
        ]
    )
    u = float32(u[u > 0])
    assert ulps32(elementary.log_unit(u), np.log(u.double().numpy())) < 2


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_log_of_one_is_positive_zero(dtype: torch.dtype) -> None:
    zero = elementary.log_unit(torch.ones(1, dtype=dtype))
    assert zero.item() == 0
    assert not torch.signbit(zero).item()


def test_float32_cosine_and_sine_are_within_2_01_ulp() -> None:
    rng = np.random.default_rng(0)
    near = np.arange(-(2**18), 2**18)  # every word next to a zero, and next to a change of quarter
    word = np.concatenate(
        [rng.integers(0, 2**32, 2**20)]
        + [(quarter * QUARTER + near) % 2**32 for quarter in range(4)]
        + [(quarter * QUARTER + QUARTER // 2 + near[::16]) % 2**32 for quarter in range(4)]
    )
    cosine, sine = elementary.cosine_sine(torch.from_numpy(word))
    quarter = (word + QUARTER // 2) // QUARTER  # NumPy reduces 2π·k/4 with an error: take it out
    rest = (word - quarter * QUARTER) * (2 * np.pi / 2**32)
    c, s = np.cos(rest), np.sin(rest)
    assert ulps32(cosine, np.choose(quarter % 4, [c, -s, -c, s])) < 2.01
    assert ulps32(sine, np.choose(quarter % 4, [s, c, -s, -c])) < 2.01


def test_quarter_turns_are_exact() -> None:
    quarters = torch.arange(4) * QUARTER
    for words in ([quarters], [quarters, torch.zeros_like(quarters)]):
        cosine, sine = elementary.cosine_sine(*words)
        assert cosine.tolist() == [1, 0, -1, 0]
        assert sine.tolist() == [0, 1, 0, -1]


@pytest.mark.parametrize("where", ["next to 1/2", "central", "branches meet", "tail", "deep"])
def test_float32_quantile_is_within_4_ulp(where: str) -> None:
    rng = np.random.default_rng(0)
    count = 2**19
    p = float32(
        {
            "next to 1/2": 0.5 - np.arange(-64, 2**20) * 2.0**-25,
            "central": rng.uniform(CENTRAL, 0.5, 2 * count),
            "branches meet": CENTRAL + np.arange(-count // 2, count // 2) * 2.0**-29,
            "tail": CENTRAL * np.exp2(-33 * rng.random(count)),
            "deep": CENTRAL * np.exp2(-120 * rng.random(count)),
        }[where]
    )
    assert ulps32(elementary.quantile(p), -ndtri(p.double().numpy())) < 4


def test_float32_quantile_of_subnormal_p() -> None:
    p = float32(2.0**-149 * np.random.default_rng(0).integers(1, 2**23, 2**16))
    assert ulps32(elementary.quantile(p), -ndtri(p.double().numpy())) < 3


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_quantile_falls_where_its_branches_meet(dtype: torch.dtype) -> None:
    p = torch.tensor([CENTRAL * (1 - 1e-5), CENTRAL, CENTRAL * (1 + 1e-5)], dtype=dtype)
    assert (elementary.quantile(p).diff() < 0).all()


def test_float64_log_is_within_2_ulp() -> None:
    rng = np.random.default_rng(1)
    u = np.concatenate(
        [np.exp2(-65 * rng.random(800)), rng.random(1500), 1 - np.arange(200) * 2.0**-53]
    )
    log = elementary.log_unit(torch.from_numpy(u))
    assert ulps64(log, u, lambda value, x: value - mpmath.log(x)) < 2


def test_float64_cosine_and_sine_are_within_2_ulp() -> None:
    rng = np.random.default_rng(1)
    words = [int(word) for word in rng.integers(0, 2**64, 1000, dtype=np.uint64)]
    for quarter in range(4):  # next to the zeros, on both sides
        near = [int(2**power) for power in rng.uniform(0, 61, 100)]
        words += [(quarter * 2**62 + sign * step) % 2**64 for step in near for sign in (1, -1)]
    high = torch.tensor([word >> 32 for word in words])
    low = torch.tensor([word & 0xFFFFFFFF for word in words])
    cosine, sine = elementary.cosine_sine(high, low)
    assert ulps64(cosine, words, lambda value, x: value - mpmath.cospi(x / 2**63)) < 2
    assert ulps64(sine, words, lambda value, x: value - mpmath.sinpi(x / 2**63)) < 2


def test_float64_quantile_is_within_3_ulp() -> None:
    rng = np.random.default_rng(1)
    p = np.concatenate(
        [
            0.5 - np.exp2(-rng.uniform(1.1, 52, 500)),
            rng.uniform(CENTRAL, 0.5, 1500),
            CENTRAL * np.linspace(0.99, 1.01, 300),
            CENTRAL * np.exp2(-60 * rng.random(1000)),
            CENTRAL * np.exp2(-168 * rng.random(500)),  # to 1e-53
        ]
    )

    def error(z: mpmath.mpf, p: mpmath.mpf) -> mpmath.mpf:
        """How far z is from Q(p): the excess of its tail over p, by the density."""
        excess = mpmath.erfc(z / mpmath.sqrt(2)) / 2 - p
        return excess * mpmath.sqrt(2 * mpmath.pi) * mpmath.exp(z * z / 2)

    assert ulps64(elementary.quantile(torch.from_numpy(p)), p, error) < 3


@pytest.mark.parametrize("exponent", [127, 128])  # two parities; the others only shift the root
def test_float32_square_root_of_every_mantissa_is_ieee(exponent: int) -> None:
    for start in range(0, 2**23, 2**21):
        bits = torch.arange(start, start + 2**21, dtype=torch.int32) + (exponent << 23)
        x = bits.view(torch.float32)
        assert np.array_equal(elementary.sqrt_ieee(x).numpy(), np.sqrt(x.numpy()))


def hard_for_square_root() -> Floats:
    """float64 whose roots are next to a float64 or to the middle of two, and ordinary ones."""
    rng = np.random.default_rng(2)
    root = np.concatenate([1 + np.arange(1000) * 2.0**-52, 2 - np.arange(1, 1000) * 2.0**-52])
    root = np.concatenate([root, rng.uniform(1, 2, 20_000)])
    square = np.concatenate([root * root, [1.0, 2.0, 4.0], rng.uniform(1, 4, 100_000)])
    nearby = [square, np.nextafter(square, 0), np.nextafter(square, 8)]
    x = np.concatenate(nearby)
    return np.concatenate([[0.0], x, x * 2.0**-108, x * 2.0**6])


def test_float64_square_root_is_ieee() -> None:
    x = hard_for_square_root()
    assert np.array_equal(elementary.sqrt_ieee(torch.from_numpy(x)).numpy(), np.sqrt(x))


@pytest.mark.parametrize("towards", [0.0, 8.0])
def test_float64_square_root_corrects_a_guess_that_is_one_unit_off(
    towards: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    x = hard_for_square_root()
    x = x[(x >= 1) & (x < 8)]
    guess = torch.from_numpy(np.nextafter(np.sqrt(x), towards))
    monkeypatch.setattr(torch.Tensor, "sqrt", lambda _: guess)
    assert np.array_equal(elementary.sqrt_ieee(torch.from_numpy(x)).numpy(), np.sqrt(x))


def float32(x: Floats) -> torch.Tensor:
    return torch.from_numpy(x.astype(np.float32))


def ulps32(computed: torch.Tensor, exact: Floats) -> float:
    """Largest error in units in the last place of the exact value."""
    error = np.abs(computed.double().numpy() - exact)
    unit = np.exp2(np.frexp(exact)[1] - 24.0)
    return float((error / unit).max())


def ulps64(
    computed: torch.Tensor,
    at: Floats | list[int],
    error: Callable[[mpmath.mpf, mpmath.mpf], mpmath.mpf],
) -> float:
    """Largest ``error(computed, at)`` in units in the last place, in 50 digits."""
    with mpmath.workdps(50):
        return max(
            float(abs(error(mpmath.mpf(value), mpmath.mpf(x)))) / float(np.spacing(abs(value)))
            for value, x in zip(computed.tolist(), at, strict=True)
        )
