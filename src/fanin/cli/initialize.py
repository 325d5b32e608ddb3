"""`fanin init` and `fanin plan`: a model, its plan, and the file."""

from __future__ import annotations

import json
import math
import time
from pathlib import Path
from typing import Annotated, Any

import typer
from torch import nn

from fanin.checkpoint.saved_plan import origin as plan_origin
from fanin.checkpoint.write import Format
from fanin.cli.files import check_target, whole_file
from fanin.cli.folders import Share, summary, write_folder
from fanin.cli.inputs import InputOptions
from fanin.cli.loading import PICKLED
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
    RecipeName,
    Seed,
)
from fanin.cli.plans import Request, checked_seed, make_plan, make_plan_and_trace, with_memory
from fanin.cli.safetensors import stored_tensors, write_safetensors
from fanin.cli.screen import print_table, progress
from fanin.errors import ArgumentError
from fanin.flow import Trace
from fanin.model import sites
from fanin.planning import Plan
from fanin.planning.describe import observed_std
from fanin.planning.following import Following
from fanin.planning.predicting import output_stds
from fanin.report import bytes_text

__all__ = ["init", "plan"]


def init(
    model: Model,
    recipe: RecipeName,
    out: Annotated[
        Path | None,
        typer.Option("--out", "-o", help="The folder to write, or one file: NAME.safetensors."),
    ] = None,
    seed: Seed = None,
    overrides: Overrides = None,
    arguments: Arguments = None,
    dtype: DtypeName = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Show the plan, write nothing.")
    ] = False,
    as_json: AsJson = False,
    force: Annotated[bool, typer.Option("--force", help="Replace what is there.")] = False,
    format: Annotated[
        Format | None,
        typer.Option(help="A folder of safetensors (the default), or of torch's dcp."),
    ] = None,
    max_shard_size: Annotated[
        str | None, typer.Option(help="Bytes in each file of a folder, such as 5GB.")
    ] = None,
    rank: Annotated[
        int | None, typer.Option(help="Which of --world-size processes this is; else torchrun's.")
    ] = None,
    world_size: Annotated[
        int | None, typer.Option(help="How many processes share the files of a folder.")
    ] = None,
    batch: Batch = None,
    input_shape: InputShape = None,
    length: Length = None,
    input_file: InputFile = None,
) -> None:
    """Give a model its first values and write them: a folder of shards, or one file.

    A folder is written without the model in memory, and a run that was killed is resumed by the
    same command (not with --format dcp). Inputs are for recipes that depend on how the model
    computes; only their shapes matter.
    """
    inputs = InputOptions(input_file, batch, input_shape, length)
    asked = Request(model, recipe, 0, overrides or (), arguments or (), dtype, inputs=inputs)
    if dry_run:
        _show(asked._replace(seed=checked_seed(seed)), with_trace=False, as_json=as_json)
        return
    if out is None:
        raise ArgumentError(
            "init: the values go to a folder or a file. Got no --out. Name one, or --dry-run."
        )
    if out.suffix.lower() in PICKLED and not out.is_dir():
        raise ArgumentError(
            f"--out: a folder, or one file NAME.safetensors. Got {str(out)!r}, which ends as files "
            f"of torch.save do. Name it {str(out.with_suffix('.safetensors'))!r}, or a folder."
        )
    if out.suffix != ".safetensors":
        share = Share(max_shard_size or "5GB", format or "safetensors", rank, world_size)
        request = asked._replace(seed=share.checked_seed(seed, out, force=force))
        write_folder(
            request, out, share=share, force=force, origin=_origin(request), as_json=as_json
        )
        return
    if (format, max_shard_size, rank, world_size) != (None, None, None, None):
        raise ArgumentError(
            "init: --format, --max-shard-size, --rank and --world-size are for a folder. Got "
            f"--out {str(out)!r}, which is one file. Leave out its ending."
        )
    _write_file(asked._replace(seed=checked_seed(seed)), out, force=force, as_json=as_json)


def plan(
    model: Model,
    recipe: RecipeName,
    seed: Seed = None,
    overrides: Overrides = None,
    arguments: Arguments = None,
    dtype: DtypeName = None,
    as_json: AsJson = False,
    trace: Annotated[
        bool, typer.Option("--trace", help="Show what follows each parameter, and predicted stds.")
    ] = False,
    batch: Batch = None,
    input_shape: InputShape = None,
    length: Length = None,
    input_file: InputFile = None,
) -> None:
    """Show what `init` would do; write nothing.

    Inputs are for --trace, and for recipes that depend on how the model computes; only their
    shapes matter.
    """
    inputs = InputOptions(input_file, batch, input_shape, length)
    request = Request(
        model, recipe, checked_seed(seed), overrides or (), arguments or (), dtype, inputs=inputs
    )
    _show(request, with_trace=trace, as_json=as_json)


def _show(request: Request, *, with_trace: bool, as_json: bool) -> None:
    made, trace = make_plan_and_trace(request) if with_trace else (make_plan(request)[1], None)
    if as_json:
        typer.echo(made.to_json() if trace is None else _with_followers(made, trace))
        return
    print_table(made.table(trace=trace))
    typer.echo(f"\n{summary(made)}\nNothing was written.")


def _with_followers(made: Plan, trace: Trace) -> str:
    content: dict[str, Any] = json.loads(made.to_json())
    following, predicted = Following(trace, made.prefix), output_stds(made, trace)
    for step, data in zip(made.steps, content["steps"], strict=True):
        data["followed_by"] = following(step.names)
        data["output_std"] = predicted.get(step.name)
    return json.dumps(content)


def _origin(request: Request) -> dict[str, str]:
    given = {"fanin.set": request.overrides, "fanin.arg": request.arguments}
    return {"fanin.model": request.model} | {
        key: json.dumps(texts) for key, texts in given.items() if texts
    }


def _save(model: nn.Module, made: Plan, out: Path, *, force: bool, origin: dict[str, str]) -> None:
    tensors, ties = stored_tensors(model)
    metadata = {**plan_origin(made), **origin, **ties}
    total = sum(tensor.numel() * tensor.element_size() for tensor in tensors.values())
    with (
        whole_file(out, force=force) as file,
        progress("writing", total=total) as advance,
    ):
        write_safetensors(file, tensors, metadata, on_bytes=advance)


def _write_file(request: Request, out: Path, *, force: bool, as_json: bool) -> None:
    """The values as one file, drawn in memory."""
    check_target(out, force=force)
    deferred, made = make_plan(request)
    built = with_memory(deferred, made, request)
    started = time.perf_counter()
    with progress("drawing", total=sum(step.numel for step in made.steps)) as advance:
        made.apply(built, on_step=lambda step: advance(step.numel))
    drawn = time.perf_counter()
    _save(built, made, out, force=force, origin=_origin(request))
    saved = time.perf_counter()
    _report(built, made, out, drawing=drawn - started, writing=saved - drawn, as_json=as_json)


def _report(
    model: nn.Module, made: Plan, out: Path, *, drawing: float, writing: float, as_json: bool
) -> None:
    size = out.stat().st_size
    if as_json:
        typer.echo(json.dumps(_result(model, made, out, size, drawing, writing)))
        return
    print_table(made.table(model))
    typer.echo(
        f"\n{summary(made)}\nDrawn in {drawing:.3g} s, written in {writing:.3g} s.\n"
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
