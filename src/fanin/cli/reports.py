"""Reports on the screen and in files."""

from __future__ import annotations

import io
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

import typer

from fanin.cli.files import check_target, whole_file
from fanin.errors import ArgumentError
from fanin.probing.html import report_page
from fanin.probing.signal_report import SignalReport

__all__ = ["STDOUT", "ReportFiles", "print_reports"]

STDOUT = Path("-")


@dataclass(frozen=True, slots=True)
class ReportFiles:
    """The files to write: one page, one picture, one JSON text for all reports together."""

    html: Path | None
    png: Path | None
    json: Path | None

    def check(self) -> None:
        """Refuse early what cannot be written."""
        for option, path, package in (("--html", self.html, "jinja2"), ("--png", self.png, "matplotlib")):
            if path is not None and find_spec(package) is None:
                raise ArgumentError(
                    f"{option}: needs the package {package}. Got none for {str(path)!r}. "
                    "Install it: pip install 'fanin[report]'."
                )
        for option, path in self._paths():
            check_target(path, force=True, option=option)

    def write(self, reports: Sequence[SignalReport]) -> None:
        """Write all; JSON without a file goes to stdout."""
        contents = {
            "--html": lambda: report_page(reports[0], others=reports[1:]).encode(),
            "--png": lambda: _picture(reports),
            "--json": lambda: _json(reports).encode(),
        }
        for option, path in self._paths():
            content = contents[option]()
            with whole_file(path, force=True, option=option) as file:
                file.write(content)
        if self.json == STDOUT:
            typer.echo(_json(reports))

    def say(self) -> None:
        """Name the files that were written."""
        ...

    def _paths(self) -> Iterator[tuple[str, Path]]:
        for option, path in (("--html", self.html), ("--png", self.png), ("--json", self.json)):
            if path is not None and path != STDOUT:
                yield option, path
