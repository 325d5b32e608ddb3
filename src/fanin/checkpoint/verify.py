"""`verify_checkpoint`: a checkpoint against the plan it was written from."""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from fanin.checkpoint.comparison import Difference, first_difference, tolerance
from fanin.checkpoint.drawing import is_piecewise
from fanin.checkpoint.errors import CheckpointError
from fanin.checkpoint.folder import dcp_files
from fanin.checkpoint.safetensors import Held, read_header
from fanin.checkpoint.saved_plan import SavedPlan, read_plan, tensor_digest
from fanin.checkpoint.shards import INDEX, is_shard_name
from fanin.errors import ArgumentError
from fanin.geometry import Region
from fanin.planning import Step

__all__ = ["Verification", "checked_sample", "verify_checkpoint"]

_PIECE = 4 << 20  # bytes compared at a time; also what a sample is made of


@dataclass(frozen=True, slots=True)
class Verification:
    """What was compared, and the first thing that differs; None where nothing does."""

    num_tensors: int
    num_compared: int  # elements
    num_elements: int
    difference: Difference | None

    @property
    def is_equal(self) -> bool:
        """Whether all that was compared is as planned."""
        return self.difference is None


def verify_checkpoint(
    path: str | Path,
    *,
    sample: float = 1.0,
    functions: Iterable[Callable[..., Any]] = (),
    on_bytes: Callable[[int], None] | None = None,
) -> Verification:
    """Draw a checkpoint's tensors again, and compare them with its files.

    Names, shapes and dtypes are always compared. Values are compared bit by bit; those of
    orthogonal matrices, whose products differ between machines, to 4e-6 of their gain and a
    rounding. What constructors computed is compared with the digest that was written.

    Args:
        path: the folder.
        sample: the share of pieces (of 4 MiB; structured tensors are one) to compare, chosen at
            random at each call; at least one.
        functions: the users' functions that the plan's fills apply.
        on_bytes: called with the bytes of each piece that was compared.

    Returns:
        The first difference in the order of the plan, and how much was compared.

    Raises:
        ArgumentError: for a sample outside of (0, 1].
        CheckpointError: when there is no plan, or when a file is missing or damaged as a whole.
    """
    sample = checked_sample(sample)
    folder = Path(path)
    saved = read_plan(folder, functions=functions)
    held = _tensors(folder, saved)
    expected = _Expected(saved, {name: each for name, (_, each) in held.items()})
    found = expected.mismatch()
    elements = sum(_numel(each) for _, each in held.values())
    if found is not None:
        return Verification(len(held), 0, elements, found)
    compared = 0
    for unit in _sampled(expected.units(), sample):
        file, tensor = held[unit.name]
        compared += unit.region.numel
        found = unit.compare(file, tensor)
        if on_bytes is not None:
            on_bytes(unit.region.numel * tensor.dtype.itemsize)
        if found is not None:
            break
    return Verification(len(held), compared, elements, found)


def checked_sample(sample: float) -> float:
    """The share, which is above 0 and up to 1."""
    if not 0 < sample <= 1:
        raise ArgumentError(
            f"verify: a sample is a share above 0 and up to 1. Got {sample}. As in --sample 0.01."
        )
    return sample


@dataclass(frozen=True, slots=True)
class _Unit:
    """A piece of one tensor: drawn by a step, or known by the digest of its bytes."""

    name: str
    region: Region
    step: Step | None
    digest: str = ""

    def compare(self, path: Path, held: Held) -> Difference | None:
        found = _read(path, held, self.region)
        if self.step is None:
            digest = tensor_digest(found)
            if digest == self.digest:
                return None
            return Difference(self.name, None, f"bytes of digest {self.digest}", f"digest {digest}")
        expected = torch.empty(self.region.local_shape, dtype=held.dtype, device="cpu")
        self.step.draw_region(self.region, expected)
        allowed = tolerance(self.step.fill) if self.step.fill is not None else 0.0
        return first_difference(self.name, self.region, expected, found, allowed=allowed)


