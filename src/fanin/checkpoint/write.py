"""`write_checkpoint`: from a plan to safetensors files, without the model's memory."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Literal, get_args

import torch
from torch import nn

from fanin.checkpoint.contents import contents, contents_of_plan
from fanin.checkpoint.dcp import DcpWriting, ready_to_write_dcp, under_each_name
from fanin.checkpoint.drawing import try_drawing
from fanin.checkpoint.hugging_face import config_texts, tied_names
from fanin.checkpoint.processes import Processes
from fanin.checkpoint.saved_plan import (
    PLAN,
    contents_digest,
    origin,
    plan_text,
    saved_seed,
    value_digests,
)
from fanin.checkpoint.shards import INDEX, grouped, index_text, shards, size_in_bytes
from fanin.checkpoint.writing import Checkpoint, Writing, ready_to_write
from fanin.errors import ArgumentError, PlanError
from fanin.initialization import RecipeLike
from fanin.initialization import plan as make_plan
from fanin.planning import Plan

__all__ = ["Format", "prepare_checkpoint", "write_checkpoint"]

Format = Literal["safetensors", "dcp"]
_DEFAULT_SIZE = "5GB"


def write_checkpoint(
    model_or_plan: nn.Module | Plan,
    path: str | os.PathLike[str],
    *,
    recipe: RecipeLike | Plan | None = None,
    seed: int | None = None,
    dtype: torch.dtype | None = None,
    format: Format = "safetensors",
    max_shard_size: int | str = _DEFAULT_SIZE,
    rank: int | None = None,
    world_size: int | None = None,
    force: bool = False,
    on_bytes: Callable[[int], None] | None = None,
) -> Checkpoint:
    """Write what `initialize` would give a model to a folder, without holding the model.

    Tensors are drawn a piece at a time, straight into safetensors files with Hugging Face's names
    and index; ``config.json`` is written where the model has one, the plan as
    ``fanin_plan.json``. The bits are those of `initialize` with the same recipe, seed and dtype.

    A file appears whole or not at all. A run that was killed is resumed by the same call: finished
    files stay, the rest is written, and the bytes are those of a run without an interruption. The
    index, or the only file, is the last to appear.

    Args:
        model_or_plan: a module, best built under `deferred` or on the meta device, which is not
            written; or a plan, for a model without persistent buffers.
        path: a folder; it is made where the one above it exists.
        recipe: for a module: as for `plan`, or the plan that was made for it.
        seed: as for `plan`; without it that of the run that is resumed, unless ``force``.
        dtype: of the floating-point parameters and buffers; without it each keeps its own.
        format: ``"safetensors"``, or ``"dcp"`` for what `torch.distributed.checkpoint.load` reads:
            a file for each tensor, which is drawn whole, all written by one process. It can be
            loaded once all of it is there. Such a run is not resumed: after an error, or killed,
            the same call begins anew.
        max_shard_size: bytes in a file, as a number or as ``"5GB"``; one tensor that is larger has
            a file of its own.
        rank: which of ``world_size`` processes this is; each writes its share of the files. Without
            it the variables RANK and WORLD_SIZE that torchrun sets, else one process. Where only
            one process of a job calls this, pass ``rank=0, world_size=1``.
        world_size: how many processes write; all of them call this with equal arguments.
        force: replace the files of another checkpoint in the folder.
        on_bytes: called with the bytes of each piece that was written.

    Returns:
        What was written; ``.is_complete`` says whether every process has finished.

    Raises:
        PlanError: as for `plan`.
        CheckpointError: when a value is missing, when the folder cannot be written or holds another
            checkpoint, or when the disk is full. Finished files stay.

    Example:
        >>> import tempfile
        >>> from fanin.model.construction import deferred
        >>> with deferred():
        ...     model = nn.Linear(64, 32)
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     written = write_checkpoint(model, folder, recipe="kaiming", seed=0)
        ...     sorted(path.name for path in Path(folder).iterdir())
        ['fanin_plan.json', 'model.safetensors']
        >>> written.nbytes, model.weight.is_meta
        (8320, True)
    """
    writing = prepare_checkpoint(
        model_or_plan,
        path,
        recipe=recipe,
        seed=seed,
        dtype=dtype,
        format=format,
        max_shard_size=max_shard_size,
        rank=rank,
        world_size=world_size,
        force=force,
    )
    return writing.run(on_bytes)


def prepare_checkpoint(
    model_or_plan: nn.Module | Plan,
    path: str | os.PathLike[str],
    *,
    recipe: RecipeLike | Plan | None = None,
    seed: int | None = None,
    dtype: torch.dtype | None = None,
    format: Format = "safetensors",
    max_shard_size: int | str = _DEFAULT_SIZE,
    rank: int | None = None,
    world_size: int | None = None,
    force: bool = False,
    metadata: Mapping[str, str] | None = None,
) -> Writing | DcpWriting:
    """All of `write_checkpoint` that can be refused, before anything is written.

    Args:
        model_or_plan: this and what follows as for `write_checkpoint`.
        path: a folder.
        recipe: see there.
        seed: see there.
        dtype: see there.
        format: see there.
        max_shard_size: see there.
        rank: see there.
        world_size: see there.
        force: see there.
        metadata: more lines for the header of each file.
    """
    processes = Processes.of(rank, world_size)
    limit = size_in_bytes(max_shard_size)
    _check_format(format, processes, max_shard_size)
    model = model_or_plan if isinstance(model_or_plan, nn.Module) else None
    is_planned = isinstance(model_or_plan, Plan) or isinstance(recipe, Plan)
    if seed is None and not (is_planned or force or processes.count > 1):
        seed = saved_seed(Path(path))
    plan = _plan(model_or_plan, recipe, seed, processes).cast(_checked(dtype))
    for step in plan.steps:
        try_drawing(step)
    if model is None:
        stored = contents_of_plan(plan)
    else:
        stored = contents(model, plan, dtype=dtype, tied=tied_names(model))
    if format == "dcp":
        stored = under_each_name(stored)
    groups = grouped(stored, limit) if format == "safetensors" else [[each] for each in stored]
    values = value_digests(stored)
    digest = contents_digest(plan, groups, values)
    small = {PLAN: plan_text(plan, groups, values, digest)}
    if model is not None:
        small |= config_texts(model, dtype)
    if format == "dcp":
        return ready_to_write_dcp(Path(path), plan, stored, small, force=force)
    parts = shards(groups, {**origin(plan), "fanin.contents": digest, **(metadata or {})})
    if len(parts) > 1:
        small[INDEX] = index_text(parts)
    return ready_to_write(Path(path), plan, parts, small, processes=processes, force=force)


def _plan(
    model_or_plan: nn.Module | Plan,
    recipe: RecipeLike | Plan | None,
    seed: int | None,
    processes: Processes,
) -> Plan:
    given = model_or_plan if isinstance(model_or_plan, Plan) else recipe
    if isinstance(given, Plan):
        if seed is not None or (recipe is not None and recipe is not given):
            raise ArgumentError(
                "write_checkpoint: a plan has its recipe and its seed. Got a plan, and one of the "
                "two beside it. Leave them out, or make another plan."
            )
        return given
    if given is None or not isinstance(model_or_plan, nn.Module):
        raise ArgumentError(
            f"write_checkpoint: a module and a recipe, or a plan. Got "
            f"{type(model_or_plan).__name__} and recipe={recipe!r}. As in "
            'write_checkpoint(model, "checkpoint", recipe="gpt2", seed=0).'
        )
    if seed is None and processes.count > 1:
        raise PlanError(
            f"write_checkpoint: processes that share a checkpoint share a seed. Got seed=None with "
            f"{processes.count} processes. Pass the same seed= to each."
        )
    return make_plan(model_or_plan, given, seed=seed)


def _check_format(format: str, processes: Processes, max_shard_size: int | str) -> None:
    if format not in get_args(Format):
        raise ArgumentError(
            f"write_checkpoint: a format is 'safetensors' or 'dcp'. Got {format!r}. Write one of "
            "the two."
        )
    if format == "dcp" and processes.count > 1:
        raise ArgumentError(
            f"write_checkpoint: one process writes format='dcp'. Got {processes.count} processes. "
            "Call it in one of them, with rank=0 and world_size=1."
        )
    if format == "dcp" and max_shard_size != _DEFAULT_SIZE:
        raise ArgumentError(
            "write_checkpoint: format='dcp' has a file for each tensor. Got "
            f"max_shard_size={max_shard_size!r}. Leave it out."
        )


def _checked(dtype: torch.dtype | None) -> torch.dtype | None:
    if dtype is not None and not (isinstance(dtype, torch.dtype) and dtype.is_floating_point):
        raise ArgumentError(
            f"write_checkpoint: a floating-point dtype of torch. Got {dtype!r}. "
            "Write torch.bfloat16."
        )
    return dtype
