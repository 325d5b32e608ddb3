"""`fanin calibrate`: weights scaled by what a batch does in the model, and the file of them."""

from __future__ import annotations

import json as jsonlib
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, cast

import typer
from torch import nn

import fanin
from fanin.calibration import Calibration
from fanin.checkpoint.saved_plan import origin as plan_origin
from fanin.cli.files import check_target, whole_file
from fanin.cli.inputs import InputOptions, Inputs, make_inputs
from fanin.cli.options import Arguments, AsJson, DtypeName, Model, Overrides, Seed
from fanin.cli.passing import pass_progress
from fanin.cli.plans import Request, build, checked_seed, make_plan, seed_torch, with_memory
from fanin.cli.safetensors import stored_tensors, write_safetensors
from fanin.cli.screen import print_table, progress
from fanin.errors import ArgumentError
from fanin.model.construction import infer_shapes
from fanin.planning import Plan
from fanin.report import bytes_text

__all__ = ["calibrate"]


def calibrate(
    model: Model,
    recipe: Annotated[
        str | None,
        typer.Option(
            "--recipe",
            "-r",
            help="As for init; its weights are then scaled as they are. Without it LSUV draws "
            "orthogonal ones, and the rest is as the constructor makes it.",
        ),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option("--out", "-o", help="The file to write: NAME.safetensors. Else only show."),
    ] = None,
    method: Annotated[str, typer.Option(help="lsuv or weight_norm.")] = "lsuv",
    target: Annotated[float, typer.Option(help="Std of every layer's output.")] = 1.0,
    tolerance: Annotated[float, typer.Option(help="The share of it that may be missed.")] = 0.05,
    max_iterations: Annotated[int, typer.Option(help="Scalings of a layer at most.")] = 10,
    only: Annotated[
        list[str] | None, typer.Option(metavar="LAYER", help="Name or glob. Repeatable.")
    ] = None,
    skip: Annotated[
        list[str] | None, typer.Option(metavar="LAYER", help="Name or glob. Repeatable.")
    ] = None,
    seed: Seed = None,
    overrides: Overrides = None,
    arguments: Arguments = None,
    dtype: DtypeName = None,
    batch: Annotated[int | None, typer.Option(help="Inputs to draw.  [default: 16]")] = None,
    input_shape: Annotated[
        str | None,
        typer.Option(metavar="3,224,224", help="Of one input, drawn from N(0, 1)."),
    ] = None,
    length: Annotated[
        int | None,
        typer.Option(help="Of a text, for hf: models that take token ids.  [default: 32]"),
    ] = None,
    input_file: Annotated[
        Path | None,
        typer.Option(
            "--input", help="A .npy, .pt, .safetensors (the whole batch) or image file instead."
        ),
    ] = None,
    train: Annotated[
        bool,
        typer.Option(
            "--train/--eval", help="Mode of the model.  [default: train]", show_default=False
        ),
    ] = True,
    as_json: AsJson = False,
    force: Annotated[bool, typer.Option("--force", help="Replace what is there.")] = False,
) -> None:
    """Scale a model's weights, layer by layer, until each output has one std on a batch.

    Real inputs (--input) are better than drawn ones.

    Exit status: 0; 1 for a pass that fails, or a layer that stays outside the tolerance; 2 for
    bad input.
    """
    if out is not None:
        _check_out(out, force=force)
    request = Request(model, recipe, checked_seed(seed), overrides or (), arguments or (), dtype)
    start = _Start.of(request, InputOptions(input_file, batch, input_shape, length))
    start.model.train(train)
    seed_torch(request.seed)  # for dropout
    draws = method == "lsuv" and start.plan is None
    with pass_progress(start.model):
        done = fanin.calibrate(
            start.model,
            start.inputs.value,
            cast(Any, method),
            target=target,
            tolerance=tolerance,
            max_iterations=max_iterations,
            orthogonal=draws,
            seed=request.seed if draws else None,
            only=only or None,
            skip=skip or None,
        )
    mode = "training" if train else "evaluation"
    note = f"inputs: {start.inputs.text}, seed {request.seed}; the model is in {mode} mode"
    if out is not None:
        _save(start.model, out, force=force, metadata=_origin(request, start, done))
    if as_json:
        file = None if out is None else {"path": str(out), "bytes": out.stat().st_size}
        typer.echo(jsonlib.dumps({"file": file, "notes": [note], **jsonlib.loads(done.to_json())}))
    else:
        print_table(done.table())
        typer.echo(f"\nnote: {note}")
        if out is not None:
            typer.echo(f"{out}: {bytes_text(out.stat().st_size)}")
    if not done.converged:
        raise typer.Exit(1)


@dataclass(frozen=True, slots=True)
class _Start:
    """The model with its first values, how it got them, and what goes in."""

    model: nn.Module
    plan: Plan | None
    inputs: Inputs

    @classmethod
    def of(cls, request: Request, options: InputOptions) -> _Start:
        def inputs_for(model: nn.Module) -> Inputs:
            inputs = make_inputs(model, request.model, options, seed=request.seed)
            infer_shapes(model, inputs.value)  # of lazy modules
            return inputs

        if request.recipe is None and not request.overrides:
            model = build(request, with_values=True)
            return cls(model, None, inputs_for(model))
        deferred, made = make_plan(request, prepare=inputs_for)
        model = with_memory(deferred, made, request)
        inputs = inputs_for(model)
        made.apply(model)
        return cls(model, made, inputs)


def _check_out(out: Path, *, force: bool) -> None:
    if out.suffix != ".safetensors":
        raise ArgumentError(
            f"--out: a file NAME.safetensors. Got {str(out)!r}. A model is in memory when it is "
            "calibrated, and is written as one file."
        )
    check_target(out, force=force)


def _origin(request: Request, start: _Start, done: Calibration) -> dict[str, str]:
    """Where the values come from, for the file's metadata."""
    found = {} if start.plan is None else plan_origin(start.plan)
    given = {"fanin.set": request.overrides, "fanin.arg": request.arguments}
    texts = {key: jsonlib.dumps(values) for key, values in given.items() if values}
    what = {
        "method": done.method,
        "target": done.target,
        "tolerance": done.tolerance,
        "inputs": start.inputs.text,
        "seed": request.seed,
    }
    return {
        **found,
        "fanin.model": request.model,
        **texts,
        "fanin.calibration": jsonlib.dumps(what, ensure_ascii=False),
    }


def _save(model: nn.Module, out: Path, *, force: bool, metadata: dict[str, str]) -> None:
    tensors, ties = stored_tensors(model)
    total = sum(tensor.numel() * tensor.element_size() for tensor in tensors.values())
    with whole_file(out, force=force) as file, progress("writing", total=total) as advance:
        write_safetensors(file, tensors, {**metadata, **ties}, on_bytes=advance)
