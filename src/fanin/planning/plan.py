"""A plan: what every parameter will hold. Inert data, and a small loop that applies it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import nn

from fanin.drawing.dispatch import draw
from fanin.errors import FaninError, PlanError
from fanin.geometry import Region
from fanin.planning.checks import writable
from fanin.planning.describe import plan_table
from fanin.planning.export import plan_fingerprint, plan_json
from fanin.planning.step import Step
from fanin.report import Table

__all__ = ["Plan"]


@dataclass(frozen=True, slots=True)
class Plan:
    """A step for every parameter of a model, in registration order.

    ``str(plan)`` is the table of what will happen; `apply` makes it happen.

    Args:
        steps: one for each parameter; tied ones are one.
        seed: of every stream.
        recipe: what the recipe is called.
        overridden: rules that matched and won nothing.

    Example:
        >>> import fanin
        >>> plan = fanin.plan(nn.Linear(4, 2), "kaiming", seed=0)
        >>> [step.name for step in plan.steps]
        ['weight', 'bias']
        >>> plan == fanin.plan(nn.Linear(4, 2), "kaiming", seed=0)
        True
    """

    steps: tuple[Step, ...]
    seed: int
    recipe: str
    overridden: tuple[str, ...] = ()

    def apply(self, model: nn.Module, *, on_step: Callable[[Step], None] | None = None) -> None:
        """Write every parameter; whatever can be refused is refused before the first write.

        Args:
            model: a model with the names, ties, shapes and dtypes that were planned for.
            on_step: called after each parameter, for a progress bar.

        Raises:
            PlanError: when the model is another than the one planned for, when a parameter has no
                memory (meta, lazy) or cannot be written in place, or when a draw is refused.
        """
        tensors = writable(self.steps, model)
        for step, tensor in zip(self.steps, tensors, strict=True):
            _execute(step, tensor)
            if on_step is not None:
                on_step(step)

    def fingerprint(self) -> str:
        """16 hex digits of what will be drawn and where: equal ones write equal bits."""
        return plan_fingerprint(self.steps, self.seed)

    def to_json(self) -> str:
        """The plan as JSON text: all that decides a bit, and why each rule won. A line a step."""
        return plan_json(self.steps, seed=self.seed, recipe=self.recipe)

    def table(self, model: nn.Module | None = None) -> Table:
        """Name, shape, fans, distribution, std and rule; with a model also the std it now has."""
        return plan_table(self, model)

    def tables(self) -> tuple[Table, ...]:
        """The plan as its one table."""
        return (self.table(),)

    def __str__(self) -> str:
        return str(self.table())


@torch.no_grad()
def _execute(step: Step, tensor: torch.Tensor) -> None:
    if step.fill is None or step.key is None:
        return
    try:
        draw(step.fill, step.key, Region.of(tensor), tensor)
    except FaninError as error:
        raise PlanError(f"apply: {step.name!r} by rule {step.rule!r}: {error}") from error
    if step.padding_row is not None:
        tensor[step.padding_row].zero_()
