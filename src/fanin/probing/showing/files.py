"""What can be shown, a report or several, as the content of a file."""

from __future__ import annotations

from abc import ABC, abstractmethod
from pathlib import Path
from typing import TYPE_CHECKING, Literal, TypeAlias

from fanin.errors import ArgumentError
from fanin.report.figure import png_bytes

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["FileKind", "Showable", "file_content"]

FileKind: TypeAlias = Literal["html", "png", "json"]


class Showable(ABC):
    """Has a page, a plot and data, and so can be saved as any of them."""

    @abstractmethod
    def to_html(self) -> str:
        """The page as text: one HTML file that needs no network."""

    @abstractmethod
    def plot(self) -> Figure:
        """The matplotlib figure."""

    @abstractmethod
    def to_json(self) -> str:
        """The data as JSON text."""

    def save(self, path: str | Path) -> None:
        """Write ``.html`` (a page that needs no network), ``.png`` (the plot) or ``.json``.

        Args:
            path: of the file; its suffix says which.

        Raises:
            ArgumentError: for another suffix.
            FaninError: without the libraries that a page or a plot needs.
        """
        match Path(path).suffix.lower().removeprefix("."):
            case "html" | "png" | "json" as kind:
                Path(path).write_bytes(file_content(self, kind))
            case suffix:
                raise ArgumentError(
                    f"save: a report is a .html, .png or .json file. Got suffix {suffix!r} for "
                    f"{str(path)!r}. Name the file with one of them."
                )


def file_content(shown: Showable, kind: FileKind) -> bytes:
    """A page that needs no network, the plot, or data."""
    match kind:
        case "html":
            return shown.to_html().encode()
        case "png":
            return png_bytes(shown.plot())
        case "json":
            return shown.to_json().encode()
