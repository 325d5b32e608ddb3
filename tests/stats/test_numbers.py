"""The numbers follow their laws: moments, distributions, tails, neighbours, rounding, bounds.

89 calls of `accept`, each with a false-alarm rate of 1e-9: 1e-7 for the file.
"""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy import special
from significance import (
    accept,
    anderson_darling_p,
    chi_square_p,
    correlation_p,
    kolmogorov_p,
    normal_p,
    poisson_p,
)

from fanin import stream
from fanin.geometry import Region
from fanin.stream import Key, laws
from fanin.stream.narrow import FORMATS

COUNT = 10**7
INF = math.inf
FLOATS = [torch.float32, torch.float64]
# In standard deviations. The last three lie in a tail, where the difference of two Φ is lost.
BOUNDS = [(-2.0, 2.0), (0.0, INF), (-INF, 1.0), (0.5, 0.6), (5.0, 6.0), (-INF, -11.0), (12.0, INF)]

each_float = pytest.mark.parametrize("dtype", FLOATS, ids=["float32", "float64"])
each_bounds = pytest.mark.parametrize("bounds", BOUNDS, ids=str)


def drawn(law: laws.Law, count: int, *, start: int = 0, name: str = "weight") -> torch.Tensor:
    out = torch.empty(count, dtype=law.dtype)
    region = Region((start + count,), (((start, start + count),),))
    stream.fill(law, Key(2025, name).value, region, out)
    return out


def double(law: laws.Law, count: int) -> np.ndarray:
    return drawn(law, count).double().numpy()


def normal(dtype: torch.dtype) -> laws.Law:
    return laws.normal_law(0.0, 1.0, dtype)


def truncated_cdf(x: np.ndarray, low: float, high: float) -> np.ndarray:
    """Cdf of a standard normal conditioned on the bounds, from logarithms of tail masses."""
    if low + high > 0:  # on the right: by symmetry, so that masses are small numbers
        return 1 - truncated_cdf(-x, -high, -low)
    least, most = special.log_ndtr([low, high])
    below = np.exp(least - most)
    return (np.exp(special.log_ndtr(x) - most) - below) / (1 - below)


def truncated_moment(bounds: tuple[float, float], power: int, center: float = 0.0) -> float:
    """E (z − center)^power: Gauss-Legendre of the density relative to its largest."""
    nearest = min(max(0.0, bounds[0]), bounds[1])
    low, high = max(bounds[0], nearest - 10), min(bounds[1], nearest + 10)
    nodes, weights = np.polynomial.legendre.leggauss(300)
    z = low + (high - low) * (nodes + 1) / 2
    mass = weights * np.exp(0.5 * (nearest - z) * (nearest + z))
    return float(np.dot(mass, (z - center) ** power) / mass.sum())


@each_float
def test_normal_moments(dtype: torch.dtype) -> None:
    """Means of Hermite polynomials: uncorrelated, variance k!; moments to the fourth."""
    z = double(normal(dtype), COUNT)
    squared = z * z
    hermite = [z, squared - 1, z * (squared - 3), squared * (squared - 6) + 3]
    scores = [
        polynomial.mean() * math.sqrt(COUNT / math.factorial(k + 1))
        for k, polynomial in enumerate(hermite)
    ]
    accept(normal_p(np.array(scores)), "moments")


@each_float
def test_uniform_moments(dtype: torch.dtype) -> None:
    """Means of Legendre polynomials: uncorrelated, variance 1/(2k + 1)."""
    x = double(laws.uniform_law(-1.0, 1.0, dtype), COUNT)
    squared = x * x
    legendre = [x, 1.5 * squared - 0.5, x * (2.5 * squared - 1.5)]
    legendre.append((35 * squared * squared - 30 * squared + 3) / 8)
    scores = [p.mean() * math.sqrt(COUNT * (2 * k + 3)) for k, p in enumerate(legendre)]
    accept(normal_p(np.array(scores)), "moments")


@each_float
def test_normal_distribution(dtype: torch.dtype) -> None:
    u = special.ndtr(np.sort(double(normal(dtype), COUNT)))
    accept(kolmogorov_p(u), "Kolmogorov-Smirnov")
    accept(anderson_darling_p(u), "Anderson-Darling")


