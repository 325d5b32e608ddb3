"""`fanin inspect`: what a model holds, as a tree."""

from __future__ import annotations

from typing import Annotated

import typer

import fanin
from fanin.cli.models import build_model, parse_arguments
from fanin.cli.options import Arguments, AsJson, Model
from fanin.cli.screen import print_table

__all__ = ["inspect"]


def inspect(
    model: Model,
    names: Annotated[
        list[str] | None,
        typer.Argument(metavar="GLOB", help="Show only modules and tensors of these names."),
    ] = None,
    arguments: Arguments = None,
    show_all: Annotated[
        bool, typer.Option("--all", help="Show every one of several like siblings.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Show what a model holds, as a tree.

    Modules, parameters, buffers, ties and hooks; the model is built without values.
    """
    built = build_model(model, parse_arguments(arguments or ()))
    found = fanin.inspect(built, names or None, collapse=not show_all)
    if as_json:
        typer.echo(found.to_json())
        return
    print_table(found.table(devices=False))
