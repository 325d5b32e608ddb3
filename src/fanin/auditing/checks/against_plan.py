"""FAN501, FAN502: weights that are not what the plan says."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from fanin.auditing.checks.orthogonal import gram
from fanin.auditing.checks.truncation import outside
from fanin.auditing.distances import distance, distance_limit, is_spread, two_sample_distance
from fanin.auditing.evidence import Evidence
from fanin.auditing.finding import Check, Symptom
from fanin.auditing.numbers import numbers_of
from fanin.auditing.planned import Planned, name_in_plan, planned_pieces, steps_by_name
from fanin.drawing.dispatch import draw
from fanin.fills import (
    Constant,
    DeltaOrthogonal,
    Dirac,
    Eye,
    Mapped,
    Normal,
    Orthogonal,
    Sparse,
    TruncNormal,
    Uniform,
)
from fanin.geometry import Region
from fanin.model import buffers
from fanin.planning.describe import fill_text
from fanin.report import number_text
from fanin.stream import Key

__all__ = ["PLAN_CHECKS"]

_REFERENCE = 4  # draws of a mapped distribution for each entry that they are compared with
_LARGEST = 2**24  # entries of a structure that is drawn once more to compare
_VECTORS = 64  # of a planned orthogonal weight
_ENOUGH = 256  # entries from which on a std's error is known at the tails in question
_ROUNDINGS = 16  # of the dtype, that products of rounded vectors may be off by


def _off_plan(evidence: Evidence) -> Iterator[Symptom]:
    pieces = [piece for piece in planned_pieces(evidence) if _is_judged(piece)]
    # A distance and a std each.
    limits = _Limits(
        evidence.budget.chance(2 * len(pieces)), evidence.budget.deviations(2 * len(pieces))
    )
    found: dict[tuple[str, str], list[tuple[Planned, str]]] = {}
    for piece in pieces:
        observed = _deviation(piece, limits)
        if observed is not None:
            factor = piece.numbers.std / std if (std := _planned_std(piece)) else 0.0
            found.setdefault((piece.fill.name, f"{factor:.1g}"), []).append((piece, observed))
    for members in found.values():
        piece, observed = members[0]
        expected_std = _planned_std(piece)
        yield Symptom(
            tuple(each.name for each, _ in members),
            observed,
            f"{fill_text(piece.fill)}, as planned by rule {piece.step.rule!r}",
            "plan.apply(model)",
            {"std": piece.numbers.std} | ({"expected_std": expected_std} if expected_std else {}),
        )


def _planned_std(piece: Planned) -> float | None:
    std = piece.fill.moments(tuple(piece.tensor.shape))[1]
    return std if math.isfinite(std) else None


def _is_judged(piece: Planned) -> bool:
    """Whether the values say something: finite, of real numbers, and as they were written."""
    dtype = piece.tensor.dtype
    if piece.step.note or not dtype.is_floating_point or not piece.tensor.numel():
        return False
    return not piece.weight.numbers.not_finite and outside(piece) == 0


@dataclass(frozen=True)
class _Limits:
    """What one test of this audit may be off by: as a chance, and in standard errors."""

    chance: float
    deviations: float


def _deviation(piece: Planned, limits: _Limits) -> str | None:
    """How the values differ from the planned ones, in words; None where they do not."""
    fill = piece.fill
    match fill:
        case Uniform() | Normal() | TruncNormal() if is_spread(fill):
            return _from_distribution(piece, fill, limits)
        case Mapped():
            return _from_mapped(piece, fill, limits)
        case Orthogonal():
            return _from_orthogonal(piece, fill)
        case Constant() | Eye() | Dirac() | Uniform() | Normal() | TruncNormal():
            return _from_values(piece)
        case Sparse() | DeltaOrthogonal():
            return _from_zeros(piece, fill)
    return None


def _from_distribution(
    piece: Planned, fill: Uniform | Normal | TruncNormal, limits: _Limits
) -> str | None:
    """By Kolmogorov's distance, by the std, and by the bounds.

    The std of n draws has a relative standard error of ``sqrt((k - 1) / (4 n))`` with k the
    kurtosis, which is at most the normal's 3.
    """
    numbers = piece.numbers
    _, std = fill.moments(tuple(piece.tensor.shape))
    gap = distance(numbers.sample, fill, piece.tensor.dtype)
    allowed = distance_limit(numbers.seen, limits.chance)
    said = f"mean {number_text(numbers.mean)}, std {number_text(numbers.std)}"
    if gap > allowed:
        return f"{said}, at a distance of {gap:.2g} where chance allows {allowed:.2g}"
    rounding = torch.finfo(piece.tensor.dtype).eps
    error = limits.deviations / math.sqrt(2 * numbers.seen) + rounding
    if numbers.seen >= _ENOUGH and abs(numbers.std / std - 1) > error:
        return f"{said}, {numbers.std / std - 1:+.1%} where chance allows {error:.1%}"
    if isinstance(fill, Uniform):
        slack = rounding * max(abs(fill.low), abs(fill.high))
        if numbers.low < fill.low - slack or numbers.high > fill.high + slack:
            return f"entries from {number_text(numbers.low)} to {number_text(numbers.high)}"
    return None


def _from_mapped(piece: Planned, fill: Mapped, limits: _Limits) -> str | None:
    """By the distance to a sample of the same distribution, drawn from another stream."""
    if not is_spread(fill.base):
        return None
    key = piece.step.key
    assert key is not None
    counts = (piece.numbers.seen, _REFERENCE * piece.numbers.seen)
    reference = torch.empty(counts[1], dtype=piece.tensor.dtype)
    draw(fill, Key(key.seed, f"{key.name}\0audit"), Region.of(reference), reference)
    gap = two_sample_distance(piece.numbers.sample, reference.double())
    # Both may be off, each by as much as goes with half of the chance.
    allowed = sum(distance_limit(count, limits.chance / 2) for count in counts)
    if gap <= allowed:
        return None
    return (
        f"mean {number_text(piece.numbers.mean)}, std {number_text(piece.numbers.std)}, at a "
        f"distance of {gap:.2g} where chance allows {allowed:.2g}"
    )


def _from_orthogonal(piece: Planned, fill: Orthogonal) -> str | None:
    """By the lengths and products of some vectors along the shorter side."""
    matrix = piece.tensor[(0,) * fill.batch_dims]
    matrix = matrix.reshape(math.prod(matrix.shape[: fill.row_dims]), -1)
    vectors = (matrix if matrix.shape[0] <= matrix.shape[1] else matrix.T)[:_VECTORS]
    found = gram(vectors)
    if found is None:
        return "vectors of length 0"
    slack = _ROUNDINGS * torch.finfo(piece.tensor.dtype).eps
    off = max(
        found.cosine, found.lengths, abs(found.length / abs(fill.gain) - 1) if fill.gain else 0
    )
    if off <= slack:
        return None
    return (
        f"vectors of length {number_text(found.length)}, ±{found.lengths:.1%}, that meet at "
        f"{found.cosine:.2g} of the cosines of random ones"
    )


def _from_values(piece: Planned) -> str | None:
    """By every value: there is nothing random in it."""
    if piece.tensor.numel() > _LARGEST and not isinstance(piece.fill, Constant):
        return None
    drawn = _drawn(piece)
    if isinstance(piece.fill, Constant) or drawn.numel() == 1:
        value = float(drawn.reshape(-1)[0])
        numbers = piece.numbers
        if numbers.low == numbers.high == value:
            return None
        return f"entries from {number_text(numbers.low)} to {number_text(numbers.high)}"
    differ = int((drawn != piece.tensor).sum())
    return f"{differ} of {drawn.numel()} entries differ" if differ else None


def _from_zeros(piece: Planned, fill: Sparse | DeltaOrthogonal) -> str | None:
    """By how many entries are 0, and by the rms of the others."""
    if piece.tensor.numel() > _LARGEST:
        return None
    drawn = _drawn(piece)
    zeros, planned = (int((each == 0).sum()) for each in (piece.tensor, drawn))
    if zeros != planned:
        return f"{zeros} of {drawn.numel()} entries are 0, and {planned} should be"
    rms, wanted = (numbers_of(each).rms for each in (piece.tensor, drawn))
    # Two draws of a sparse weight, the other's rms being as uncertain as this one's.
    error = 8 / math.sqrt(max(drawn.numel() - zeros, 1)) if isinstance(fill, Sparse) else 0.01
    if abs(rms - wanted) > error * wanted:
        return f"rms {number_text(rms)}, and {number_text(wanted)} was planned"
    return None


def _drawn(piece: Planned) -> Tensor:
    """What the piece should hold, by a key of its step: equal to it where nothing is random."""
    is_constant = isinstance(piece.fill, Constant)
    shape = (1,) if is_constant else tuple(piece.tensor.shape)
    out = torch.empty(shape, dtype=piece.tensor.dtype)
    key = piece.step.key
    assert key is not None
    draw(piece.fill, key, Region.of(out), out)
    return out.to(piece.tensor.device)


def _unplanned(evidence: Evidence) -> Iterator[Symptom]:
    plan = evidence.plan
    assert plan is not None
    steps = steps_by_name(plan)
    held = [name for weight in evidence.weights for name in (weight.name, *weight.aliases)]
    others = {site.name for site in buffers(evidence.model)} if evidence.model is not None else ()
    places = {*evidence.by_name, *evidence.without_memory, *others}
    present = {name_in_plan(plan, name) for name in places}
    unknown = tuple(name for name in held if name_in_plan(plan, name) not in steps)
    if unknown:
        yield _named(unknown, "not in the plan", "a step of the plan for every parameter")
    missing = tuple(name for name in steps if name not in present)
    if missing:
        yield _named(missing, "planned, and not in the model", "a parameter for every step")
    reshaped = [
        (weight, step)
        for weight in evidence.weights
        if (step := steps.get(name_in_plan(plan, weight.name))) is not None
        and not step.is_pending
        and step.shape != weight.shape
    ]
    for weight, step in reshaped[:1]:
        names = tuple(each.name for each, _ in reshaped)
        yield _named(names, f"shape {weight.shape}", f"shape {step.shape}, as planned")


def _named(names: Sequence[str], observed: str, expected: str) -> Symptom:
    count = {"parameters": len(names)}
    return Symptom(tuple(names), observed, expected, "plan = fanin.plan(model, recipe)", count)


PLAN_CHECKS = (
    Check(
        "FAN501",
        "off-plan",
        "warning",
        "a parameter whose values are not from the planned distribution",
        "What was planned did not happen, or was overwritten: the model is not the one that the "
        "plan's record and fingerprint stand for.",
        _off_plan,
        needs="plan",
        is_statistical=True,
    ),
    Check(
        "FAN502",
        "unplanned",
        "warning",
        "a parameter that the plan does not know, or knows otherwise",
        "The plan is for another model: what it does not name, nobody decided on.",
        _unplanned,
        needs="plan",
    ),
)
