"""FAN201, FAN202: weights whose mean or size is not what their layer needs."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import TypeAlias

from fanin.auditing.chains import Link, chains, fan_in, has_norms
from fanin.auditing.checks.depth import is_default_chain
from fanin.auditing.checks.parametrizations import is_hooked, normalised_dim
from fanin.auditing.code import expression
from fanin.auditing.evidence import Evidence
from fanin.auditing.finding import Check, Symptom
from fanin.auditing.numbers import Numbers
from fanin.auditing.plausible import is_trained, is_written
from fanin.auditing.provenance import default_std, drawn_with, healthy_stds, is_random
from fanin.auditing.remedy import draw_again
from fanin.auditing.weights import Weight
from fanin.errors import LayoutError
from fanin.geometry import Layout
from fanin.report import number_text, times_text

__all__ = ["SCALE_CHECKS"]

_COHERENT = 0.5
"""A mean m adds ``m · sum(x)`` to each output, for inputs of one sign up to ``m · sqrt(fan_in) /
std`` times what the random part adds: half is too much."""

_GROSS = 8.0
"""Growth of the rms in one layer that no scheme asks for: the gains in use go up to tanh's 5/3."""

_NOTHING = 1e-5
"""Share of its input that a layer keeps, below which it is 0 without saying so: the gradients of
two such layers in a row vanish."""

_LOST = 1e3
"""Growth or loss over the depth that is told: an eighth root of it, 2.4, is gross in no layer."""

_FATAL = 1e6  # beyond it float32 gradients of a loss of order 1 move nothing, or overflow half

_FEWEST = 3  # layers that make a depth


_Piece: TypeAlias = tuple[Weight, str, Layout, Numbers]


def _mean_off(evidence: Evidence) -> Iterator[Symptom]:
    limit, found = _off(evidence)
    for is_argument, members in found.items():
        weight, _, _, numbers = members[0]
        names = tuple(name for _, name, _, _ in members)
        mean, std, error = numbers.mean, numbers.std, numbers.std / math.sqrt(numbers.seen)
        hint = ": normal_'s second argument is the mean, its third the std" if is_argument else ""
        again = "normal(std=0.02)" if weight.is_lookup else "kaiming_normal()"
        yield Symptom(
            names,
            f"mean {number_text(mean)} beside a std of {number_text(std)}{hint}",
            f"0, to within {number_text(limit * error)}",
            f"fanin.init.normal_({expression(weight.name)}, std={_as_typed(mean, error):.2g})"
            if is_argument
            else draw_again(evidence, names, again),
            {"mean": mean, "std": std},
        )


def _off(evidence: Evidence) -> tuple[float, dict[bool, list[_Piece]]]:
    """What chance allows in standard errors, and what is off by more: whether as an argument.

    Where `normal_` got its std as its mean once, smaller weights beside it did too.
    """
    pieces = [piece for weight in evidence.weights for piece in _random_pieces(weight)]
    limit = evidence.budget.deviations(len(pieces))
    found: dict[bool, list[_Piece]] = {}
    for piece in pieces:
        if _is_off(piece, limit):
            found.setdefault(_is_argument(piece[3], limit), []).append(piece)
    for first in found.get(True, [])[:1]:
        found[True] = [
            piece
            for piece in pieces
            if _is_argument(piece[3], limit)
            and abs(piece[3].mean - first[3].mean) * math.sqrt(piece[3].seen) < limit
        ]
    return limit, found


def _random_pieces(weight: Weight) -> Iterator[_Piece]:
    """Of a trained matrix of random numbers: itself, or its parts."""
    if not (weight.is_matrix and is_trained(weight) and is_random(weight, weight.numbers)):
        return
    if not is_written(weight):
        return
    for name, layout, numbers in weight.pieces():
        if layout is not None and is_random(weight, numbers):
            yield weight, name, layout, numbers


def _is_off(piece: _Piece, limit: float) -> bool:
    """Whether the mean is off by more than chance allows, and by enough to matter.

    The mean of n draws has a standard error of ``std / sqrt(n)``.
    """
    weight, _, layout, numbers = piece
    share = abs(numbers.mean) / numbers.std
    if share * math.sqrt(numbers.seen) < limit:
        return False
    terms = 1.0 if weight.is_lookup else _terms(layout)
    return share * math.sqrt(terms) > _COHERENT or _is_argument(numbers, limit)


def _is_argument(numbers: Numbers, limit: float) -> bool:
    """Whether `normal_` was called with a mean alone, so that the std is its default, 1."""
    is_one = abs(numbers.std - 1) < limit / math.sqrt(2 * numbers.seen)
    return is_one and 0 < abs(numbers.mean) < 0.5 and numbers.high > 2 * numbers.std


def _as_typed(mean: float, error: float) -> float:
    """The number that a person gave for a mean: a round one, where chance allows it."""
    decade = 10.0 ** math.floor(math.log10(abs(mean)))
    nearest = min((decade * k for k in (1, 2, 5, 10)), key=lambda round_: abs(round_ - abs(mean)))
    return nearest if abs(nearest - abs(mean)) < 3 * error else abs(mean)


