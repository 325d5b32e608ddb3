"""FAN405, FAN406: parameters and units that the first step would not move."""

from __future__ import annotations

from collections.abc import Iterator

from fanin.auditing.code import expression
from fanin.auditing.evidence import Evidence
from fanin.auditing.finding import Check, Severity, Symptom
from fanin.auditing.signals import Signals
from fanin.auditing.weights import Weight
from fanin.auditing.zero_factors import Unblocked, listed

__all__ = ["GRADIENT_CHECKS"]

_SHUT = 0.9
"""Share of units without a gradient that is too much: a rectifier shuts half of them."""

_UNITS, _SAMPLES = 16, 8
"""Fewer units or samples: all of them may be shut by chance."""


def _without_gradient(evidence: Evidence) -> Iterator[Symptom]:
    signals = evidence.signals
    assert signals is not None
    trained = [weight for weight in evidence.weights if _is_trained(weight)]
    unused = [weight for weight in trained if weight.name not in signals.arrived]
    cancelled = signals.unblocked.cancelled
    zero = [w for w in trained if _is_all_zero(signals, w) and w.name not in cancelled]
    if not signals.report.verdict.is_healthy and len(unused) < len(trained):
        zero = []  # a signal that died on the way is a finding of its own
    if unused:
        yield _symptom(
            unused,
            "no gradient arrives: the loss does not depend on it",
            "delete it, use it in forward, or freeze it: "
            f"{expression(unused[0].name)}.requires_grad_(False)",
            "error" if len(unused) == len(trained) else None,
        )
    if zero:
        yield from _zeros(zero, signals.unblocked)


def _zeros(weights: list[Weight], unblocked: Unblocked) -> Iterator[Symptom]:
    """Apart: what is lost for its size, what waits for zero factors, and what nothing explains."""
    causes = unblocked.causes
    faint = [weight for weight in weights if weight.name in unblocked.faint]
    waiting = [weight for weight in weights if weight.name in causes]
    lost = [w for w in weights if w.name not in causes and w.name not in unblocked.faint]
    if faint:
        dtype = str(faint[0].tensor.dtype).removeprefix("torch.")
        yield _symptom(
            faint,
            f"its gradient is too small for {dtype}, and 0 there",
            "see where signals or gradients get so small: print(fanin.probe(model, inputs))",
            None,
        )
    if lost:
        yield _symptom(
            lost,
            "its gradient is exactly 0",
            "look for a product with 0, a mask, round() or detach() behind it",
            None,
        )
    if waiting:
        factors = tuple(dict.fromkeys(name for w in waiting for name in causes[w.name]))
        yield _symptom(
            waiting,
            f"its gradient is exactly 0, as {listed(factors)} is 0",
            "nothing, if that zero is meant: the first step moves it, the second the others",
            "note",
        )


def _symptom(weights: list[Weight], observed: str, fix: str, severity: Severity | None) -> Symptom:
    return Symptom(
        tuple(weight.name for weight in weights),
        observed,
        "a gradient at every parameter that asks for one",
        fix,
        {"parameters": len(weights)},
        severity,
    )


def _units(evidence: Evidence) -> Iterator[Symptom]:
    signals = evidence.signals
    assert signals is not None
    samples = (
        signals.outputs.shape[0] if signals.outputs is not None and signals.outputs.dim() else 1
    )
    dead = {
        name
        for finding in signals.report.verdict.findings
        if finding.kind == "dead"
        for name in finding.where
    }  # findings of their own
    shut: dict[str, tuple[int, int]] = {}
    for weight in evidence.weights:
        idle, units = signals.arrived.get(weight.name, (0, 1))
        if weight.name.rpartition(".")[0] in dead:
            continue
        if units >= _UNITS and _SHUT * units <= idle < units and samples >= _SAMPLES:
            shut[weight.name] = (idle, units)
    if shut:
        idle, units = next(iter(shut.values()))
        yield Symptom(
            tuple(shut),
            f"{idle} of {units} outputs get no gradient from {samples} samples",
            f"less than {_SHUT:.0%} without one".replace("%", " %"),
            "centre what the function behind it gets: zero biases and weights of mean 0, as by "
            'fanin.initialize(model, "kaiming")',
            {"idle": idle, "units": units},
        )


def _is_trained(weight: Weight) -> bool:
    """Whether it asks for a gradient that hooks could see."""
    site = weight.site
    return site is not None and site.through is None and site.tensor.requires_grad


def _is_all_zero(signals: Signals, weight: Weight) -> bool:
    idle, units = signals.arrived.get(weight.name, (0, 1))
    return idle == units


GRADIENT_CHECKS = (
    Check(
        "FAN405",
        "no-gradient",
        "warning",
        "a parameter that no gradient reaches",
        "It stays at its first value, and an optimizer pays for it.",
        _without_gradient,
        needs="inputs",
    ),
    Check(
        "FAN406",
        "units-without-gradient",
        "warning",
        "a layer most of whose units get no gradient from a whole batch",
        "Units that are shut for every input stay so, and the layer is that much narrower.",
        _units,
        needs="inputs",
    ),
)
