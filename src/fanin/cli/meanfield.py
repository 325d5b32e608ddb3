"""`fanin meanfield`: what a nonlinearity does to signals in deep random networks."""

from __future__ import annotations

import json
import math
from dataclasses import asdict
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated, Any

import typer

from fanin.cli.files import check_target, whole_file
from fanin.cli.gain import parse_param
from fanin.cli.options import AsJson
from fanin.cli.screen import print_table
from fanin.errors import ArgumentError
from fanin.flow.meanfield import (
    Critical,
    MeanField,
    PhaseDiagram,
    critical,
    mean_field,
    phase_diagram,
)
from fanin.report import bytes_text
from fanin.report.figure import png_bytes

__all__ = ["meanfield"]

_ROOM = 1.5  # how far beyond the shown point the picture's axes go


def meanfield(
    nonlinearity: Annotated[str, typer.Argument(help="A name of torch.nn.functional or torch.nn.")],
    sigma_w: Annotated[
        float | None,
        typer.Option(help="Std of a weight times √fan_in.  [default: the critical one]"),
    ] = None,
    sigma_b: Annotated[float, typer.Option(help="Std of a bias.")] = 0.0,
    start: Annotated[
        float | None,
        typer.Option(help="Mean square of the first layer's outputs.  [default: 1]"),
    ] = None,
    param: Annotated[
        str | None, typer.Option(help="Of the nonlinearity, or two with a comma: -1,1.")
    ] = None,
    plot: Annotated[
        Path | None, typer.Option(metavar="FILE.png", help="Draw the phase diagram.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Show where signals settle in wide random networks, and how deep they reach.

    Without --sigma-w it is shown for the edge of chaos, where gradients keep their size.
    """
    if plot is not None:
        _check_plot(plot)
    parameter = parse_param(param)
    edge, missing = _critical(nonlinearity, sigma_b, parameter, must_be=sigma_w is None)
    if sigma_w is None:
        assert edge is not None
        sigma_w = edge.sigma_w
        start = edge.q if start is None and edge.q > 0 else start
    start = 1.0 if start is None else start
    field = mean_field(nonlinearity, sigma_w=sigma_w, sigma_b=sigma_b, start=start, param=parameter)
    written = ""
    if plot is not None:
        diagram = phase_diagram(
            nonlinearity,
            sigma_w=(0.0, max(3.0, _ROOM * sigma_w)),
            sigma_b=(0.0, max(1.0, _ROOM * sigma_b)),
            start=start,
            param=parameter,
        )
        written = _write(diagram, field, plot)
    if as_json:
        typer.echo(json.dumps(_content(field, edge), allow_nan=False))
        return
    print_table(field.table())
    typer.echo(f"\n{_edge_text(edge, sigma_b) if edge is not None else missing}")
    if edge is not None and field.sigma_w == edge.sigma_w and field.phase != "critical":
        typer.echo(f"Lengths leave it: those that start from {start:g} end at {field.q:.4g}.")
    if written:
        typer.echo(written)


def _critical(
    nonlinearity: str, sigma_b: float, param: Any, *, must_be: bool
) -> tuple[Critical | None, str]:
    """The point of the edge with this sigma_b, or why there is none."""
    try:
        return critical(nonlinearity, sigma_b=sigma_b, param=param), ""
    except ArgumentError as error:
        if must_be or not str(error).startswith("critical: "):
            raise
        return None, f"No σ_w is critical here: {str(error).removeprefix('critical: ')}"


def _edge_text(edge: Critical, sigma_b: float) -> str:
    at = "every length" if math.isnan(edge.q) else f"q* {edge.q:.4g}"
    return f"The edge of chaos for σ_b {sigma_b:g}: σ_w {edge.sigma_w:.6g}, {at}."


def _content(field: MeanField, edge: Critical | None) -> dict[str, Any]:
    """All numbers by name; those that JSON lacks (infinity, NaN) as text, as in other reports."""
    numbers = asdict(field)
    del numbers["series"]
    depths = {"xi_q": field.xi_q, "xi_c": field.xi_c, "xi_gradient": field.xi_gradient}
    found = {**numbers, "phase": field.phase, **depths}
    found["critical"] = None if edge is None else _plain(edge._asdict())
    return _plain(found)


def _plain(values: dict[str, Any]) -> dict[str, Any]:
    return {
        name: str(value) if isinstance(value, float) and not math.isfinite(value) else value
        for name, value in values.items()
    }


def _check_plot(path: Path) -> None:
    """Refuse early what cannot be written."""
    if path.suffix.lower() != ".png":
        raise ArgumentError(f"--plot: a .png file. Got {str(path)!r}. Name it with that ending.")
    if find_spec("matplotlib") is None:
        raise ArgumentError(
            f"--plot: needs the package matplotlib. Got none for {str(path)!r}. "
            "Install it: pip install 'fanin[report]'."
        )
    check_target(path, force=True, option="--plot")


def _write(diagram: PhaseDiagram, field: MeanField, path: Path) -> str:
    content = png_bytes(diagram.plot(field))
    with whole_file(path, force=True, option="--plot") as file:
        file.write(content)
    return f"{path}: {bytes_text(len(content))}"
