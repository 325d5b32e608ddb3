"""A page of charts and tables: one HTML file that needs no network. Knows nothing of models."""

from __future__ import annotations

from fanin.report.page.content import Bars, Chart, Line, Page, Section
from fanin.report.page.render import page_html

__all__ = ["Bars", "Chart", "Line", "Page", "Section", "page_html"]
