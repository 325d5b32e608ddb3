"""How moments move through torch's operations, a file for each kind."""

from __future__ import annotations

from fanin.flow.moments.rules import (
    attention,
    constants,
    contraction,
    dropout,
    joining,
    linear,
    lookup,
    losses,
    norms,
    pooling,
    recurrent,
    reductions,
)
from fanin.flow.moments.rules.choice import rule_for
from fanin.flow.moments.rules.views import is_view

__all__ = [
    "attention",
    "constants",
    "contraction",
    "dropout",
    "is_view",
    "joining",
    "linear",
    "lookup",
    "losses",
    "norms",
    "pooling",
    "recurrent",
    "reductions",
    "rule_for",
]
