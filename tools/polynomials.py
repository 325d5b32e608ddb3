"""Derive the coefficients of `fanin.stream.elementary` and compare them with the committed ones.

Run as ``python tools/polynomials.py [float32|float64]`` (half a minute). Every function is a
polynomial or a rational function N/D in one variable, minimax for a weighted error, found by
Lawson's iteration (least squares whose weights grow where the error is large) on a Chebyshev grid
in 60 digits; the denominator is linearised with the values of the previous round (Loeb).

float32: coefficients are rounded one at a time, lowest power first, and those that are still free
are fitted again, so the last ones make up for the rounding of the first. float64: fitted two to
eleven bits below the working precision and rounded.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass, replace

import mpmath as mp
import numpy as np
import torch

from fanin.stream import elementary

mp.mp.dps = 60

Vector = np.ndarray  # of mpf

SPLIT = (
    mp.mpf(23) / 1024
)  # the central branch of the quantile reaches down to here; Φ(−2) = 0.02275
SMALLEST = {"float32": mp.mpf("1e-43"), "float64": mp.mpf("1e-53")}
DEGREES = {
    "float32": {"log": 7, "sin": 3, "cos": 2, "central": (5, 4), "tail": (3, 3)},
    "float64": {"log": 19, "sin": 6, "cos": 6, "central": (10, 10), "tail": (8, 8)},
}


@dataclass(frozen=True)
class Problem:
    """Find N, D (D's highest coefficient is 1) that minimise max |weight·(N(x)/D(x) − target)|."""

    x: Vector
    target: Vector
    weight: Vector
    degrees: tuple[int, int]
    fixed: tuple[tuple[str, int, mp.mpf], ...] = ()


def minimax(problem: Problem, *, rounds: int = 30) -> tuple[list[mp.mpf], list[mp.mpf], mp.mpf]:
    """Coefficients of N and D, lowest power first, and the largest error, by Lawson's iteration."""
    x, target, weight = problem.x, problem.target, problem.weight
    numerator, denominator = problem.degrees
    known = {(part, power): value for part, power, value in problem.fixed}
    known["D", denominator] = mp.mpf(1)
    everything = [("N", k) for k in range(numerator + 1)]
    everything += [("D", k) for k in range(denominator + 1)]
    free = [name for name in everything if name not in known]
    column = {(part, k): x**k if part == "N" else -target * x**k for part, k in everything}
    right = -sum(value * column[name] for name, value in known.items()) + 0 * x
    lawson, scale, best = 0 * x + 1, 0 * x + 1, None
    for done in range(rounds):
        if free:
            rows = np.stack([column[name] for name in free], 1) * (weight / scale)[:, None]
            normal = rows.T @ (rows * lawson[:, None])
            moment = rows.T @ (lawson * right * weight / scale)
            solution = mp.lu_solve(mp.matrix(normal.tolist()), mp.matrix(moment.tolist()))
            known.update(zip(free, solution, strict=True))
        top = [known["N", k] for k in range(numerator + 1)]
        bottom = [known["D", k] for k in range(denominator + 1)]
        scale = horner(bottom, x)
        error = abs(weight * (horner(top, x) / scale - target))
        if best is None or max(error) < best[2] or done < 3:
            best = top, bottom, max(error)
        lawson = lawson * error / sum(lawson * error)
        if denominator and done == 0:
            lawson = 0 * x + 1  # the first denominator is far off: its errors say nothing
    return best


def horner(coefficients: list[mp.mpf], x: Vector) -> Vector:
    """The polynomial with these coefficients, lowest power first."""
    total = 0 * x + coefficients[-1]
    for coefficient in coefficients[-2::-1]:
        total = total * x + coefficient
    return total


def rounded(problem: Problem, dtype: str) -> tuple[list[float], list[float], float]:
    """Coefficients in the dtype, and the largest error of the fit as a power of 2."""
    top, bottom, error = minimax(problem)
    if dtype == "float32":
        for power in range(max(problem.degrees) + 1):
            for part, degree in zip("ND", problem.degrees, strict=True):
                settled = [fixed[:2] for fixed in problem.fixed] + [("D", problem.degrees[1])]
                if power > degree or (part, power) in settled:
                    continue
                value = mp.mpf(round_to((top if part == "N" else bottom)[power], dtype))
                problem = replace(problem, fixed=(*problem.fixed, (part, power, value)))
                top, bottom, error = minimax(problem, rounds=12)
    numerator, denominator = ([round_to(value, dtype) for value in part] for part in (top, bottom))
    return numerator, denominator, float(mp.log(error, 2))


def round_to(value: mp.mpf, dtype: str) -> float:
    """Nearest value of the dtype (mpmath rounds once, so no double rounding)."""
    with mp.workprec(24 if dtype == "float32" else 53):
        return float(+value)


def grid(low: mp.mpf, high: mp.mpf, count: int = 150) -> Vector:
    """Extrema of a Chebyshev polynomial, ends included."""
    middle, half = (high + low) / 2, (high - low) / 2
    return np.array([middle - half * mp.cos(mp.pi * i / (count - 1)) for i in range(count)])


def each(function: Callable[[mp.mpf], mp.mpf], x: Vector) -> Vector:
    """The function at each point."""
    return np.array([function(value) for value in x])


def log_problem(degree: int) -> Problem:
    """ln(1 + f) = f + f²·N(f), relative error, 1 + f in [√½, √2)."""
    f = grid(mp.sqrt(0.5) - 1, mp.sqrt(2) - 1)
    log = each(mp.log1p, f)
    return Problem(f, (log - f) / f**2, f**2 / abs(log), (degree, 0))


def angle_problems(dtype: str, sine: int, cosine: int) -> tuple[Problem, Problem]:
    """sin = x + x·N(x²) and cos = 1 + x²·N(x²), relative errors, x in quarter turns, |x| <= ½.

    N(0) of the sine is π/2 − 1 rounded; its grid leaves out 0, where nothing makes up for that.
    """
    x = grid(mp.mpf(0.15), mp.mpf(0.5))
    at_zero = ("N", 0, mp.mpf(round_to(mp.pi / 2 - 1, dtype)))
    sin = each(lambda value: mp.sin(mp.pi / 2 * value), x)
    y = grid(mp.mpf("1e-6"), mp.mpf(0.5))
    cos = each(lambda value: mp.cos(mp.pi / 2 * value), y)
    return (
        Problem(x**2, sin / x - 1, x / sin, (sine, 0), (at_zero,)),
        Problem(y**2, (cos - 1) / y**2, y**2 / cos, (cosine, 0)),
    )


def central_problem(degrees: tuple[int, int]) -> Problem:
    """Q(p) = q·(2.5 + N(r)/D(r)), q = ½ − p, r = p·(1 − p), for p in [SPLIT, ½]."""
    r = grid(SPLIT * (1 - SPLIT), mp.mpf(0.25))[:-1]
    q = each(mp.sqrt, 0.25 - r)
    slope = each(lambda half: mp.sqrt(2) * mp.erfinv(2 * half) / half, q)
    return Problem(r, slope - 2.5, 1 / slope, degrees)


def tail_problem(degrees: tuple[int, int], smallest: mp.mpf) -> Problem:
    """Q(p) = s − N(s)/D(s), s = √(−2 ln p), for p in [smallest, SPLIT]."""
    s = grid(mp.sqrt(-2 * mp.log(SPLIT)), mp.sqrt(-2 * mp.log(smallest)))
    quantile = each(upper_quantile, s)
    return Problem(s, s - quantile, 1 / quantile, degrees)


def upper_quantile(s: mp.mpf) -> mp.mpf:
    """Q(exp(−s²/2)), by Newton's method on the logarithm of the tail."""
    z = s - mp.mpf("0.5")
    for _ in range(50):
        tail = mp.erfc(z / mp.sqrt(2)) / 2
        step = (mp.log(tail) + s * s / 2) * tail * mp.sqrt(2 * mp.pi) * mp.exp(z * z / 2)
        z += step
        if abs(step) < mp.mpf(10) ** -50:
            return z
    raise ArithmeticError(f"no quantile for s = {s}")


def derive(dtype: str) -> dict[str, list[float]]:
    """Every coefficient of one dtype, lowest power first, with the error of each fit printed."""
    degrees = DEGREES[dtype]
    sine, cosine = angle_problems(dtype, degrees["sin"], degrees["cos"])
    fits = {
        "log": rounded(log_problem(degrees["log"]), dtype),
        "sin": rounded(sine, dtype),
        "cos": rounded(cosine, dtype),
        "central": rounded(central_problem(degrees["central"]), dtype),
        "tail": rounded(tail_problem(degrees["tail"], SMALLEST[dtype]), dtype),
    }
    table = {"ln2": [round_to(mp.log(2), dtype)]}
    for name, (top, bottom, bits) in fits.items():
        print(f"# {dtype} {name}: largest weighted error 2**{bits:.1f}")
        if len(bottom) == 1:
            table[name] = top
        else:
            table[f"{name}_numerator"], table[f"{name}_denominator"] = top, bottom[:-1]
    return table


def main() -> None:
    """Print every coefficient, and whether it is the committed one."""
    for dtype in sys.argv[1:] or DEGREES:
        committed = elementary._TABLES[getattr(torch, dtype)]
        for name, values in derive(dtype).items():
            same = np.array_equal(
                getattr(committed, name), values if len(values) > 1 else values[0]
            )
            print(f"{dtype} {name}:", " ".join(value.hex() for value in values))
            print(f"# {'the same' if same else 'OTHER'} numbers as in fanin.stream.elementary")


if __name__ == "__main__":
    main()
