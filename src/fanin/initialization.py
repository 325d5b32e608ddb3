"""`plan` and `initialize`: from a recipe's name to weights."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

import torch
from torch import nn

from fanin.errors import PlanError
from fanin.planning import Plan, Recipe, Rule, Step, make_plan
from fanin.planning.rules import Content
from fanin.recipes import get_recipe
from fanin.stream.key import generator_bits

__all__ = ["initialize", "plan"]


def plan(
    model: nn.Module,
    recipe: str | Recipe | Rule | Mapping[str, Content],
    *,
    seed: int | None = None,
    only: str | Iterable[str] | None = None,
    skip: str | Iterable[str] | None = None,
) -> Plan:
    """What every parameter of a model would hold. Nothing is written.

    Args:
        model: any module.
        recipe: a name (``"kaiming"``, ``"torch_default@1"``), a `Recipe`, a `Rule`, or a mapping
            from name globs to initializers.
        seed: in ``[0, 2**64)``; None takes 64 bits from torch's default CPU generator.
        only: names or globs of the parameters to write; the others stay as they are.
        skip: names or globs of parameters that stay as they are.

    Returns:
        A `Plan`; ``print(plan)`` shows it as a table and ``plan.apply(model)`` executes it.

    Raises:
        UnknownNameError: for an unknown recipe.
        PlanError: when a parameter has no rule, when a rule or pattern by name fits no parameter,
            when a parameter cannot be written, or when several processes run without a seed.
        LayoutError: when an initializer needs fans that no adapter states.

    Example:
        >>> print(plan(nn.Linear(4, 2), "kaiming", seed=0).table().rows[0][:4])
        ('weight', '2×4', '4 → 2', 'normal(0, 0.707)')
    """
    chosen = _recipe(recipe)
    return make_plan(model, chosen, seed=_seed(seed), only=only, skip=skip)


def initialize(
    model: nn.Module,
    recipe: str | Recipe | Rule | Mapping[str, Content],
    *,
    seed: int | None = None,
    only: str | Iterable[str] | None = None,
    skip: str | Iterable[str] | None = None,
    on_step: Callable[[Step], None] | None = None,
) -> Plan:
    """Give every parameter of a model its first value.

    A value depends on the seed, the parameter's name and the place in the parameter: not on what
    else the model holds, nor on device, memory layout or number of threads.

    Args:
        model: any module; it is written in place.
        recipe: as for `plan`.
        seed: as for `plan`.
        only: as for `plan`.
        skip: as for `plan`.
        on_step: called after each parameter, for a progress bar.

    Returns:
        The plan that was applied; ``.seed`` repeats it.

    Raises:
        PlanError: as for `plan` and `Plan.apply`; then nothing was written.

    Example:
        >>> layer, other = nn.Linear(4, 2), nn.Linear(4, 2)
        >>> _ = initialize(layer, "kaiming", seed=0), initialize(other, "kaiming", seed=0)
        >>> torch.equal(layer.weight, other.weight)
        True
    """
    made = plan(model, recipe, seed=seed, only=only, skip=skip)
    made.apply(model, on_step=on_step)
    return made


def _recipe(recipe: str | Recipe | Rule | Mapping[str, Content]) -> Recipe:
    if isinstance(recipe, Recipe):
        return recipe
    return get_recipe(recipe) if isinstance(recipe, str) else Recipe("custom", 1, ()) + recipe


def _seed(seed: int | None) -> int:
    if seed is not None:
        return seed
    if torch.distributed.is_available() and torch.distributed.is_initialized():
        raise PlanError(
            "plan: processes that share a model share a seed. Got seed=None with an initialized "
            "process group. Pass the same seed= on every rank."
        )
    return generator_bits(None)
