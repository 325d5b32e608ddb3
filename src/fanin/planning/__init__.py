"""From rules to a plan, and from a plan to weights."""

from __future__ import annotations

from fanin.model import matches
from fanin.planning.plan import Plan
from fanin.planning.recipe import Derivation, Recipe
from fanin.planning.resolve import make_plan
from fanin.planning.rules import Keep, Match, Rule, keep, rule
from fanin.planning.step import Step

__all__ = [
    "Derivation",
    "Keep",
    "Match",
    "Plan",
    "Recipe",
    "Rule",
    "Step",
    "keep",
    "make_plan",
    "matches",
    "rule",
]
