"""`fanin verify`: a checkpoint, drawn again and compared."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from fanin.checkpoint import Verification, verify_checkpoint
from fanin.checkpoint.verify import checked_sample
from fanin.cli.options import AsJson
from fanin.cli.transfer import transfer_progress
from fanin.errors import ArgumentError, FaninError

__all__ = ["verify"]

_ENDINGS = ("safetensors", "distcp")


def verify(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="What `init --out DIR` wrote.")],
    sample: Annotated[
        float,
        typer.Option(
            help="The share of pieces (of 4 MiB, or one tensor) to compare, chosen at random."
        ),
    ] = 1.0,
    as_json: AsJson = False,
) -> None:
    """Compare a checkpoint with its plan, by drawing it again.

    Exit status: 0 when all is as planned, 1 when something differs, 2 for bad input.
    """
    try:
        if folder.is_file():
            raise ArgumentError(
                f"verify: a folder, whose fanin_plan.json says what was drawn. Got the file "
                f"{str(folder)!r}. Write it again under another name, and compare the two by "
                "fanin diff."
            )
        files = (path for ending in _ENDINGS for path in folder.glob(f"*.{ending}"))
        size = sum(path.stat().st_size for path in files)
        with transfer_progress("verifying", total=int(size * checked_sample(sample))) as advance:
            found = verify_checkpoint(folder, sample=sample, on_bytes=advance)
    except (FaninError, OSError) as error:
        raise ArgumentError(str(error)) from error  # exit status 1 means that they differ
    if as_json:
        typer.echo(json.dumps({"equal": found.is_equal, **asdict(found)}))
    else:
        typer.echo(_text(found))
    if not found.is_equal:
        raise typer.Exit(1)


def _text(found: Verification) -> str:
    if found.difference is not None:
        return f"First difference: {found.difference}."
    share = found.num_compared / found.num_elements if found.num_elements else 1.0
    return (
        f"{found.num_compared:,} of {found.num_elements:,} values ({share:.0%}) in "
        f"{found.num_tensors} tensors are as planned."
    )