@each_float
def test_uniform_distribution(dtype: torch.dtype) -> None:
    half_step = 2.0**-25 if dtype == torch.float32 else 2.0**-54
    u = np.sort(double(laws.uniform_law(0.0, 1.0, dtype), COUNT)) + half_step
    accept(kolmogorov_p(u), "Kolmogorov-Smirnov")
    accept(anderson_darling_p(u), "Anderson-Darling")


@pytest.mark.parametrize("word", [0, 1, 2, 3])
def test_normals_of_each_word_have_the_distribution(word: int) -> None:
    """Cosines and sines of both pairs of a block apart, so that one cannot hide in the rest."""
    z = double(normal(torch.float32), 2**22).reshape(-1, 4, 16)[:, word].ravel()
    u = special.ndtr(np.sort(z))
    accept(kolmogorov_p(u), "Kolmogorov-Smirnov")
    accept(anderson_darling_p(u), "Anderson-Darling")


@each_float
def test_tails_of_the_normal(dtype: torch.dtype) -> None:
    """Counts beyond 4, 4.5, 5 and 5.5 σ among 10⁸, on each side; nothing beyond what u allows."""
    thresholds = np.array([4.0, 4.5, 5.0, 5.5])
    counts, farthest = np.zeros((2, 4)), 0.0
    for start in range(0, 10 * COUNT, COUNT):
        z = drawn(normal(dtype), COUNT, start=start)
        tail = z[z.abs() > 4].double().numpy()
        counts += [(side * tail[:, None] > thresholds).sum(0) for side in (1, -1)]
        farthest = max(farthest, np.abs(tail).max())
    expected = 10 * COUNT * special.ndtr(-thresholds)
    for side in counts:
        accept(np.array([poisson_p(*pair) for pair in zip(side, expected, strict=True)]), "tails")
    words = 32 if dtype == torch.float32 else 64
    assert farthest <= math.sqrt(2 * (words + 1) * math.log(2)) * (1 + 1e-6)


@each_float
def test_neighbours_are_uncorrelated(dtype: torch.dtype) -> None:
    """Lag 16 holds the pairs that share a radius and an angle; their squares are tried too."""
    z = double(normal(dtype), 2**22)
    squares = (z * z - 1) / math.sqrt(2)
    for lag in (1, 2, 15, 16, 17, 32, 48, 64):
        p = [correlation_p(x[:-lag], x[lag:]) for x in (z, squares)]
        p += [correlation_p(squares[:-lag], z[lag:]), correlation_p(z[:-lag], squares[lag:])]
        accept(np.array(p), f"lag {lag}")


def test_a_pair_shares_nothing_but_its_words() -> None:
    """The direction of (z(i), z(i + 16)) is uniform and independent of the length."""
    z = double(normal(torch.float32), 2**22).reshape(-1, 2, 2, 16)
    x, y = z[:, :, 0].ravel(), z[:, :, 1].ravel()
    angle = (np.arctan2(y, x) / (2 * math.pi)) % 1.0
    length = -np.expm1(-0.5 * (x * x + y * y))
    accept(kolmogorov_p(np.sort(angle)), "angle")
    accept(kolmogorov_p(np.sort(length)), "length")
    cells = (angle * 64).astype(np.int64) % 64 * 64 + (length * 64).astype(np.int64).clip(max=63)
    accept(chi_square_p(np.bincount(cells, minlength=4096), np.full(4096, x.size / 4096)), "joint")


def test_streams_of_neighbouring_names_are_uncorrelated() -> None:
    law = normal(torch.float32)
    z = np.stack([drawn(law, 2**16, name=f"blocks.{i}.weight").double().numpy() for i in range(64)])
    accept(np.array([correlation_p(z[i], z[j]) for i in range(64) for j in range(i)]), "names")


@each_bounds
@each_float
def test_truncated_distribution(bounds: tuple[float, float], dtype: torch.dtype) -> None:
    count = COUNT if dtype == torch.float32 else COUNT // 5
    z = np.sort(double(laws.truncated_law(0.0, 1.0, *bounds, dtype), count))
    assert bounds[0] <= z[0]
    assert z[-1] <= bounds[1]
    accept(kolmogorov_p(truncated_cdf(z, *bounds)), "Kolmogorov-Smirnov")


