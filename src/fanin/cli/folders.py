"""`fanin init --out FOLDER`: a checkpoint in files, drawn as it is written."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import NamedTuple

import typer
from torch import nn

from fanin.checkpoint import Checkpoint, prepare_checkpoint
from fanin.checkpoint.processes import Processes
from fanin.checkpoint.saved_plan import saved_seed
from fanin.checkpoint.write import Format
from fanin.cli import plans
from fanin.cli.plans import Request, build, make_plan
from fanin.cli.screen import print_table
from fanin.cli.transfer import transfer_progress
from fanin.errors import ArgumentError
from fanin.model import sites
from fanin.planning import Plan
from fanin.report import bytes_text

__all__ = ["Share", "summary", "write_folder"]


class Share(NamedTuple):
    """How the tensors are divided: among files, and among processes."""

    max_shard_size: str
    format: Format
    rank: int | None
    world_size: int | None

    def checked_seed(self, seed: int | None, out: Path, *, force: bool) -> int:
        """The seed; without one that of the run to resume, or a fresh one.

        Several processes must be given theirs.
        """
        if seed is None and Processes.of(self.rank, self.world_size).count > 1:
            raise ArgumentError(
                "--seed: processes that share a checkpoint share a seed. Got none with several "
                "processes. Pass the same --seed to each."
            )
        if seed is None and not force:
            seed = saved_seed(out)
        return plans.checked_seed(seed)


def write_folder(
    request: Request,
    out: Path,
    *,
    share: Share,
    force: bool,
    origin: dict[str, str],
    as_json: bool,
) -> None:
    """Write the files that are not there yet, and say what was drawn."""
    deferred, made = make_plan(request)
    writing = prepare_checkpoint(
        _with_kept_values(deferred, made, request),
        out,
        recipe=made,
        format=share.format,
        max_shard_size=share.max_shard_size,
        rank=share.rank,
        world_size=share.world_size,
        force=force,
        metadata=origin,
    )
    started = time.perf_counter()
    with transfer_progress("writing", total=writing.remaining_bytes) as advance:
        written = writing.run(advance)
    seconds = time.perf_counter() - started
    if as_json:
        files = {"path": str(out), "names": written.files, "bytes": written.nbytes}
        result = {"written": written.written, "complete": written.is_complete, "seconds": seconds}
        typer.echo(json.dumps({"checkpoint": {**files, **result}, **json.loads(made.to_json())}))
        return
    print_table(made.table())
    typer.echo(f"\n{summary(made)}\n{_report(written, seconds)}")


def summary(made: Plan) -> str:
    """What was drawn, in a line."""
    count = sum(step.numel for step in made.steps)
    return (
        f"{made.recipe}, seed {made.seed}, fingerprint {made.fingerprint()}: "
        f"{count:,} values in {len(made.steps)} parameters."
    )


def _with_kept_values(model: nn.Module, made: Plan, request: Request) -> nn.Module:
    """The model; built with its values where the plan keeps one that it lacks."""
    without = {site.name for site in sites(model) if site.tensor.is_meta}
    if any(step.name in without and not step.is_complete for step in made.steps):
        return build(request, with_values=True)
    return model


def _report(written: Checkpoint, seconds: float) -> str:
    rate = f" ({bytes_text(int(written.written / seconds))}/s)" if written.written else ""
    count = len(written.files)
    lines = [
        f"Wrote {bytes_text(written.written)} in {seconds:.3g} s{rate}.",
        f"{written.path}: {bytes_text(written.nbytes)} in {count} file{'s' if count > 1 else ''}",
    ]
    if not written.is_complete:
        lines.append("Files of other processes are still to come; the last one writes the index.")
    return "\n".join(lines)
