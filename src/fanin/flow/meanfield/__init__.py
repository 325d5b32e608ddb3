"""Mean field theory of wide random networks: fixed lengths, correlations, the edge of chaos."""

from __future__ import annotations

from fanin.flow.meanfield.diagram import PhaseDiagram, phase_diagram
from fanin.flow.meanfield.edge import Critical, critical, edge_of_chaos
from fanin.flow.meanfield.field import MeanField, mean_field

__all__ = [
    "Critical",
    "MeanField",
    "PhaseDiagram",
    "critical",
    "edge_of_chaos",
    "mean_field",
    "phase_diagram",
]
