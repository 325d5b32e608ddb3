"""A plan: what every parameter will hold. Inert data, and a small loop that applies it."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from fanin.drawing.together import draw_together
from fanin.errors import FaninError, PlanError
from fanin.model import Site
from fanin.model.construction import converted_dtype
from fanin.planning.checks import writable
from fanin.planning.describe import explained, plan_table
from fanin.planning.diff import PlanDiff, plan_diff
from fanin.planning.export import plan_fingerprint, plan_from_json, plan_json
from fanin.planning.pending import fill_when_materialized
from fanin.planning.resharding import reshard
from fanin.planning.step import Step
from fanin.report import Table

if TYPE_CHECKING:
    from fanin.flow import Trace

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
        unused: rules that were appended to the recipe and match nothing; of a part of a model, all
            rules by name that match nothing in it.
        prefix: name of the model in a larger one, of which it is a part.
        is_traced: whether it came from what the model computes; JSON does not say.
        notes: of a recipe that derives rules from what the model computes; not in JSON either.

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
    unused: tuple[str, ...] = ()
    prefix: str = ""
    is_traced: bool = field(default=False, compare=False)
    notes: tuple[str, ...] = field(default=(), compare=False)

    def apply(self, model: nn.Module, *, on_step: Callable[[Step], None] | None = None) -> None:
        """Write every parameter; whatever can be refused is refused before the first write.

        Of a DTensor each process writes what it holds, and asks no other. Modules of FSDP2 that
        hold gathered parameters, as after a forward pass, are resharded first.

        Args:
            model: a model with the names, ties, shapes and dtypes that were planned for.
            on_step: called after each parameter, for a progress bar.

        Raises:
            PlanError: when the model is another than the one planned for, when a parameter has no
                memory (meta, lazy) or cannot be written in place, or when a draw is refused.
        """
        reshard(model)
        places = writable(self.steps, model, prefix=self.prefix)
        small = _draw_small(self.steps, places)
        # What a parametrized weight is computed with may be written too, and then comes first.
        pairs = zip(self.steps, places, strict=True)
        for step, site in sorted(pairs, key=lambda pair: pair[1].through is not None):
            if step.name not in small:
                _execute(step, site)
            if on_step is not None:
                on_step(step)

    def cast(self, dtype: torch.dtype | None) -> Plan:
        """The plan for the model as `materialize` converts it to this dtype; None: as it is."""
        if dtype is None:
            return self
        steps = (replace(step, dtype=converted_dtype(step.dtype, dtype)) for step in self.steps)
        return replace(self, steps=tuple(steps))

    def fingerprint(self) -> str:
        """16 hex digits of what will be drawn and where: equal ones write equal bits."""
        return plan_fingerprint(self.steps, self.seed)

    def to_json(self) -> str:
        """The plan as JSON text: all that decides a bit, and why each rule won. A line a step."""
        return plan_json(
            self.steps,
            seed=self.seed,
            recipe=self.recipe,
            overridden=self.overridden,
            unused=self.unused,
            prefix=self.prefix,
        )

    @classmethod
    def from_json(cls, text: str, *, functions: Iterable[Callable[..., Any]] = ()) -> Plan:
        """The plan that `to_json` wrote.

        Args:
            text: JSON.
            functions: the users' functions that its fills apply; text holds no code.

        Raises:
            PlanError: for text that is no plan, of another version of the stream, or one whose
                fingerprint is not that of its steps.
        """
        return cls(*plan_from_json(text, functions=functions))

    def diff(self, other: Plan) -> PlanDiff:
        """What another plan would write otherwise: a table, false where nothing differs.

        Example:
            >>> import fanin
            >>> model = nn.Linear(4, 2)
            >>> a, b = (fanin.plan(model, name, seed=0) for name in ("kaiming", "lecun"))
            >>> [(line.name, line.what) for line in a.diff(b).lines]
            [('weight', 'distribution')]
        """
        return plan_diff(self.steps, other.steps)

    def explain(self, name: str) -> str:
        """All that is known of one parameter: axes, fans, the rule that won, why, its stream.

        Args:
            name: of the parameter, any of them where it has several.

        Raises:
            UnknownNameError: when the plan has no such parameter.
        """
        return explained(self, name)

    def table(self, model: nn.Module | None = None, *, trace: Trace | None = None) -> Table:
        """Name, shape, fans, distribution, std and rule.

        Args:
            model: adds the std that its parameters now have.
            trace: of the model, adds what follows each parameter, and the std predicted of what it
                gives: the median over draws, for inputs N(0, 1) and evenly spread token ids
                whatever the trace was made with. `predict` counts values of inputs.
        """
        return plan_table(self, model, trace)

    def tables(self) -> tuple[Table, ...]:
        """The plan as its one table."""
        return (self.table(),)

    def __str__(self) -> str:
        return str(self.table())

    def __repr__(self) -> str:
        """A line, for a prompt or a notebook where `initialize` is the last call."""
        return f"Plan({self.recipe}, seed {self.seed}, {len(self.steps)} parameters)"


@torch.no_grad()
def _draw_small(steps: Iterable[Step], places: Iterable[Site]) -> set[str]:
    """Draw small parameters on a GPU together; the names of those that were."""
    alone = [
        (step, site)
        for step, site in zip(steps, places, strict=True)
        if not step.is_pending and site.through is None and step.padding_row is None
    ]
    draws = [
        (step.name, (step.fill, step.key, site.tensor))
        for step, site in alone
        if step.fill is not None and step.key is not None and site.tensor.is_cuda
    ]
    done = draw_together([draw for _, draw in draws])
    return {name for (name, _), drawn in zip(draws, done, strict=True) if drawn}


@torch.no_grad()
def _execute(step: Step, site: Site) -> None:
    try:
        if step.is_pending:
            fill_when_materialized(step, site)
        elif step.fill is None:
            return
        elif site.through is not None:
            site.through.write(step.drawn_like(site.tensor))
        else:
            step.draw(site.tensor)
    except FaninError as error:
        raise PlanError(f"apply: {step.name!r} by rule {step.rule!r}: {error}") from error
