"""What a model holds: names, ties, and the axes of each parameter."""

from __future__ import annotations

from fanin.model.adapters import layout_of, missing_adapter, register_adapter
from fanin.model.view import Entry, Site, entries, sites

__all__ = [
    "Entry",
    "Site",
    "entries",
    "layout_of",
    "missing_adapter",
    "register_adapter",
    "sites",
]
