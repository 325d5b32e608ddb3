"""FAN210: distributions that a narrow dtype does not hold."""

from __future__ import annotations

from collections.abc import Iterator

import torch

from fanin.auditing.evidence import Evidence
from fanin.auditing.finding import Check, Symptom
from fanin.auditing.weights import Weight
from fanin.report import number_text

__all__ = ["PRECISION_CHECKS"]

_SUBNORMAL = 0.5
"""Share of subnormal entries that is too much: their last bits are gone, and devices that flush
them read 0. float16 at std 1e-3, which works, has 5 %."""

_SOME, _ZEROS = 0.05, 0.01
"""Share of subnormal entries beside a share of zeros, that says these were lost by rounding."""

_LEAST = 64  # entries
_LEVELS = 8  # values that a distribution needs not to be a handful of steps
_AWAY = 4  # std from 0 at which the spacing is the mean's, and the same on both sides


def _narrow(evidence: Evidence) -> Iterator[Symptom]:
    found: dict[str, list[tuple[Weight, str]]] = {}
    for weight in evidence.weights:
        dtype, numbers = weight.tensor.dtype, weight.numbers
        if not dtype.is_floating_point or dtype.itemsize > 2:
            continue
        if numbers.seen < _LEAST or numbers.is_constant or numbers.not_finite:
            continue
        for cause, text in (("small", _too_small(weight)), ("far", _too_far(weight))):
            if text is not None:
                found.setdefault(f"{cause} {dtype}", []).append((weight, text))
    for cause, members in found.items():
        weight, observed = members[0]
        dtype, std = weight.tensor.dtype, weight.numbers.std
        smallest = torch.finfo(dtype).smallest_normal
        if cause.startswith("small"):
            expected = f"a std of {number_text(30 * smallest)} or more, or a dtype of a wider range"
        else:
            spacing = torch.finfo(dtype).eps * abs(weight.numbers.mean)
            expected = f"a std of several times the spacing there, {number_text(spacing)}"
        yield Symptom(
            tuple(weight.name for weight, _ in members),
            observed,
            expected,
            "model.float()  # initialize it anew, and let autocast choose where to round",
            {"std": std, "mean": weight.numbers.mean},
        )


def _too_small(weight: Weight) -> str | None:
    """Entries below the smallest normal number of the dtype."""
    numbers, smallest = weight.numbers, torch.finfo(weight.tensor.dtype).smallest_normal
    size = numbers.sample.abs()
    held = size[size > 0]
    if not held.numel():
        return None
    below = float((held < smallest).double().mean())
    if below > _SUBNORMAL or (below > _SOME and numbers.zeros > _ZEROS):
        zeros = f", and {numbers.zeros:.2g} of all are 0" if numbers.zeros else ""
        return (
            f"{below:.0%} of the entries that are not 0 lie below {number_text(smallest)}, the "
            f"smallest normal number of {_text(weight)}{zeros}"
        )
    return None


def _too_far(weight: Weight) -> str | None:
    """Entries around a mean so large that few numbers of the dtype lie among them."""
    numbers = weight.numbers
    if abs(numbers.mean) <= _AWAY * numbers.std:
        return None
    levels = len(torch.unique(numbers.sample))
    if levels > _LEVELS:
        return None
    return (
        f"{numbers.count} entries around {number_text(numbers.mean)} have {levels} values: "
        f"{_text(weight)} has no others near"
    )


def _text(weight: Weight) -> str:
    return str(weight.tensor.dtype).removeprefix("torch.")


PRECISION_CHECKS = (
    Check(
        "FAN210",
        "half-precision",
        "warning",
        "a distribution that its dtype does not hold",
        "What is smaller than a dtype's normal numbers, or closer together than their spacing, is "
        "rounded to 0 or onto a few values: units meant to differ are equal, and steps are lost.",
        _narrow,
    ),
)
