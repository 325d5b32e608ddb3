"""A model as a tree, to be read."""

from __future__ import annotations

from fanin.model.inspection.inspect import Inspection, inspect

__all__ = ["Inspection", "inspect"]
