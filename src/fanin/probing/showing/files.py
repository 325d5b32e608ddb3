"""A report, or several, as the content of a file."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Literal, TypeAlias

from fanin.errors import ArgumentError
from fanin.report.figure import png_bytes

if TYPE_CHECKING:
    from fanin.probing.comparison import Comparison
    from fanin.probing.signal_report import SignalReport

__all__ = ["FileKind", "file_content", "save"]

FileKind: TypeAlias = Literal["html", "png", "json"]


def file_content(shown: SignalReport | Comparison, kind: FileKind) -> bytes:
    """A page that needs no network, the plot, or data."""
    match kind:
        case "html":
            return shown.to_html().encode()
        case "png":
            return png_bytes(shown.plot())
        case "json":
            return shown.to_json().encode()


def save(shown: SignalReport | Comparison, path: str | Path) -> None:
    """Write the kind of file that the suffix names."""
    match Path(path).suffix.lower().removeprefix("."):
        case "html" | "png" | "json" as kind:
            Path(path).write_bytes(file_content(shown, kind))
        case suffix:
            raise ArgumentError(
                f"save: a report is a .html, .png or .json file. Got suffix {suffix!r} for "
                f"{str(path)!r}. Name the file with one of them."
            )
