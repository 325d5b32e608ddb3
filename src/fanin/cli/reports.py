"""Reports of probes on the screen and in files."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from importlib.util import find_spec
from pathlib import Path

import typer

from fanin.cli.files import check_target, whole_file
from fanin.cli.screen import print_table
from fanin.errors import ArgumentError
from fanin.probing.comparison import Comparison
from fanin.probing.showing.files import FileKind, file_content
from fanin.probing.showing.tables import curves_text
from fanin.probing.signal_report import SignalReport
from fanin.report import Table, bytes_text

__all__ = ["STDOUT", "ReportFiles", "print_json", "print_reports"]

STDOUT = Path("-")


def print_reports(reports: Sequence[SignalReport], *, every: bool) -> None:
    """One report as a whole; of several what each is, and their layers side by side."""
    first = reports[0]
    if len(reports) == 1:
        typer.echo(", ".join(filter(None, [first.title, first.recipe, f"seed {first.seed}"])))
        _print_verdict(first)
        curves = curves_text(first.rows)
        typer.echo(f"\n{curves}\n" if curves else "")
        _print_table(first.table(every=every))
        if every:
            typer.echo()
            print_table(first.weights_table())
    else:
        typer.echo(f"{first.title}, seed {first.seed}\n")
        compared = SignalReport.compare(*reports)
        print_table(compared.verdicts_table())
        typer.echo()
        _print_table(compared.table(every=every))
    typer.echo()
    for note in dict.fromkeys(note for report in reports for note in report.notes):
        typer.echo(f"note: {note}")


def print_json(reports: Sequence[SignalReport]) -> None:
    """What the file would hold."""
    typer.echo(_shown(reports).to_json())


@dataclass(frozen=True, slots=True)
class ReportFiles:
    """The files to write: a page, a picture and JSON, each for all reports together."""

    html: Path | None
    png: Path | None
    json: Path | None

    def check(self) -> None:
        """Refuse early what cannot be written."""
        for option, path in self._paths():
            package = _NEEDS.get(option)
            if package is not None and find_spec(package) is None:
                raise ArgumentError(
                    f"{option}: needs the package {package}. Got none for {str(path)!r}. "
                    "Install it: pip install 'fanin[report]'."
                )
            check_target(path, force=True, option=option)

    def write(self, reports: Sequence[SignalReport]) -> list[str]:
        """Write all that were named; a line for each says how large it is."""
        shown = _shown(reports)
        contents = {o: file_content(shown, _CONTENTS[o]) for o, _ in self._paths()}
        for option, path in self._paths():
            with whole_file(path, force=True, option=option) as file:
                file.write(contents[option])
        return [f"{path}: {bytes_text(len(contents[option]))}" for option, path in self._paths()]

    def _paths(self) -> Iterator[tuple[str, Path]]:
        for option, path in (("--html", self.html), ("--png", self.png), ("--json", self.json)):
            if path is not None and path != STDOUT:
                yield option, path


_CONTENTS: dict[str, FileKind] = {"--html": "html", "--png": "png", "--json": "json"}
_NEEDS = {"--html": "jinja2", "--png": "matplotlib"}


def _shown(reports: Sequence[SignalReport]) -> SignalReport | Comparison:
    return reports[0] if len(reports) == 1 else SignalReport.compare(*reports)


def _print_verdict(report: SignalReport) -> None:
    headline, *lines = report.verdict.lines
    colour = typer.colors.GREEN if report.verdict.is_healthy else typer.colors.RED
    typer.secho(f"\n{headline}", fg=colour, bold=True)
    for line in filter(None, [*lines, report.verdict.suggestion]):
        typer.echo(line)


def _print_table(table: Table) -> None:
    """Where rows were left out, with what to type to see them."""

    def typed(text: str) -> str:
        return text.replace("table(every=True)", "--every")

    rows = tuple(tuple(map(typed, row)) for row in table.rows)
    print_table(replace(table, rows=rows, caption=typed(table.caption)))
