"""`fanin init` and `fanin plan`: a model, its plan, and the file."""

from __future__ import annotations

import json
import math
import secrets
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import torch
import typer
from torch import nn

import fanin
from fanin.cli.files import check_target, whole_file
from fanin.cli.models import build_model, parse_arguments
from fanin.cli.safetensors import stored_tensors, write_safetensors
from fanin.cli.screen import bytes_text, print_table, progress
from fanin.errors import ArgumentError, UnknownNameError, one_of
from fanin.initializers import parse
from fanin.model import sites
from fanin.planning import Plan, Recipe, keep, rule
from fanin.planning.describe import observed_std
from fanin.recipes import get_recipe
from fanin.stream import STREAM_VERSION

__all__ = ["init", "plan"]

_DTYPES = ("float64", "float32", "float16", "bfloat16", "float8_e4m3fn", "float8_e5m2")

Model = Annotated[str, typer.Argument(help="zoo:NAME, or package.module:callable.")]
RecipeName = Annotated[str, typer.Option("--recipe", "-r", help="Name, or name@version.")]
Seed = Annotated[
    int | None, typer.Option(help="In [0, 2**64). Without it a fresh one is drawn and recorded.")
]
Overrides = Annotated[
    list[str] | None,
    typer.Option(
        "--set", metavar="NAME=INIT", help="An initializer for a name or glob. Repeatable."
    ),
]
Arguments = Annotated[
    list[str] | None,
    typer.Option("--arg", metavar="KEY=VALUE", help="Argument of the model. Repeatable."),
]
DtypeName = Annotated[str | None, typer.Option("--dtype", help="Cast the model to this first.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print only JSON.")]


def init(
    model: Model,
    recipe: RecipeName,
    out: Annotated[
        Path | None, typer.Option("--out", "-o", help="The safetensors file to write.")
    ] = None,
    seed: Seed = None,
    overrides: Overrides = None,
    arguments: Arguments = None,
    dtype: DtypeName = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Show the plan, write nothing.")
    ] = False,
    as_json: AsJson = False,
    force: Annotated[bool, typer.Option("--force", help="Overwrite an existing file.")] = False,
) -> None:
    """Give a model its first values and write them to a file."""
    if dry_run:
        plan(model, recipe, seed, overrides, arguments, dtype, as_json)
        return
    if out is None:
        raise ArgumentError("init: the values go to a file. Got no --out. Name one, or --dry-run.")
    check_target(out, force=force)
    built, made = _prepare(model, recipe, seed, overrides, arguments, dtype)
    started = time.perf_counter()
    with progress("drawing", total=sum(step.numel for step in made.steps)) as advance:
        made.apply(built, on_step=lambda step: advance(step.numel))
    drawn = time.perf_counter()
    _save(built, made, out, force=force, origin=_origin(model, overrides, arguments))
    saved = time.perf_counter()
    _report(built, made, out, drawing=drawn - started, writing=saved - drawn, as_json=as_json)


def plan(
    model: Model,
    recipe: RecipeName,
    seed: Seed = None,
    overrides: Overrides = None,
    arguments: Arguments = None,
    dtype: DtypeName = None,
    as_json: AsJson = False,
) -> None:
    """Show what `init` would do; write nothing."""
    _, made = _prepare(model, recipe, seed, overrides, arguments, dtype)
    if as_json:
        typer.echo(made.to_json())
        return
    print_table(made.table())
    typer.echo(f"\n{_summary(made)}\nNothing was written.")


def _prepare(
    model: str,
    recipe: str,
    seed: int | None,
    overrides: Sequence[str] | None,
    arguments: Sequence[str] | None,
    dtype: str | None,
) -> tuple[nn.Module, Plan]:
    """The model and its plan: all input is checked here, before anything is drawn."""
    chosen = _overridden(get_recipe(recipe), overrides or ())
    if dtype is not None and dtype not in _DTYPES:
        raise UnknownNameError(
            f"--dtype: one of a closed list. Got {dtype!r}. {one_of(dtype, _DTYPES)}"
        )
    seed = secrets.randbits(64) if seed is None else seed
    if not 0 <= seed < 2**64:
        raise ArgumentError(f"--seed: in [0, 2**64). Got {seed}.")
    torch.manual_seed(seed - 2**64 if seed >= 2**63 else seed)  # for what the plan may keep
    built = build_model(model, parse_arguments(arguments or ()))
    if dtype is not None:
        built = built.to(getattr(torch, dtype))
    return built, fanin.plan(built, chosen, seed=seed)


def _overridden(recipe: Recipe, overrides: Sequence[str]) -> Recipe:
    for text in overrides:
        name, separator, initializer = text.partition("=")
        if not (separator and name and initializer):
            raise ArgumentError(
                f"--set: written NAME=INITIALIZER. Got {text!r}. As in --set '*.bias=zeros()'."
            )
        content = keep() if initializer.strip() == "keep()" else parse(initializer)
        recipe = recipe + rule(name, content)
    return recipe


def _origin(
    model: str, overrides: Sequence[str] | None, arguments: Sequence[str] | None
) -> dict[str, str]:
    given = {"fanin.set": overrides, "fanin.arg": arguments}
    return {"fanin.model": model} | {
        key: json.dumps(texts) for key, texts in given.items() if texts
    }


def _save(model: nn.Module, made: Plan, out: Path, *, force: bool, origin: dict[str, str]) -> None:
    tensors, ties = stored_tensors(model)
    metadata = {
        "format": "pt",
        "fanin.version": fanin.__version__,
        "fanin.stream_version": str(STREAM_VERSION),
        "fanin.recipe": made.recipe,
        "fanin.seed": str(made.seed),
        "fanin.fingerprint": made.fingerprint(),
        **origin,
        **ties,
    }
    total = sum(tensor.numel() * tensor.element_size() for tensor in tensors.values())
    with (
        whole_file(out, force=force) as file,
        progress("writing", total=total) as advance,
    ):
        write_safetensors(file, tensors, metadata, on_bytes=advance)


def _report(
    model: nn.Module, made: Plan, out: Path, *, drawing: float, writing: float, as_json: bool
) -> None:
    size = out.stat().st_size
    if as_json:
        typer.echo(json.dumps(_result(model, made, out, size, drawing, writing)))
        return
    print_table(made.table(model))
    typer.echo(
        f"\n{_summary(made)}\nDrawn in {drawing:.3g} s, written in {writing:.3g} s.\n"
        f"{out}: {bytes_text(size)}"
    )


def _result(
    model: nn.Module, made: Plan, out: Path, size: int, drawing: float, writing: float
) -> dict[str, Any]:
    content: dict[str, Any] = json.loads(made.to_json())
    tensors = {site.name: site.tensor for site in sites(model)}
    for step in content["steps"]:
        observed = observed_std(tensors[step["name"]])
        step["observed_std"] = None if math.isnan(observed) else observed  # JSON has no NaN
    file = {"path": str(out), "bytes": size}
    return {"file": file, "seconds": {"drawing": drawing, "writing": writing}, **content}


def _summary(made: Plan) -> str:
    count = sum(step.numel for step in made.steps)
    return (
        f"{made.recipe}, seed {made.seed}, fingerprint {made.fingerprint()}: "
        f"{count:,} values in {len(made.steps)} parameters."
    )