@each_bounds
def test_truncated_mean_and_std_of_the_result(bounds: tuple[float, float]) -> None:
    z = double(laws.truncated_law(0.0, 1.0, *bounds, torch.float32), COUNT)
    mean = truncated_moment(bounds, 1)
    variance, fourth = (truncated_moment(bounds, power, mean) for power in (2, 4))
    scores = [
        (z.mean() - mean) / math.sqrt(variance / COUNT),
        (np.square(z - mean).mean() - variance) / math.sqrt((fourth - variance**2) / COUNT),
    ]
    accept(normal_p(np.array(scores)), "mean and variance")


def test_scaled_truncated_law_in_a_narrow_dtype() -> None:
    """std = 0.02 cut at ±0.04 in bfloat16: the result's std is 0.0176, as in float32."""
    z = double(laws.truncated_law(0.0, 0.02, -0.04, 0.04, torch.bfloat16), COUNT)
    variance = truncated_moment((-2.0, 2.0), 2) * 0.02**2
    fourth = truncated_moment((-2.0, 2.0), 4) * 0.02**4
    tolerance = 7 * math.sqrt((fourth - variance**2) / COUNT)  # 3e-12 by chance
    rounding = 0.04 * 2.0**-9  # half a unit at most, to each value
    assert abs(np.square(z).mean() - variance) < tolerance + rounding**2
    assert np.abs(z).max() <= 0.04


@pytest.mark.parametrize("dtype", FORMATS, ids=lambda dtype: str(dtype)[6:])
@pytest.mark.parametrize("name", ["normal", "uniform", "truncated", "tail"])
def test_every_code_of_a_narrow_dtype_has_its_mass(name: str, dtype: torch.dtype) -> None:
    """Each value has the mass that rounds to it; the outermost, all that lies beyond."""
    law, cdf = {
        "normal": (laws.normal_law(0.0, 1.0, dtype), special.ndtr),
        "uniform": (laws.uniform_law(0.0, 1.0, dtype), lambda x: np.clip(x, 0, 1)),
        "truncated": (
            laws.truncated_law(0.0, 1.0, -2.0, 2.0, dtype),
            lambda x: np.clip(truncated_cdf(x, -2.0, 2.0), 0, 1),
        ),
        "tail": (
            laws.truncated_law(0.0, 1.0, 5.0, 6.0, dtype),
            lambda x: np.clip(truncated_cdf(x, 5.0, 6.0), 0, 1),
        ),
    }[name]
    bits = FORMATS[dtype].bits
    integer = torch.int16 if bits == 16 else torch.int8
    values = torch.arange(2**bits).to(integer).view(dtype).double().numpy()
    possible = np.unique(
        values[np.isfinite(values) & (values >= law.lowest) & (values <= law.highest)]
    )
    edges = np.concatenate([[-INF], (possible[1:] + possible[:-1]) / 2, [INF]])
    sample = drawn(law, 2 * 10**6).view(integer)
    by_code = np.bincount(sample.numpy().astype(np.int64) & (2**bits - 1), minlength=2**bits)
    seen = by_code > 0
    assert np.isin(values[seen], possible).all()
    place = np.searchsorted(possible, values[seen])
    counts = np.bincount(place, by_code[seen], minlength=possible.size)
    accept(chi_square_p(counts, np.diff(cdf(edges)) * counts.sum()), "codes")


@pytest.mark.parametrize("dtype", [*FLOATS, *FORMATS], ids=lambda dtype: str(dtype)[6:])
@pytest.mark.parametrize("low_high", [(0.0, 1.0), (1.0, 2.0), (-1.0, 0.0), (-0.5, 0.3)], ids=str)
def test_uniform_never_reaches_its_upper_bound(low_high, dtype: torch.dtype) -> None:
    """Unclamped, one bfloat16 in 512 of U(0, 1) is 1, and one float32 in 2²⁵ of U(1, 2) is 2."""
    low, high = low_high
    x = drawn(laws.uniform_law(low, high, dtype), 4 * 10**6).to(torch.float64)
    assert low <= float(x.min())
    assert float(x.max()) < high
