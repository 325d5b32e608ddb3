"""What inputs show: a probe's report, and the outputs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from torch import Tensor

from fanin.auditing.evidence import Evidence
from fanin.probing.probe import probe

__all__ = ["signals_of"]


def signals_of(
    evidence: Evidence, inputs: object, *, loss: Callable[[Any], Tensor] | None = None
) -> Evidence:
    """The evidence, and what one forward and one backward pass add to it."""
    assert evidence.model is not None
    report = probe(evidence.model, inputs, loss=loss, plan=evidence.plan)
    return replace(evidence, signals=report, notes=(*evidence.notes, *report.notes))
