"""FAN407, FAN408: the first loss, and outputs that do not depend on the inputs."""

from __future__ import annotations

import math
from collections.abc import Iterator

from fanin.auditing.code import expression
from fanin.auditing.evidence import Evidence
from fanin.auditing.finding import Check, Symptom
from fanin.auditing.signals import is_same, output_of
from fanin.auditing.zero_factors import listed
from fanin.report import number_text

__all__ = ["OUTPUT_CHECKS"]

_SURPLUS = 2.0
"""Nats above ln(classes) that are too much: logits of std 2 (see `_first_loss`)."""


def _first_loss(evidence: Evidence) -> Iterator[Symptom]:
    """Logits of std s that know nothing of the labels cost about ln(classes) + s²/2.

    The mean of ``logsumexp`` over n normal logits is ln n + s²/2 as long as s² is below 2 ln n;
    beyond that it is nearer to s √(2 ln n).
    """
    assert evidence.signals is not None
    loss, classes = evidence.signals.report.loss, evidence.signals.classes
    if loss is None or classes is None or not math.isfinite(loss):
        return
    chance = math.log(classes.count)
    if loss <= chance + _SURPLUS:
        return
    layers = [row for row in evidence.signals.report.rows if row.is_layer]
    name = layers[-1].name if layers else ""
    scale = 1 / (4 * classes.logits_std) if classes.logits_std > 0 else 1.0
    yield Symptom(
        (name,),
        f"first loss {number_text(loss)}: the logits' std is {number_text(classes.logits_std)}",
        f"ln({classes.count}) = {number_text(chance)}, the loss of a uniform guess",
        f"with torch.no_grad(): {expression(name)}.weight.mul_({scale:.2g})",
        {"loss": loss, "chance": chance, "logits_std": classes.logits_std},
    )


def _same_outputs(evidence: Evidence) -> Iterator[Symptom]:
    signals = evidence.signals
    assert signals is not None
    outputs = signals.outputs
    if outputs is None or not signals.is_same:
        return
    size = float(outputs.double().abs().max())
    without_zeros = output_of(signals.unblocked.output)
    is_meant = without_zeros is not None and not is_same(without_zeros, signals.given)
    zeros = listed(signals.unblocked.zeros)
    yield Symptom(
        ("",),
        f"{len(outputs)} different inputs give "
        + (f"one output, of largest entry {number_text(size)}" if size else "outputs of 0"),
        "outputs that tell the inputs apart",
        f"none, if {zeros} is meant to start at 0: the first step moves it"
        if is_meant
        else 'fanin.initialize(model, "kaiming"), and fanin.probe(model, inputs) to see where',
        {"inputs": len(outputs), "largest": size},
        "note" if is_meant else None,
    )


OUTPUT_CHECKS = (
    Check(
        "FAN407",
        "first-loss",
        "warning",
        "a first loss far above that of a uniform guess",
        "The first steps do nothing but unlearn confident guesses, with the largest gradients of "
        "the whole training.",
        _first_loss,
        needs="inputs",
    ),
    Check(
        "FAN408",
        "same-outputs",
        "error",
        "different inputs give the same output",
        "What the model learns then is a constant, and no gradient tells it about the inputs.",
        _same_outputs,
        needs="inputs",
    ),
)
