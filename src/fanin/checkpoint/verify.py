"""`verify_checkpoint`: a checkpoint against the plan it was written from."""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from numbers import Real
from pathlib import Path
from typing import Any

import torch

from fanin.checkpoint.comparison import Difference, first_difference, tolerance
from fanin.checkpoint.drawing import is_piecewise
from fanin.checkpoint.reading import Files, opened
from fanin.checkpoint.saved_plan import SavedPlan, read_plan, tensor_digest
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

    A folder for `torch.distributed.checkpoint` is read a whole tensor at a time, and by its own
    reader, which unpickles ``.metadata``: verify what you would load.

    Args:
        path: the folder, of either format.
        sample: the share of pieces (of 4 MiB; structured tensors are one) to compare, chosen at
            random at each call; at least one with a value.
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
    files = opened(folder, saved)
    expected = _Expected(saved, files)
    found = expected.mismatch()
    tensors, elements = len(files.held), sum(math.prod(e.shape) for e in files.held.values())
    if found is not None:
        return Verification(tensors, 0, elements, found)
    compared = 0
    for unit in _sampled(expected.units(), sample):
        compared += unit.region.numel
        found = unit.compare(files)
        if on_bytes is not None:
            on_bytes(unit.region.numel * files.held[unit.name].dtype.itemsize)
        if found is not None:
            break
    return Verification(tensors, compared, elements, found)


def checked_sample(sample: float) -> float:
    """The share, which is above 0 and up to 1."""
    if not isinstance(sample, Real) or not 0 < sample <= 1:
        raise ArgumentError(
            f"verify: a sample is a share above 0 and up to 1. Got {sample!r}. As in --sample 0.01."
        )
    return sample


@dataclass(frozen=True, slots=True)
class _Unit:
    """A piece of one tensor: drawn by a step, or known by the digest of its bytes."""

    name: str
    region: Region
    step: Step | None
    digest: str = ""

    def compare(self, files: Files) -> Difference | None:
        found = files.read(self.name, self.region)
        if self.step is None:
            digest = tensor_digest(found)
            if digest == self.digest:
                return None
            return Difference(self.name, None, f"bytes of digest {self.digest}", f"digest {digest}")
        expected = torch.empty(self.region.local_shape, dtype=found.dtype, device="cpu")
        self.step.draw_region(self.region, expected)
        allowed = tolerance(self.step.fill) if self.step.fill is not None else 0.0
        return first_difference(self.name, self.region, expected, found, allowed=allowed)


class _Expected:
    """What the plan says of the tensors that the files hold."""

    def __init__(self, saved: SavedPlan, files: Files) -> None:
        self._held, self._values = files.held, saved.values
        steps = {step.name: step for step in saved.plan.steps}
        self._drawn = {stored: steps[name] for stored, name in files.names(saved).items()}

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
    """Each with this probability, and in any case one that has a value, where one does."""
    every = list(units)
    chosen = [unit for unit in every if sample == 1 or random.random() < sample]
    with_values = [unit for unit in every if unit.region.numel]
    if with_values and not any(unit.region.numel for unit in chosen):
        chosen.append(random.choice(with_values))
    return chosen
