"""FAN407, FAN408: the first loss, and outputs that do not depend on the inputs."""

from __future__ import annotations

import math
from collections.abc import Iterator

import torch
from torch import Tensor

from fanin.auditing.code import expression
from fanin.auditing.evidence import Evidence
from fanin.auditing.finding import Check, Symptom
from fanin.report import number_text

__all__ = ["OUTPUT_CHECKS"]

_SURPLUS = 2.0
"""Nats above ln(classes) that are too much: logits of std 2 (see `_first_loss`)."""

_SAME = 4.0
"""Rounding errors by which outputs of one value may differ."""


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
    assert evidence.signals is not None
    outputs, given = evidence.signals.outputs, evidence.signals.given
    if outputs is None or given is None or not _is_batch(outputs, given):
        return
    if _varies(given) <= 0 or not bool(outputs.isfinite().all()):
        return
    varies, size = _varies(outputs), float(outputs.double().abs().max())
    if varies > _SAME * torch.finfo(outputs.dtype).eps * size:
        return
    is_meant = size == 0 and evidence.signals.report.verdict.is_healthy
    yield Symptom(
        ("",),
        f"{len(outputs)} different inputs give "
        + (f"one output, of largest entry {number_text(size)}" if size else "outputs of 0"),
        "outputs that tell the inputs apart",
        "none, if the last layer is meant to start at 0"
        if is_meant
        else 'fanin.initialize(model, "kaiming"), and fanin.probe(model, inputs) to see where',
        {"inputs": len(outputs), "largest": size},
        "note" if is_meant else None,
    )


def _is_batch(outputs: Tensor, given: Tensor) -> bool:
    has_dims = outputs.dim() > 1 and given.dim() > 1
    return has_dims and outputs.shape[0] == given.shape[0] > 1


def _varies(tensor: Tensor) -> float:
    """The largest difference of an entry between two samples."""
    values = tensor.double()
    return float((values.amax(0) - values.amin(0)).max())


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
