"""`fanin calibrate`: weights scaled by what a batch does in the model, and the file of them."""

from __future__ import annotations

import json as jsonlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer
from torch import nn

import fanin
from fanin.calibration import Calibration, GradInit, LearnedScales, MetaInit
from fanin.checkpoint.saved_plan import origin as plan_origin
from fanin.cli.files import check_target, whole_file
from fanin.cli.inputs import InputOptions, Inputs
from fanin.cli.labels import with_needed_labels
from fanin.cli.options import (
    Arguments,
    AsJson,
    Batch,
    DtypeName,
    InputFile,
    InputShape,
    Length,
    Model,
    Overrides,
    Seed,
    TrainMode,
)
from fanin.cli.passing import mode_note, pass_progress
from fanin.cli.plans import Request, checked_seed, seed_torch
from fanin.cli.safetensors import stored_tensors, write_safetensors
from fanin.cli.screen import print_table, progress
from fanin.cli.starts import start
from fanin.errors import ArgumentError
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
    method: Annotated[
        str, typer.Option(help="lsuv or weight_norm, layer by layer; metainit or gradinit.")
    ] = "lsuv",
    target: Annotated[float, typer.Option(help="Std of every layer's output.")] = 1.0,
    tolerance: Annotated[float, typer.Option(help="The share of it that may be missed.")] = 0.05,
    max_iterations: Annotated[int, typer.Option(help="Scalings of a layer at most.")] = 10,
    steps: Annotated[
        int | None,
        typer.Option(help="Of metainit, gradinit.  [default: 100, 200]", show_default=False),
    ] = None,
    optimizer: Annotated[
        str | None,
        typer.Option(
            help="Whose first step gradinit looks at: sgd or adam.  [default: sgd]",
            show_default=False,
        ),
    ] = None,
    only: Annotated[
        list[str] | None, typer.Option(metavar="NAME", help="Layer or glob. Repeatable.")
    ] = None,
    skip: Annotated[
        list[str] | None, typer.Option(metavar="NAME", help="Layer or glob. Repeatable.")
    ] = None,
    seed: Seed = None,
    overrides: Overrides = None,
    arguments: Arguments = None,
    dtype: DtypeName = None,
    batch: Batch = None,
    input_shape: InputShape = None,
    length: Length = None,
    input_file: InputFile = None,
    train: TrainMode = True,
    as_json: AsJson = False,
    force: Annotated[bool, typer.Option("--force", help="Replace what is there.")] = False,
) -> None:
    """Scale a model's weights by what a batch does in it.

    lsuv and weight_norm scale layer by layer until each output has one std. metainit and gradinit
    learn a scale for each weight, by derivatives; gradinit needs a model that returns a loss.

    Real inputs (--input) are better than drawn ones.

    Exit status: 0; 1 for a pass that fails, a layer that stays outside the tolerance, or a gradient
    above gradinit's bound; 2 for bad input.
    """
    settings = _settings(method, steps, optimizer)
    if out is not None:
        _check_out(out, force=force)
    typed = InputOptions(input_file, batch, input_shape, length)
    given = (overrides or (), arguments or (), dtype)
    request = Request(model, recipe, checked_seed(seed), *given, inputs=typed)
    begun = start(request)
    built, inputs = begun.model.train(train), begun.inputs
    seed_torch(request.seed)  # for dropout
    if method == "gradinit":
        inputs = with_needed_labels(built, inputs, asked="--method gradinit", seed=request.seed)
    draws = method == "lsuv" and begun.plan is None
    with _progress(built, settings):
        done: Calibration | LearnedScales = fanin.calibrate(
            built,
            inputs.value,
            settings,
            target=target,
            tolerance=tolerance,
            max_iterations=max_iterations,
            orthogonal=draws if method in {"lsuv", "weight_norm"} else None,
            seed=request.seed if draws else None,
            only=only or None,
            skip=skip or None,
        )
    if out is not None:
        _save(built, out, force=force, metadata=_origin(request, begun.plan, inputs, done))
    note = mode_note(f"{inputs.text}, seed {request.seed}", train=train)
    _show(done, note, out, as_json=as_json)
    if not done.converged:
        raise typer.Exit(1)


def _show(done: Calibration | LearnedScales, note: str, out: Path | None, *, as_json: bool) -> None:
    if as_json:
        file = None if out is None else {"path": str(out), "bytes": out.stat().st_size}
        typer.echo(jsonlib.dumps({"file": file, "notes": [note], **jsonlib.loads(done.to_json())}))
        return
    print_table(done.table())
    typer.echo(f"\nnote: {note}")
    if out is not None:
        typer.echo(f"{out}: {bytes_text(out.stat().st_size)}")


def _check_out(out: Path, *, force: bool) -> None:
    if out.suffix != ".safetensors":
        raise ArgumentError(
            f"--out: a file NAME.safetensors. Got {str(out)!r}. A model is in memory when it is "
            "calibrated, and is written as one file."
        )
    check_target(out, force=force)


def _settings(method: str, steps: int | None, optimizer: str | None) -> Any:
    """The method by its name, or with the settings that were given."""
    if optimizer is not None and method != "gradinit":
        raise ArgumentError(
            f"--optimizer: for --method gradinit. Got {optimizer!r} for {method!r}. Leave it out."
        )
    if steps is not None and method not in {"metainit", "gradinit"}:
        raise ArgumentError(
            f"--steps: for --method metainit and gradinit. Got {steps} for {method!r}. Say "
            "--max-iterations."
        )
    given: dict[str, Any] = {"steps": steps, "optimizer": optimizer}
    given = {name: value for name, value in given.items() if value is not None}
    if method == "metainit":
        return MetaInit(**given)
    return GradInit(**given) if method == "gradinit" else method


@contextmanager
def _progress(model: nn.Module, method: str | MetaInit | GradInit) -> Iterator[None]:
    """A bar: of the layers of a pass, or of all passes from which scales are learned."""
    if isinstance(method, str):
        with pass_progress(model):
            yield
        return
    passes = (method.steps + 1) * (2 if isinstance(method, GradInit) else 1)
    with progress("learning", total=passes) as advance:
        hook = model.register_forward_hook(lambda *_: advance(1))
        try:
            yield
        finally:
            hook.remove()


def _origin(
    request: Request, plan: Plan | None, inputs: Inputs, done: Calibration | LearnedScales
) -> dict[str, str]:
    """Where the values come from, for the file's metadata."""
    found = {} if plan is None else plan_origin(plan)
    given = {"fanin.set": request.overrides, "fanin.arg": request.arguments}
    texts = {key: jsonlib.dumps(values) for key, values in given.items() if values}
    what: dict[str, object] = {"method": done.method, "inputs": inputs.text, "seed": request.seed}
    if isinstance(done, LearnedScales):
        what |= {"steps": done.iterations, "objective": done.objective, "loss": done.loss}
    else:
        what |= {"target": done.target, "tolerance": done.tolerance}
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
