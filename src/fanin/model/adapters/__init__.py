"""From a module's type to the axes of its parameters."""

from __future__ import annotations

from fanin.model.adapters.missing import missing_adapter
from fanin.model.adapters.registry import layout_of, register_adapter

__all__ = ["layout_of", "missing_adapter", "register_adapter"]
