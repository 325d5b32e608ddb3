"""FAN209: values piled up at the ends of their range."""

from __future__ import annotations

from collections.abc import Iterator

import torch

from fanin.auditing.evidence import Evidence
from fanin.auditing.finding import Check, Symptom
from fanin.auditing.numbers import Numbers
from fanin.auditing.plausible import is_trained
from fanin.auditing.remedy import draw_again
from fanin.report import number_text

__all__ = ["CLAMPED_CHECKS", "piled"]

_FEW = 2e-4
"""Share of entries at an end that is looked into: a clamp at 3.7 std leaves half of it at each."""

_TIMES = 8
"""How much more often the end is met than the values next to it: rounding to bfloat16 makes those
meet about as often as the bound of a uniform."""

_APART = 1.5  # times the next value, which is where no rounding leaves a gap
_LEAST, _COUNT = 256, 8  # entries, and how many of them at an end, that are worth a word
_NEXT = 16  # values next to an end; with fewer than two such runs, the weight is a table


def _piled(evidence: Evidence) -> Iterator[Symptom]:
    found = [
        (weight.name, weight.numbers, share)
        for weight in evidence.weights
        if len(weight.shape) > 1 and is_trained(weight) and (share := piled(weight.numbers)) > 0
    ]
    if not found:
        return
    names = tuple(name for name, _, _ in found)
    _, numbers, share = found[0]
    yield Symptom(
        names,
        f"{share:.2%} of the entries are exactly {number_text(numbers.low)} or "
        f"{number_text(numbers.high)}, the ends of their range",
        "values that reach an end once, not again and again",
        draw_again(evidence, names, f"trunc_normal(std={number_text(numbers.std)})"),
        {"share": share, "low": numbers.low, "high": numbers.high},
    )


def piled(numbers: Numbers) -> float:
    """Share of entries at the ends of their range, if these are met more than the values next."""
    sample = numbers.sample
    if numbers.seen < _LEAST or numbers.is_constant or numbers.not_finite:
        return 0.0
    count = {end: int((sample == end).sum()) for end in (numbers.low, numbers.high) if end != 0}
    enough = max(_COUNT, _FEW * numbers.seen)
    if not any(found >= enough for found in count.values()):
        return 0.0
    values, times = torch.unique(sample, return_counts=True)
    ends = torch.tensor([numbers.low, numbers.high, 0.0], dtype=values.dtype)
    is_inside = ~torch.isin(values, ends)
    values, times = values[is_inside], times[is_inside]
    if len(values) < 2 * _NEXT or 2 * int(times.sum()) < sum(count.values()):
        return 0.0
    largest = float(values.abs().max())
    most = 0
    for end, found in count.items():
        usual = int((times[:_NEXT] if end == numbers.low else times[-_NEXT:]).max())
        if found >= enough and (found > _TIMES * usual or abs(end) > _APART * largest):
            most += found
    return most / numbers.seen


CLAMPED_CHECKS = (
    Check(
        "FAN209",
        "piled-at-bound",
        "warning",
        "many entries are exactly the smallest or the largest value",
        "A clamp moves what lies outside to its bounds instead of drawing it again: the weights "
        "have two spikes, and their std is neither the normal's nor the truncated one's.",
        _piled,
    ),
)
