"""`fanin diff`: what differs between two plans, two recipes or two checkpoints."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from fanin.cli.checkpoints import Comparison, compare_checkpoints
from fanin.cli.options import Arguments, AsJson
from fanin.cli.plans import Request, checked_seed, make_plan
from fanin.cli.screen import print_table, table_json
from fanin.errors import ArgumentError, FaninError
from fanin.planning import Plan

__all__ = ["diff"]

_SIDE = "A plan (.json), a checkpoint (.safetensors, or a folder of them), or a recipe."


def diff(
    a: Annotated[str, typer.Argument(metavar="A", help=_SIDE)],
    b: Annotated[str, typer.Argument(metavar="B", help="Another of the kind.")],
    model: Annotated[
        str | None, typer.Option("--model", "-m", help="What recipes are compared on.")
    ] = None,
    seed: Annotated[
        int | None, typer.Option(help="Of recipes: that of a plan beside them, else 0.")
    ] = None,
    arguments: Arguments = None,
    as_json: AsJson = False,
) -> None:
    """Show how two plans or checkpoints differ.

    Plans are what `fanin plan --json` prints, recipes are names or .toml files and need --model,
    checkpoints are compared tensor by tensor.

    Exit status: 0 for no difference, 1 for some, 2 for bad input.
    """
    try:
        is_one, is_other = (_is_checkpoint(side, with_model=model is not None) for side in (a, b))
        if is_one != is_other:
            raise ArgumentError(
                f"diff: two checkpoints, or two of plans and recipes. Got {a!r} and {b!r}. "
                "A checkpoint is a .safetensors file or a folder of them, a plan a .json file."
            )
        if is_one:
            is_equal = _show_checkpoints(compare_checkpoints(Path(a), Path(b)), as_json=as_json)
        else:
            is_equal = _show_plans(*_plans(a, b, model, seed, arguments), as_json=as_json)
    except FaninError as error:
        raise ArgumentError(str(error)) from error  # exit status 1 means that they differ
    if not is_equal:
        raise typer.Exit(1)


def _show_checkpoints(found: Comparison, *, as_json: bool) -> bool:
    if as_json:
        typer.echo(found.to_json())
        return found.is_equal
    if not found.is_equal:
        print_table(found.table())
        typer.echo()
    typer.echo(f"{found.num_equal} of {found.num_tensors} tensors are equal in every bit.")
    return found.is_equal


def _show_plans(a: Plan, b: Plan, *, as_json: bool) -> bool:
    found = a.diff(b)
    if as_json:
        differences = table_json(found.table())
        typer.echo(json.dumps({"equal": found.is_empty, "differences": differences}))
    elif found:
        print_table(found.table())
    else:
        typer.echo(f"{len(a.steps)} parameters start from the same bits.")
    return found.is_empty


def _plans(
    a: str, b: str, model: str | None, seed: int | None, arguments: list[str] | None
) -> tuple[Plan, Plan]:
    read = [_read_plan(Path(side)) if _is_plan(side) else None for side in (a, b)]
    seed = next((plan.seed for plan in read if plan), 0) if seed is None else seed
    plans = []
    for side, plan in zip((a, b), read, strict=True):
        if plan is None and model is None:
            raise ArgumentError(
                f"diff: recipes are compared on a model. Got {side!r} without --model. "
                "As in --model zoo:lenet; a plan is a .json file, a checkpoint a .safetensors file."
            )
        request = Request(model or "", side, checked_seed(seed), arguments=arguments or ())
        plans.append(plan or make_plan(request)[1])
    return plans[0], plans[1]


def _read_plan(path: Path) -> Plan:
    try:
        return Plan.from_json(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or error
        raise ArgumentError(f"diff: cannot read {str(path)!r}: {reason}.") from error
    except FaninError as error:
        raise ArgumentError(f"diff: {str(path)!r} is no plan. {error}") from error


def _is_plan(side: str) -> bool:
    return Path(side).suffix == ".json"


def _is_checkpoint(side: str, *, with_model: bool) -> bool:
    """By its suffix; a file without one of the others is one too.

    So is a folder, unless there is a model to compare recipes on: one may have a recipe's name.
    """
    path = Path(side)
    if path.is_dir():
        return not with_model and any(path.glob("*.safetensors"))
    return path.name.endswith((".safetensors", ".safetensors.index.json")) or (
        path.suffix not in (".json", ".toml") and path.is_file()
    )
