"""`fanin list`: what there is to choose from."""

from __future__ import annotations

import inspect
import json
from collections.abc import Callable
from typing import Annotated

import typer

from fanin import initializers
from fanin.cli.explain import checks_table
from fanin.cli.screen import print_table, table_json
from fanin.errors import UnknownNameError, one_of
from fanin.gains import nonlinearities
from fanin.recipes import known_recipes
from fanin.recipes.registry import RECIPES
from fanin.report import Table
from fanin.zoo import MODELS

__all__ = ["list_choices"]


def list_choices(
    what: Annotated[
        str | None, typer.Argument(help="recipes, initializers, models, nonlinearities or checks.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print only JSON.")] = False,
) -> None:
    """List recipes, initializers, models, nonlinearities and checks."""
    if what is not None and what not in _LISTS:
        raise UnknownNameError(f"list: one of a few. Got {what!r}. {one_of(what, _LISTS)}")
    tables = {name: make() for name, make in _LISTS.items() if what in (name, None)}
    if as_json:
        typer.echo(json.dumps({name: table_json(table) for name, table in tables.items()}))
        return
    for i, table in enumerate(tables.values()):
        if i:
            typer.echo()
        print_table(table)


def _recipes() -> Table:
    rows = tuple(
        (str(recipe), recipe.summary, _parameters(RECIPES[recipe.name]))
        for recipe in known_recipes()
    )
    return Table(("recipe", "what it does", "options"), rows)


def _initializers() -> Table:
    rows = tuple(
        (f"{name}({_parameters(build)})", _first_line(build))
        for name, build in initializers.BUILDERS.items()
    )
    return Table(("initializer", "what it does"), rows)


def _models() -> Table:
    rows = tuple(
        (f"zoo:{name}", _parameters(build), _first_line(build))
        for name, build in sorted(MODELS.items())
    )
    return Table(("model", "--arg", "what it is"), rows)


def _nonlinearities() -> Table:
    rows = tuple(
        (name, ", ".join(f"{key}={value}" for key, value in parameters.items()))
        for name, parameters in sorted(nonlinearities().items())
    )
    return Table(("nonlinearity", "--param"), rows)


def _parameters(build: Callable[..., object]) -> str:
    """The signature without annotations: ``mode='fan_in', nonlinearity='relu'``."""
    return ", ".join(
        parameter.name
        if parameter.default is parameter.empty
        else f"{parameter.name}={parameter.default!r}"
        for parameter in inspect.signature(build).parameters.values()
    )


def _first_line(build: Callable[..., object]) -> str:
    """Of the docstring, without the marks of code."""
    return (inspect.getdoc(build) or "").partition("\n")[0].replace("`", "")


_LISTS = {
    "recipes": _recipes,
    "initializers": _initializers,
    "models": _models,
    "nonlinearities": _nonlinearities,
    "checks": checks_table,
}
