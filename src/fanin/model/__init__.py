"""What a model holds: names, ties, and the axes of each parameter; and how it gets its memory."""

from __future__ import annotations

from fanin.model.adapters import layout_of, missing_adapter, register_adapter
from fanin.model.globs import is_literal, matches
from fanin.model.parametrized import Parametrized
from fanin.model.site import Entry, Site
from fanin.model.types import module_type
from fanin.model.view import buffers, entries, modules, sites

__all__ = [
    "Entry",
    "Parametrized",
    "Site",
    "buffers",
    "entries",
    "is_literal",
    "layout_of",
    "matches",
    "missing_adapter",
    "module_type",
    "modules",
    "register_adapter",
    "sites",
]
