"""Arguments and options that several commands take."""

from __future__ import annotations

from typing import Annotated

import typer

__all__ = ["Arguments", "AsJson", "DtypeName", "Model", "Overrides", "RecipeName", "Seed"]

_MODEL = "zoo:NAME, hf:TYPE, hf:CONFIG.json, or package.module:callable."
_ARGUMENT = "Argument of the model, or field of an hf: configuration. Repeatable."

Model = Annotated[str, typer.Argument(help=_MODEL)]
RecipeName = Annotated[
    str, typer.Option("--recipe", "-r", help="NAME, NAME@VERSION, NAME(option=value), or a .toml.")
]
Seed = Annotated[
    int | None, typer.Option(help="In [0, 2**64). Without it a fresh one is drawn and recorded.")
]
Overrides = Annotated[
    list[str] | None,
    typer.Option(
        "--set", metavar="NAME=INIT", help="An initializer for a name or glob. Repeatable."
    ),
]
Arguments = Annotated[list[str] | None, typer.Option("--arg", metavar="KEY=VALUE", help=_ARGUMENT)]
DtypeName = Annotated[str | None, typer.Option("--dtype", help="Cast the model to this first.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print only JSON.")]
