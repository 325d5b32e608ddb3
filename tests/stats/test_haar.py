"""Orthogonal and unitary fills are Haar-distributed, and a sampler without signs is not.

Every matrix of a batch is one independent sample; each call of `accept` fails by chance with a
probability of 1e-9: under 1e-7 for the file.
"""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy import stats
from significance import LEVEL, accept, kolmogorov_p, normal_p

from fanin.drawing import draw, householder
from fanin.fills import Orthogonal
from fanin.geometry import Region
from fanin.stream import Key

COUNT = 3000
REAL, COMPLEX = torch.float64, torch.complex128
SHAPES = [(6, 6), (6, 3), (3, 6), (6, 1), (2, 2)]
each_dtype = pytest.mark.parametrize("dtype", [REAL, COMPLEX], ids=["real", "complex"])


def samples(shape, dtype):
    out = torch.empty(COUNT, *shape, dtype=dtype)
    draw(Orthogonal(batch_dims=1), Key(2, f"haar{shape}"), Region.whole(out.shape), out)
    return out.numpy()


@pytest.fixture
def without_signs(monkeypatch):
    """The product of the reflections alone: orthogonal, but not Haar."""
    of = householder._Reflections.of

    def unsigned(*args):
        reflections = of(*args)
        return reflections._replace(factor=torch.ones_like(reflections.factor))

    monkeypatch.setattr(householder._Reflections, "of", unsigned)
    monkeypatch.setattr(householder, "_SMALL", 0)  # those are reflected elsewhere


def entry_p(q):
    """p-values of single entries, and of what fixed rotations mix from many of them.

    A coordinate ``t`` of a uniform point on the sphere in R^n has ``(1 + t)/2 ~ Beta((n − 1)/2,
    (n − 1)/2)``, the same as ``t² ~ Beta(½, (n − 1)/2)`` and a fair sign. In C^n: ``|t|² ~
    Beta(1, n − 1)`` and a uniform phase.
    """
    rows, columns = q.shape[1:]
    n = max(rows, columns)
    tall = q if rows >= columns else q.swapaxes(1, 2)
    rotated = tall.sum(axis=1) / math.sqrt(n)  # along (1, …, 1)/√n
    coordinates = [tall[:, 0, 0], tall[:, -1, -1], tall[:, 0, -1], rotated[:, 0], rotated[:, -1]]
    p = []
    for t in coordinates:
        if np.iscomplexobj(t):
            p.append(law_p(np.abs(t) ** 2, stats.beta(1, n - 1).cdf))
            p.append(law_p(np.angle(t), stats.uniform(-math.pi, 2 * math.pi).cdf))
        else:
            p.append(law_p((1 + t) / 2, stats.beta((n - 1) / 2, (n - 1) / 2).cdf))
    return np.array(p)


def determinant_p(q):
    """The determinant has a fair sign, or a uniform phase."""
    determinant = np.linalg.det(q)
    if np.iscomplexobj(q):
        return law_p(np.angle(determinant), stats.uniform(-math.pi, 2 * math.pi).cdf)
    return float(stats.binomtest(int((determinant > 0).sum()), len(q)).pvalue)


def trace_p(q):
    """Means of tr Q, (tr Q)² or |tr Q|², and tr Q² (n ≥ 2), against those of the Haar measure.

    Real: 0, 1, 1. Complex: 0, 1, 0, and E|tr Q²|² = 2.
    Source: Diaconis & Shahshahani 1994, doi:10.2307/3214948.
    """
    first = np.trace(q, axis1=1, axis2=2)
    second = np.trace(q @ q, axis1=1, axis2=2)
    if np.iscomplexobj(q):
        numbers = [
            (first.real, 0),
            (first.imag, 0),
            (np.abs(first) ** 2, 1),
            (second.real, 0),
            (np.abs(second) ** 2, 2),
        ]
    else:
        numbers = [(first, 0), (first**2, 1), (second, 1)]
    z = [(x.mean() - mean) / (x.std() / math.sqrt(len(x))) for x, mean in numbers]
    return normal_p(np.array(z))


def law_p(sample, cdf):
    return kolmogorov_p(np.sort(cdf(sample)))


@each_dtype
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_entries_are_coordinates_of_uniform_points(shape, dtype):
    accept(entry_p(samples(shape, dtype)), "entries")


@each_dtype
@pytest.mark.parametrize("shape", [(1, 1), (2, 2), (3, 3), (6, 6)], ids=str)
def test_determinants_have_a_uniform_phase(shape, dtype):
    accept(determinant_p(samples(shape, dtype)), "determinant")


@each_dtype
def test_traces_have_the_moments_of_the_haar_measure(dtype):
    accept(trace_p(samples((6, 6), dtype)), "traces")


def test_eigenvalues_of_unitary_matrices_repel_each_other():
    # Weyl: the angle φ between the two eigenvalues of U(2) has density (1 − cos φ)/2π on [0, 2π).
    angles = np.angle(np.linalg.eigvals(samples((2, 2), COMPLEX)))
    between = np.mod(angles[:, 1] - angles[:, 0], 2 * math.pi)
    accept(law_p(between, lambda phi: (phi - np.sin(phi)) / (2 * math.pi)), "spacing")


def test_eigenvalues_of_rotations_and_reflections_of_the_plane():
    # Half of O(2) are reflections, with trace 0; the trace of a rotation by θ is 2 cos θ.
    q = samples((2, 2), REAL)
    rotations = q[np.linalg.det(q) > 0]
    angles = np.arctan2(rotations[:, 1, 0], rotations[:, 0, 0])
    accept(law_p(angles, stats.uniform(-math.pi, 2 * math.pi).cdf), "angle")


@each_dtype
def test_matrices_of_a_batch_are_independent(dtype):
    q = samples((6, 6), dtype)
    neighbours = (q[1:, 0, 0] * q[:-1, 0, 0].conj()).real
    z = neighbours.mean() / (neighbours.std() / math.sqrt(len(neighbours)))
    accept(normal_p(z), "correlation")


@each_dtype
@pytest.mark.usefixtures("without_signs")
@pytest.mark.parametrize("test", [entry_p, determinant_p, trace_p])
def test_leaving_out_the_signs_would_be_noticed(test, dtype):
    assert np.min(test(samples((6, 6), dtype))) < LEVEL / 100
