"""Results as tables: plain text for logs, rich for terminals. Knows nothing of models."""

from __future__ import annotations

from fanin.report.table import Column, Table

__all__ = ["Column", "Table"]
