"""FAN207, FAN208: normals whose truncation was lost, or is missing from their std."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from inspect import unwrap
from types import FunctionType

import torch

from fanin.auditing.evidence import Evidence
from fanin.auditing.finding import Check, Symptom
from fanin.auditing.numbers import Numbers
from fanin.auditing.planned import Planned, planned_pieces
from fanin.auditing.plausible import is_trained
from fanin.auditing.provenance import (
    drawn_with,
    healthy_stds,
    is_librarys_own,
    is_random,
    is_round,
    names_used,
    schemes,
)
from fanin.auditing.remedy import draw_again
from fanin.auditing.weights import Weight
from fanin.errors import LayoutError
from fanin.fills import TruncNormal
from fanin.geometry import Fans, Layout
from fanin.model import Site, module_type
from fanin.report import number_text

__all__ = ["TRUNCATION_CHECKS", "outside"]

_CUT = 0.87962566103423978
"""std of a standard normal that is cut at ±2."""

_EDGE = 0.1133
"""Density of one that is cut at ±2, at both ends together: 2 φ(2) / 0.9545."""

_UNCUT = 3.2
"""max|x| / std that no cut at 3 std of the parent, or nearer, leaves: 3 / 0.9866 is the most."""

_LECUN = "kaiming fan_in, gain 1"
_SHARP = 1.06  # high / low of a std, so that few others than the one in question fit
_LEAST = 2048  # entries: the largest of so many normal ones is beyond 3.2 std in 94 % of cases


def _untruncated(evidence: Evidence) -> Iterator[Symptom]:
    if evidence.plan is not None:
        yield from _outside_plan([p for p in planned_pieces(evidence) if outside(p) > 0])
        return
    found = [weight for weight in evidence.weights if _is_uncut(weight)]
    if not found:
        return
    numbers = found[0].numbers
    names = tuple(weight.name for weight in found)
    reach = _reach(numbers) / numbers.std
    yield Symptom(
        names,
        f"entries up to {reach:.1f} std ({number_text(numbers.std)}), from code that calls "
        f"trunc_normal_: its bounds are absolute, and ±2 is ±{2 / numbers.std:.3g} std",
        "no entry beyond 2 or 3 std",
        draw_again(evidence, names, f"trunc_normal(std={number_text(numbers.std)})"),
        {"reach": reach, "std": numbers.std},
    )


def outside(piece: Planned) -> float:
    """By how much entries are outside the bounds of a planned truncation; 0: they are not."""
    fill, numbers = piece.fill, piece.numbers
    if not isinstance(fill, TruncNormal) or not numbers.count or numbers.not_finite:
        return 0.0
    beyond = max(numbers.high - fill.high, fill.low - numbers.low)
    rounding = torch.finfo(piece.tensor.dtype).eps * max(abs(fill.low), abs(fill.high))
    return beyond if beyond > rounding else 0.0


def _outside_plan(pieces: Sequence[Planned]) -> Iterator[Symptom]:
    for piece in pieces[:1]:
        fill, numbers = piece.fill, piece.numbers
        assert isinstance(fill, TruncNormal)
        yield Symptom(
            tuple(each.name for each in pieces),
            f"entries from {number_text(numbers.low)} to {number_text(numbers.high)}",
            f"entries from {number_text(fill.low)} to {number_text(fill.high)}, as planned",
            "plan.apply(model)",
            {"low": numbers.low, "high": numbers.high},
            "warning",
        )


def _is_uncut(weight: Weight) -> bool:
    numbers = weight.numbers
    if weight.site is None or numbers.count < _LEAST or not is_random(weight, numbers):
        return False
    return _reach(numbers) > _UNCUT * numbers.std and _truncation_was_meant(weight.site)


def _reach(numbers: Numbers) -> float:
    return max(abs(numbers.low), abs(numbers.high))


# What models name the functions that write their first values.
_WRITERS = ("_init_weights", "init_weights", "_reset_parameters", "reset_parameters", "__init__")
_UNBOUNDED = frozenset(
    {"normal_", "kaiming_normal_", "xavier_normal_", "lecun_normal_", "randn", "randn_like"}
)


def _truncation_was_meant(site: Site) -> bool:
    """Whether every normal that the classes around a parameter draw is a truncated one."""
    names: set[str] = set()
    for module in site.parents:
        for kind in module_type(module).__mro__:
            if not kind.__module__.startswith("torch."):
                for writer in _WRITERS:
                    names |= _names_used(vars(kind).get(writer))
    return "trunc_normal_" in names and not names & _UNBOUNDED


def _names_used(function: object) -> frozenset[str]:
    """By a function, and by the functions of its file that it names."""
    names = names_used(function)
    around = getattr(unwrap(function), "__globals__", {}) if callable(function) else {}
    near = (around.get(name) for name in names)
    return names.union(*(names_used(each) for each in near if isinstance(each, FunctionType)))


@dataclass(frozen=True)
class _Candidate:
    """A matrix, or a part of one, the std of the schemes for it, and all that may be meant."""

    name: str
    numbers: Numbers
    dtype: torch.dtype
    known: dict[str, float]
    healthy: tuple[float, ...]


def _truncated_std(evidence: Evidence) -> Iterator[Symptom]:
    candidates = [each for weight in evidence.weights for each in _candidates(weight)]
    limit = evidence.budget.deviations(len(candidates))
    divides = is_librarys_own(evidence.model, "lecun")
    found: dict[tuple[str, bool], list[_Candidate]] = {}
    for each in candidates:
        cause = _cause(each, limit, divides=divides)
        if cause is not None:
            found.setdefault(cause, []).append(each)
    for (scheme, is_cut), members in found.items():
        yield _shrunk(evidence, scheme, is_cut, members)


def _candidates(weight: Weight) -> Iterator[_Candidate]:
    if weight.site is None or not weight.is_matrix or weight.is_lookup or not is_trained(weight):
        return  # without a site, the axes are guessed
    for name, layout, numbers in weight.pieces():
        if numbers.count >= _LEAST and is_random(weight, numbers):
            fans = _fans(layout)
            if fans is not None:
                known = {t: std for t, std in schemes(fans).items() if t != "torch's default"}
                healthy = healthy_stds(fans)
                yield _Candidate(name, numbers, weight.tensor.dtype, known, healthy)


def _fans(layout: Layout | None) -> Fans | None:
    try:
        return layout.fans if layout is not None else None
    except LayoutError:
        return None


def _cause(each: _Candidate, limit: float, *, divides: bool) -> tuple[str, bool] | None:
    """The scheme whose std is missed by 0.8796, and whether the weight is cut at ±2.

    Without a cut a std alone is no evidence, it may be chosen or calibrated: what counts is that
    the model's own code calls transformers' `lecun_normal_`, which divides.
    """
    drawn = drawn_with(each.numbers, each.dtype, deviations=limit)
    if drawn is None or drawn.family == "uniform" or is_round(drawn):
        return None
    if drawn.fits_any(each.healthy):
        return None
    if _is_cut(each, limit):
        fitting = (text for text, std in each.known.items() if drawn.fits(std * _CUT))
        return next(((text, True) for text in fitting), None)
    is_sharp = drawn.high < _SHARP * drawn.low
    is_uncut = _reach(each.numbers) > _UNCUT * each.numbers.std
    if divides and is_sharp and is_uncut and drawn.fits(each.known[_LECUN] / _CUT):
        return _LECUN, False
    return None


def _is_cut(each: _Candidate, limit: float) -> bool:
    """Whether the extremes are where a cut at ±2 std of the parent leaves them.

    The largest of n entries is more than t std short of it with the chance
    ``exp(-n t · _EDGE)``.
    """
    numbers = each.numbers
    chance = math.erfc(limit / math.sqrt(2)) or 1e-300
    gap = -math.log(chance) / (_EDGE * numbers.count)
    error = limit / math.sqrt(2 * numbers.seen) + torch.finfo(each.dtype).eps
    reach = _reach(numbers) / numbers.std
    return (2 - gap) / _CUT * (1 - error) < reach < 2 / _CUT * (1 + error)


def _shrunk(
    evidence: Evidence, scheme: str, is_cut: bool, members: Sequence[_Candidate]
) -> Symptom:
    names = tuple(each.name for each in members)
    numbers, std = members[0].numbers, members[0].known[scheme]
    how = "cut at ±2 std, not divided by 0.8796" if is_cut else "divided by 0.8796, not cut at ±2"
    mode = "fan_out" if "fan_out" in scheme else "fan_avg" if "xavier" in scheme else "fan_in"
    scale = 2 if scheme.endswith("√2") else 1 if scheme.endswith("gain 1") else round(25 / 9, 4)
    again = f'variance_scaling({scale}, mode="{mode}", distribution="truncated_normal")'
    return Symptom(
        names,
        f"std {number_text(numbers.std)}, {numbers.std / std:.3f} times that of {scheme}: {how}",
        f"std {number_text(std)}",
        draw_again(evidence, names, again),
        {"std": numbers.std, "expected_std": std, "factor": numbers.std / std},
        None if is_cut else "note",
    )


TRUNCATION_CHECKS = (
    Check(
        "FAN207",
        "untruncated",
        "note",
        "a truncation that cuts nothing",
        "torch's trunc_normal_ takes its bounds as absolute numbers, -2 and 2 by default: with a "
        "small std they are a hundred std away, and the weights are an ordinary normal.",
        _untruncated,
    ),
    Check(
        "FAN208",
        "truncated-std",
        "warning",
        "a std that is off by 0.8796, the std of a normal cut at ±2",
        "A normal cut at ±2 std has 0.8796 of that std: to keep a scheme's variance one divides "
        "by it and cuts, and either without the other is off by 12 or 14 % in every layer.",
        _truncated_std,
        is_statistical=True,
    ),
)