def _terms(layout: Layout) -> float:
    try:
        return layout.fans.fan_in
    except LayoutError:
        return 1.0


def _wrong_scale(evidence: Evidence) -> Iterator[Symptom]:
    _, off = _off(evidence)
    told = {weight.name for members in off.values() for weight, _, _, _ in members}
    for links in chains(evidence):
        if told & {link.weight.name for link in links}:
            continue
        if any(is_hooked(link.weight) for link in links):
            continue  # computed by vectors that the first forwards change
        symptom = _over_the_depth(evidence, links)
        if symptom is not None:
            told |= set(symptom.where)
            yield symptom
    yield from _gross(evidence, told)


def _over_the_depth(evidence: Evidence, links: Sequence[Link]) -> Symptom | None:
    """What a chain does to the rms of a signal, its last layer aside, which may be a small head."""
    hidden = links[:-1]
    if len(hidden) < _FEWEST or is_default_chain(evidence, links):
        return None
    least = math.prod(link.bounds[0] for link in hidden)
    most = math.prod(link.bounds[1] for link in hidden)
    is_cut = any(link.is_bounded for link in hidden)
    if least > _LOST and not is_cut:
        total = least
    elif most < 1 / _LOST:
        total = most
    else:
        return None
    names = tuple(link.weight.name for link in hidden)
    each = total ** (1 / len(hidden))
    furthest = max(hidden, key=lambda link: round(abs(math.log(link.scale)), 1))
    needed = 1 / math.sqrt(fan_in(furthest.weight)) / furthest.most
    std = furthest.weight.numbers.std
    return Symptom(
        (furthest.weight.name, *(name for name in names if name != furthest.weight.name)),
        f"std {number_text(std)} over {fan_in(furthest.weight):.4g} inputs; the signal is "
        f"{times_text(each)} a layer, {times_text(total)} over {len(hidden)} layers",
        f"std {number_text(needed)} here, {times_text(1.0)} a layer",
        draw_again(evidence, names, "kaiming_normal()"),
        {"std": std, "expected_std": needed, "factor": each, "total": total},
        "error" if max(total, 1 / total) > _FATAL else None,
    )


def _gross(evidence: Evidence, told: set[str]) -> Iterator[Symptom]:
    """Layers whose outputs are many times as large as their inputs, or next to nothing.

    Smaller than needed is a choice in many places: heads, ends of branches, layers before norms.
    """
    limit = evidence.budget.deviations(len(evidence.weights))
    found: dict[str, list[tuple[_Piece, float]]] = {}
    for weight in evidence.weights:
        if weight.site is None or weight.is_lookup or weight.name in told:
            continue  # without a site, the axes are guessed
        if normalised_dim(weight) is not None:
            continue  # its largest singular value is 1, or soon will be
        for piece in _random_pieces(weight):
            factor = piece[3].std * math.sqrt(_terms(piece[2]))
            if (factor > _GROSS or factor < _NOTHING) and not _is_published(piece, limit):
                found.setdefault(f"{piece[3].std:.1g}", []).append((piece, factor))
    hidden = "; a norm that follows hides it, and learning is slower" if has_norms(evidence) else ""
    for members in found.values():
        (_, _, layout, numbers), factor = members[0]
        terms = _terms(layout)
        names = tuple(name for (_, name, _, _), _ in members)
        low, high = 1 / math.sqrt(terms), math.sqrt(2 / terms)
        yield Symptom(
            names,
            f"std {number_text(numbers.std)} over {terms:.6g} inputs: outputs are "
            f"{times_text(factor)} the inputs{hidden if factor > 1 else ''}",
            f"std {number_text(low)} to {number_text(high)}, by the function that follows",
            draw_again(evidence, names, "kaiming_normal()"),
            {"std": numbers.std, "expected_std": low, "factor": factor},
        )


def _is_published(piece: _Piece, limit: float) -> bool:
    """Whether a scheme explains the std: fan_out with few outputs, or torch's own default."""
    weight, _, layout, numbers = piece
    drawn = drawn_with(numbers, weight.tensor.dtype, deviations=limit)
    if drawn is None:
        return False
    try:
        known = healthy_stds(layout.fans)
    except LayoutError:
        return False
    default = default_std(weight)
    return drawn.fits_any(known if default is None else [*known, default])


SCALE_CHECKS = (
    Check(
        "FAN201",
        "mean-off",
        "warning",
        "the mean of a weight is far from 0",
        "A common mean adds the same number to every output of a layer: units that should differ "
        "move together, and the more inputs there are the more so.",
        _mean_off,
        is_statistical=True,
    ),
    Check(
        "FAN202",
        "wrong-scale",
        "warning",
        "a std far from what fan_in and the following function need",
        "Each layer multiplies its input by std · sqrt(fan_in): what is not near 1 is multiplied "
        "over the depth, and reaches the gradients.",
        _wrong_scale,
        is_statistical=True,
    ),
)
