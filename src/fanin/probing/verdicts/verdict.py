"""Whether signals and gradients survive a net, in words."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from fanin.probing.rows import SignalRow, Statistics, WeightRow
from fanin.probing.verdicts.finding import Finding, Kind
from fanin.probing.verdicts.findings import findings
from fanin.probing.verdicts.growth import FEWEST_LAYERS, Growth, backward_growth, forward_growth
from fanin.report import number_text, times_text

__all__ = ["Verdict", "verdict_of"]


@dataclass(frozen=True, slots=True)
class Verdict:
    """What a probe says of a net's start.

    Args:
        kind: what is wrong first of all: ``"explodes"``, ``"vanishes"``, ``"dead"``,
            ``"saturated"``, ``"symmetric"`` or ``"not finite"``; otherwise ``"healthy"``.
        forward: how outputs grow from layer to layer; None where the layers are too few.
        backward: how gradients grow from the last layer to the first; None without them.
        lines: for people: all that is wrong, causes first, or that nothing is.
        suggestion: what to change; empty for a healthy net.
        findings: each of what is wrong, with its lines, its place and its remedy.
    """

    kind: Kind
    forward: Growth | None
    backward: Growth | None
    lines: tuple[str, ...]
    suggestion: str = ""
    findings: tuple[Finding, ...] = ()

    @property
    def is_healthy(self) -> bool:
        """Whether nothing is wrong."""
        return self.kind == "healthy"

    def __str__(self) -> str:
        return "\n".join([*self.lines, *([self.suggestion] if self.suggestion else [])])


def verdict_of(
    rows: Sequence[SignalRow], weights: Sequence[WeightRow] = (), *, loss: float | None = None
) -> Verdict:
    """Judge the rows of a probe: trends over depth, and what single calls put out.

    Args:
        rows: in the order of execution.
        weights: to say what to change.
        loss: of the backward pass.

    Example:
        >>> def layer(i: int, rms: float) -> SignalRow:
        ...     output = Statistics((8, 256), "float32", 0.0, rms, rms, 4 * rms, 0.0)
        ...     return SignalRow(i, f"{i}", "Linear", 0, i + 1, True, output)
        >>> verdict = verdict_of([layer(i, 16.0 ** (i + 1)) for i in range(10)])
        >>> verdict.lines[0]
        'explodes: ×16 a layer, float32 would overflow at layer 31'
        >>> verdict_of([layer(i, 1.0) for i in range(10)]).is_healthy
        True
    """
    forward, backward = forward_growth(rows), backward_growth(rows)
    found = findings(rows, weights, forward, backward, loss=loss)
    if not found:
        return Verdict("healthy", forward, backward, (_healthy(rows, forward, backward),))
    lines = tuple(line for finding in found for line in finding.lines)
    first = found[0]
    return Verdict(first.kind, forward, backward, lines, first.suggestion, tuple(found))


def _healthy(rows: Sequence[SignalRow], forward: Growth | None, backward: Growth | None) -> str:
    layers = [row.output for row in rows if row.is_layer]
    if len(layers) < FEWEST_LAYERS or forward is None:
        ends = (layers[0], layers[-1]) if layers else ()
        return f"healthy, but too shallow to tell a trend: {_layers_text(len(layers))}{_rms(ends)}"
    back = f", gradients {times_text(backward.factor)} towards the input" if backward else ""
    return f"healthy: outputs {times_text(forward.factor)} a layer{back}, {len(layers)} layers"


def _layers_text(count: int) -> str:
    return f"{count} layer{'' if count == 1 else 's'} with weights"


def _rms(ends: Sequence[Statistics]) -> str:
    """The rms of the first and of the last layer."""
    return f", rms {' to '.join(number_text(each.rms) for each in ends)}" if ends else ""
