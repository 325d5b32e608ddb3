"""Arguments and options that several commands take."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

__all__ = [
    "Arguments",
    "AsJson",
    "Batch",
    "DtypeName",
    "InputFile",
    "InputShape",
    "Length",
    "Model",
    "Overrides",
    "RecipeName",
    "Seed",
    "SeedOfAll",
    "StartRecipe",
    "TrainMode",
]

_MODEL = "zoo:NAME, hf:TYPE, hf:CONFIG.json, or package.module:callable."
_ARGUMENT = "Argument of the model, or field of an hf: configuration. Repeatable."

Model = Annotated[str, typer.Argument(help=_MODEL)]
RecipeName = Annotated[
    str, typer.Option("--recipe", "-r", help="NAME, NAME@VERSION, NAME(option=value), or a .toml.")
]
Seed = Annotated[
    int | None, typer.Option(help="In [0, 2**64). Without it a fresh one is drawn and recorded.")
]
SeedOfAll = Annotated[
    int | None,
    typer.Option(help="Of weights and inputs, in [0, 2**64). Without it a fresh one is drawn."),
]
StartRecipe = Annotated[
    str | None,
    typer.Option(
        "--recipe",
        "-r",
        help="As for init. Without it and --init: as the constructor makes it.",
    ),
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
Batch = Annotated[int | None, typer.Option(help="Inputs to draw.  [default: 16]")]
InputShape = Annotated[
    str | None, typer.Option(metavar="3,224,224", help="Of one input, drawn from N(0, 1).")
]
Length = Annotated[
    int | None,
    typer.Option(help="Of a text, for hf: models that take token ids.  [default: 32]"),
]
InputFile = Annotated[
    Path | None,
    typer.Option(
        "--input", help="A .npy, .pt, .safetensors (the whole batch) or image file instead."
    ),
]
TrainMode = Annotated[
    bool,
    typer.Option("--train/--eval", help="Mode of the model.  [default: train]", show_default=False),
]
