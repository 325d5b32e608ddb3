"""FAN110: weights that are computed from other parameters, and were written past them."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch import Tensor

# Private: torch has no other way to tell its own parametrizations from a user's.
from torch.nn.utils.parametrizations import _SpectralNorm
from torch.nn.utils.spectral_norm import SpectralNorm

from fanin.auditing.evidence import Evidence
from fanin.auditing.finding import Check, Severity, Symptom
from fanin.auditing.plausible import varies
from fanin.auditing.remedy import redraw
from fanin.auditing.weights import Weight
from fanin.report import number_text

__all__ = ["PARAMETRIZATION_CHECKS", "is_hooked", "normalised_dim"]

_APART = 1e-2
"""Share of its size by which an attribute may differ from what it is computed as: rounding in
bfloat16, and more."""

_LOOSE = 2.0
"""Spectral norm of a spectrally normalised weight; it is 1.0 to 1.1 after 15 power iterations, and
lags a little behind the steps of training."""

_ITERATIONS = 8  # they give a lower bound of the norm


def _written_past(evidence: Evidence) -> Iterator[Symptom]:
    found: dict[tuple[str, Severity], list[tuple[str, float]]] = {}
    loose: dict[Severity, list[tuple[str, float]]] = {}
    for weight in evidence.weights:
        if weight.site is None or weight.site.through is None or not weight.numbers.seen:
            continue
        stale = _stale(weight)
        if stale is not None:
            found.setdefault((stale.reason, stale.severity), []).append((weight.name, stale.apart))
            continue
        norm = _excess(weight)
        if norm > _LOOSE:
            severity: Severity = "note" if is_hooked(weight) else "warning"
            loose.setdefault(severity, []).append((weight.name, norm))
    for (reason, severity), places in found.items():
        names = tuple(name for name, _ in places)
        yield Symptom(
            names,
            f"differs by {number_text(100 * places[0][1])} % from what the next forward computes: "
            f"{reason}",
            "the weight that its parametrization computes",
            redraw(names),
            {"apart": places[0][1]},
            severity,
        )
    for severity, places in loose.items():
        names = tuple(name for name, _ in places)
        factor = max(norm for _, norm in places)
        yield Symptom(
            names,
            f"a spectral norm of up to {number_text(factor)} in eval mode: its singular vectors "
            f"are {_whose(severity)}",
            "a spectral norm of 1",
            redraw(names),
            {"norm": factor},
            severity,
            "It is divided by an estimate that is too small until forwards in train mode have "
            "turned the vectors: before that, in eval mode, its outputs are too large.",
        )


def _whose(severity: Severity) -> str:
    """A hook begins with vectors drawn at random; a parametrization turns them at once."""
    return "not its own yet" if severity == "note" else "those of another weight"


class _Stale(NamedTuple):
    reason: str
    severity: Severity
    apart: float


def _stale(weight: Weight) -> _Stale | None:
    """Whether the attribute that a hook sets is another weight than the one it computes."""
    assert weight.site is not None
    assert weight.site.through is not None
    module, attribute = weight.site.module, weight.site.attribute
    held = vars(module).get(attribute)
    if (
        not isinstance(held, Tensor)
        or held.shape != weight.tensor.shape
        or not varies(weight.numbers)
    ):
        return None
    originals = [tensor for _, tensor in weight.site.through.originals]
    if any(held.data_ptr() == original.data_ptr() for original in originals):
        return None  # as spectral_norm leaves it: what is written there is written
    size = float(torch.linalg.vector_norm(weight.tensor))
    apart = float(torch.linalg.vector_norm(held.detach() - weight.tensor)) / size
    if apart <= _APART:
        return None
    if held._version:
        return _Stale("it was written past its parametrization", "error", apart)
    if all(original._version == 0 for original in originals):
        return _Stale("it was written past its parametrization, as .data", "warning", apart)
    return _Stale("it is as old as the last forward", "note", apart)


def _excess(weight: Weight) -> float:
    """A lower bound of the spectral norm of a spectrally normalised weight; 0 for others."""
    dim = normalised_dim(weight)
    if dim is None or weight.tensor.ndim < 2:
        return 0.0
    matrix = weight.tensor.movedim(dim, 0).flatten(1).float()
    vector = torch.ones(matrix.shape[1], device=matrix.device) + torch.linspace(
        0, 1, matrix.shape[1], device=matrix.device
    )
    for _ in range(_ITERATIONS):
        vector = vector / torch.linalg.vector_norm(vector)
        vector = matrix.T @ (matrix @ vector)
    return math.sqrt(float(torch.linalg.vector_norm(vector)))


def normalised_dim(weight: Weight) -> int | None:
    """The dim of the rows of a spectrally normalised weight; None for others."""
    if weight.site is None:
        return None
    module, attribute = weight.site.module, weight.site.attribute
    for hook in module._forward_pre_hooks.values():
        if isinstance(hook, SpectralNorm) and hook.name == attribute:
            return hook.dim
    chain = getattr(module, "parametrizations", None)
    if chain is not None and attribute in chain:
        for each in chain[attribute]:
            if isinstance(each, _SpectralNorm):
                return int(each.dim)
    return None


def is_hooked(weight: Weight) -> bool:
    """Whether a spectral norm's hook computes it.

    It starts with vectors drawn at random, and every forward in train mode turns them a little.
    """
    if weight.site is None or normalised_dim(weight) is None:
        return False
    return isinstance(vars(weight.site.module).get(weight.site.attribute), Tensor)


PARAMETRIZATION_CHECKS = (
    Check(
        "FAN110",
        "past-parametrization",
        "error",
        "a weight that is computed from others was written past them, or with old vectors",
        "The next forward computes the weight anew: what was written is lost.",
        _written_past,
    ),
)
