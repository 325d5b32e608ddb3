"""FAN401-FAN404, FAN409: what becomes of signals and gradients over the depth."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterator

from torch import Tensor

from fanin.auditing.evidence import Evidence
from fanin.auditing.finding import Check, Symptom
from fanin.probing.verdicts.finding import Finding, Kind
from fanin.report import number_text

__all__ = ["SIGNAL_CHECKS"]

_LIMIT = 1e3
"""Between the ends of a net, as in a verdict over layers."""


def _verdict(kind: Kind, expected: str) -> Callable[[Evidence], Iterator[Symptom]]:
    """What the probe's verdict says of one kind of trouble."""

    def run(evidence: Evidence) -> Iterator[Symptom]:
        assert evidence.signals is not None
        verdict = evidence.signals.report.verdict
        walks = (("outputs", verdict.forward), ("gradients", verdict.backward))
        factors = {f"{name}_factor": growth.factor for name, growth in walks if growth is not None}
        for finding in verdict.findings:
            if finding.kind == kind:
                told = "; ".join(finding.lines)
                yield Symptom(finding.where or ("",), told, expected, _fix(finding), factors)
        if not verdict.findings and kind in ("explodes", "vanishes"):
            yield from _end_to_end(evidence, kind)

    return run


def _end_to_end(evidence: Evidence, kind: Kind) -> Iterator[Symptom]:
    """Of a net without layers that a probe could follow: its outputs against its inputs."""
    signals = evidence.signals
    assert signals is not None
    matrices = [w for w in evidence.weights if len(w.shape) > 1 and w.name in signals.arrived]
    parts = [row for row in signals.report.rows if row.is_layer and row.name]
    outputs, given = signals.outputs, signals.given
    if len(matrices) < 2 or parts or outputs is None or given is None:
        return
    if outputs.dim() < 2 or not (outputs.is_floating_point() and given.is_floating_point()):
        return
    size, start = _rms(outputs), _rms(given)
    if not (0 < start < math.inf and 0 < size < math.inf):
        return
    factor = size / start
    if factor <= _LIMIT if kind == "explodes" else factor >= 1 / _LIMIT:
        return
    yield Symptom(
        ("",),
        f"rms {number_text(size)} of the outputs, {number_text(start)} of the inputs",
        f"outputs of the inputs' size, within a factor of {_LIMIT:.0f}",
        "give each weight a std of about sqrt(2 / inputs of a unit), as fanin.init.kaiming_normal_ "
        "does",
        {"factor": factor},
        "warning" if kind == "vanishes" else None,  # a last weight may be meant small
    )


def _rms(tensor: Tensor) -> float:
    return math.sqrt(float(tensor.detach().double().square().mean())) if tensor.numel() else 0.0


def _fix(finding: Finding) -> str:
    """The probe's remedy, after the call that it names."""
    recipe = re.search(r"recipe '(\w+)'", finding.suggestion)
    if recipe is None:
        return finding.suggestion
    return f'fanin.initialize(model, "{recipe[1]}")  # {finding.suggestion}'


SIGNAL_CHECKS = (
    Check(
        "FAN401",
        "explodes",
        "error",
        "outputs or gradients grow from layer to layer",
        "A factor a layer is a power over the depth: activations overflow, or the first step does.",
        _verdict("explodes", "the same rms at every depth, within a factor of 1000 over all"),
        needs="inputs",
    ),
    Check(
        "FAN402",
        "vanishes",
        "error",
        "outputs or gradients shrink from layer to layer",
        "What arrives at the far end does not depend on the input any more, so nothing is learned.",
        _verdict("vanishes", "the same rms at every depth, within a factor of 1000 over all"),
        needs="inputs",
    ),
    Check(
        "FAN403",
        "dead-units",
        "error",
        "rectifiers that give nearly only zeros",
        "A unit that is shut for every input gets no gradient, so it stays shut.",
        _verdict("dead", "about half of the entries of a rectifier at 0"),
        needs="inputs",
    ),
    Check(
        "FAN404",
        "saturated",
        "warning",
        "bounded functions that sit at their bounds",
        "At a bound the slope is nearly 0, so the gradients of all layers before it are too.",
        _verdict("saturated", "a few percent of the entries near a bound"),
        needs="inputs",
    ),
    Check(
        "FAN409",
        "not-finite-signal",
        "error",
        "NaN or infinities in outputs, gradients or the loss",
        "One NaN reaches every weight in the first step.",
        _verdict("not finite", "finite numbers"),
        needs="inputs",
    ),
)
