"""`fanin gain`: the gain of a nonlinearity, by every method that knows it."""

from __future__ import annotations

import json
from typing import Annotated, Any, cast

import typer

import fanin
from fanin.cli.screen import print_table
from fanin.errors import ArgumentError
from fanin.gains import EmpiricalGain
from fanin.report import Column, Table

__all__ = ["gain", "parse_param"]

_MEANINGS = {
    "second_moment": "keeps the size of activations: 1/√E f(z)²",
    "variance": "keeps their variance: 1/std f(z)",
    "backward": "keeps the size of gradients: 1/√E f'(z)²",
}


def gain(
    nonlinearity: Annotated[str, typer.Argument(help="A name of torch.nn.functional or torch.nn.")],
    param: Annotated[
        str | None, typer.Option(help="Its parameter, or two with a comma: -1,1.")
    ] = None,
    of: Annotated[str | None, typer.Option(help=f"Only one of {', '.join(_MEANINGS)}.")] = None,
    method: Annotated[
        str, typer.Option(help="quadrature, empirical (with its error), or torch's table.")
    ] = "quadrature",
    as_json: Annotated[bool, typer.Option("--json", help="Print only JSON.")] = False,
) -> None:
    """Show the gain of a nonlinearity.

    A layer's std is multiplied by it, to make up for what the nonlinearity does to signals.
    """
    asked = (of,) if of else ("second_moment",) if method == "table" else tuple(_MEANINGS)
    parameter = parse_param(param)
    found: dict[str, Any] = {}
    for name in asked:
        found[name] = fanin.gain(
            nonlinearity, parameter, of=cast(Any, name), method=cast(Any, method)
        )
    if as_json:
        gains = {name: float(value) for name, value in found.items()}
        errors = {n: v.standard_error for n, v in found.items() if hasattr(v, "standard_error")}
        content = {
            "nonlinearity": nonlinearity,
            "param": parameter,
            "method": method,
            "gain": gains,
        }
        typer.echo(json.dumps(content | ({"standard_error": errors} if errors else {})))
        return
    rows = tuple((name, _text(value), _MEANINGS[name]) for name, value in found.items())
    print_table(Table(("of", Column("gain", "right"), Column("what it does", optional=True)), rows))


def parse_param(text: str | None) -> float | tuple[float, float] | None:
    """The parameter of a nonlinearity as typed: a number, or two with a comma."""
    if text is None:
        return None
    try:
        numbers = tuple(float(number) for number in text.split(","))
    except ValueError:
        numbers = ()
    if len(numbers) == 1:
        return numbers[0]
    if len(numbers) == 2:
        return (numbers[0], numbers[1])
    raise ArgumentError(f"--param: a number, or two with a comma. Got {text!r}. As in --param 0.2.")


def _text(value: float | EmpiricalGain) -> str:
    return f"{value:.6f}" if isinstance(value, float | int) else str(value)
