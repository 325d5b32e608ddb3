"""Results as tables: plain text for logs, rich for terminals. Knows nothing of models."""

from __future__ import annotations

from fanin.report.numbers import NOTHING, number_text, times_text
from fanin.report.sizes import bytes_text, shape_text
from fanin.report.table import Column, Table
from fanin.report.tree import Branch, tree_table

__all__ = [
    "NOTHING",
    "Branch",
    "Column",
    "Table",
    "bytes_text",
    "number_text",
    "shape_text",
    "times_text",
    "tree_table",
]