class _Expected:
    """What the plan says of the tensors that the files hold."""

    def __init__(self, saved: SavedPlan, held: dict[str, Held]) -> None:
        self._held, self._values = held, saved.values
        steps = {step.name: step for step in saved.plan.steps}
        self._drawn = {stored: steps[name] for name, stored in saved.names.items()}

    def mismatch(self) -> Difference | None:
        """The first tensor that is not there, not planned, or of another shape or dtype."""
        known = {*self._drawn, *self._values}
        for name, step in self._drawn.items():
            here = self._held.get(name)
            planned = f"{step.shape} {step.dtype}"
            if here is None:
                return Difference(name, None, planned, "nothing")
            if (here.shape, here.dtype) != (step.shape, step.dtype):
                return Difference(name, None, planned, f"{here.shape} {here.dtype}")
        for name in self._values:
            if name not in self._held:
                return Difference(name, None, "a kept value", "nothing")
        for name, here in self._held.items():
            if name not in known:
                return Difference(name, None, "nothing", f"{here.shape} {here.dtype}")
        return None

    def units(self) -> Iterator[_Unit]:
        for name, step in self._drawn.items():
            whole = Region.whole(step.shape)
            if step.fill is not None and is_piecewise(step.fill):
                for _, region in whole.split(_PIECE // step.dtype.itemsize):
                    yield _Unit(name, region, step)
            else:
                yield _Unit(name, whole, step)
        for name, digest in self._values.items():
            yield _Unit(name, Region.whole(self._held[name].shape), None, digest)


def _sampled(units: Iterator[_Unit], sample: float) -> list[_Unit]:
    """Each with this probability, and one in any case."""
    every = list(units)
    if sample == 1 or not every:
        return every
    chosen = [unit for unit in every if random.random() < sample]
    return chosen or [random.choice(every)]


def _tensors(folder: Path, saved: SavedPlan) -> dict[str, tuple[Path, Held]]:
    """Every tensor of the checkpoint's files, as the index says where there is one."""
    try:
        files = sorted(p for p in folder.iterdir() if is_shard_name(p.name))
        if not files and dcp_files(folder):
            raise CheckpointError(
                f"verify: a checkpoint in safetensors files. Got {str(folder)!r}, which is for "
                "torch.distributed.checkpoint. Load it beside what fanin.initialize gives, and "
                "compare."
            )
        if len(files) != saved.files:
            raise CheckpointError(
                f"verify: a checkpoint has all its files. Got {len(files)} of {saved.files} in "
                f"{str(folder)!r}. Run what wrote it again: it resumes."
            )
        held = {name: (path, each) for path in files for name, each in read_header(path)[0].items()}
        if saved.files > 1:
            content = json.loads((folder / INDEX).read_text(encoding="utf-8"))
            _check_index({name: path.name for name, (path, _) in held.items()}, content, folder)
    except (OSError, ValueError) as error:
        raise CheckpointError(
            f"verify: a checkpoint can be read. Got {error} in {str(folder)!r}. Run what wrote it "
            "again: it resumes."
        ) from error
    return held


def _check_index(files: dict[str, str], content: Any, folder: Path) -> None:
    listed = content.get("weight_map") if isinstance(content, dict) else None
    if listed != files:
        raise CheckpointError(
            f"verify: the index says which file has a tensor. Got another place for some in "
            f"{str(folder / INDEX)!r}. Remove it and run what wrote the checkpoint again."
        )


def _read(path: Path, held: Held, region: Region) -> Tensor:
    """The elements of a contiguous region."""
    offset = 0
    for size, runs in zip(region.shape, region.runs, strict=True):
        offset = offset * size + runs[0][0]
    size = held.dtype.itemsize
    content = bytearray(region.numel * size)
    with path.open("rb") as file:
        file.seek(held.start + offset * size)
        file.readinto(content)
    if not content:
        return torch.empty(region.local_shape, dtype=held.dtype)
    return torch.frombuffer(content, dtype=held.dtype).view(region.local_shape)


def _numel(held: Held) -> int:
    return Region.whole(held.shape).numel
