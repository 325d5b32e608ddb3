"""`plan` and `initialize`: from a recipe's name to weights."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING, Any, TypeAlias

import torch
from torch import nn

from fanin.errors import ArgumentError, PlanError
from fanin.model import buffers, sites
from fanin.model.construction import infer_shapes, materialize
from fanin.model.construction.meta_copy import meta_copy
from fanin.planning import Plan, Recipe, Rule, Step, make_plan
from fanin.planning.resharding import reshard
from fanin.planning.rules import Content
from fanin.planning.seeding import drawn_seed
from fanin.planning.selection import Selection

if TYPE_CHECKING:
    from fanin.flow import Trace

__all__ = ["initialize", "plan"]

RecipeLike: TypeAlias = str | Recipe | Rule | Iterable[Rule] | Mapping[str, Content]


def plan(
    model: nn.Module,
    recipe: RecipeLike,
    *,
    seed: int | None = None,
    example_inputs: Any = None,
    only: Selection = None,
    skip: Selection = None,
    prefix: str | None = None,
) -> Plan:
    """What every parameter of a model would hold. Nothing is written.

    Args:
        model: any module, also one built under `deferred` or on the meta device.
        recipe: a name (``"kaiming"``, ``"gpt2@1"``, ``"resnet(zero_gamma=true)"``), a `Recipe`,
            rules, or a mapping from name globs to initializers.
        seed: in ``[0, 2**64)``; None takes 64 bits from torch's default CPU generator.
        example_inputs: for recipes that depend on how the model computes: a tensor, a tuple of
            positional arguments or a mapping of named ones, of which only the shapes matter.
        only: names or globs of the parameters to write, or what `load_state_dict(strict=False)`
            returned: then the parameters that it did not load. The others stay as they are.
        skip: names or globs of parameters that stay as they are.
        prefix: for a part of a model, such as the stage of a pipeline: the name it has in the whole
            (``"layers.4"``; ``""`` for a stage whose parameters have their names of the whole). It
            gets the values that it has in the whole, and a rule by name may be for another part.

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
    with _seeded(seed) as bits:
        choice: Any = {"seed": bits, "only": only, "skip": skip, "prefix": prefix}
        return make_plan(model, chosen, **choice, trace=_trace(model, chosen, example_inputs))


def initialize(
    model: nn.Module,
    recipe: RecipeLike,
    *,
    seed: int | None = None,
    device: torch.device | str | None = None,
    dtype: torch.dtype | None = None,
    example_inputs: Any = None,
    only: Selection = None,
    skip: Selection = None,
    prefix: str | None = None,
    on_step: Callable[[Step], None] | None = None,
) -> Plan:
    """Give every parameter of a model its first value.

    A value depends on the seed, the parameter's name and the place in the parameter: not on what
    else the model holds, nor on device, memory layout, number of threads or of processes.

    Parameters without memory (built under `deferred`, or on the meta device) get it here; they
    stay the same objects, with their ties, hooks and places in optimizers.

    Of a sharded model (FSDP2, tensor parallel, any DTensor) each process writes what it holds, with
    the numbers that the whole has; no process asks another.

    Args:
        model: any module; it is written in place.
        recipe: as for `plan`.
        seed: as for `plan`.
        device: where the model should be; without it each parameter stays where it is, and one
            without memory goes where its constructor wanted it.
        dtype: of the floating-point parameters and buffers; without it each keeps its own, as
            complex ones do. FSDP2 fixes it, and the device, with the first forward pass.
        example_inputs: as for `plan`, and for lazy modules: without it a lazy parameter is written
            when the first forward pass gives it a shape.
        only: as for `plan`.
        skip: as for `plan`.
        prefix: as for `plan`.
        on_step: called after each parameter, for a progress bar.

    Returns:
        The plan that was applied; ``.seed`` repeats it.

    Raises:
        PlanError: as for `plan` and `Plan.apply`, and when a parameter or buffer without memory
            would be left without a value, or a model of FSDP2 that has run would get another
            dtype or device; then nothing was written.

    Example:
        >>> layer, other = nn.Linear(4, 2), nn.Linear(4, 2)
        >>> _ = initialize(layer, "kaiming", seed=0), initialize(other, "kaiming", seed=0)
        >>> torch.equal(layer.weight, other.weight)
        True
    """
    device, dtype = _device(device), _dtype(dtype)
    chosen = _recipe(recipe)
    with _seeded(seed) as bits:
        reshard(model)
        trace = _trace(model, chosen, example_inputs)
        choice: Any = {"seed": bits, "only": only, "skip": skip, "prefix": prefix, "trace": trace}
        made = make_plan(model, chosen, **choice)
        if example_inputs is not None:
            infer_shapes(model, example_inputs)
            made = make_plan(model, chosen, **choice)
        written = {name for step in made.steps if step.is_complete for name in step.names}
        places = (*sites(model, prefix=made.prefix), *buffers(model, prefix=made.prefix))
        without_memory = [site.name for site in places if site.tensor.is_meta]
        _every_one_is_written(without_memory, written)
        if without_memory or device is not None or dtype is not None:
            materialize(model, device=device, dtype=dtype, buffers={s.name for s in buffers(model)})
            made = made.cast(dtype)
        made.apply(model, on_step=on_step)
    return made


def _trace(model: nn.Module, recipe: Recipe, example_inputs: Any) -> Trace | None:
    """Of a model as it will be once lazy modules have their shapes; None where nobody asks."""
    if not recipe.needs_trace or example_inputs is None:
        return None
    from fanin.flow.trace import trace

    if any(site.is_lazy for site in sites(model)):
        model, inputs = meta_copy(model, example_inputs)
        infer_shapes(model, inputs)
    return trace(model, example_inputs)


def _device(device: torch.device | str | None) -> torch.device | None:
    try:
        place = None if device is None else torch.device(device)
    except (RuntimeError, TypeError) as error:
        raise ArgumentError(f"initialize: a device of torch. Got {device!r}: {error}") from error
    if place is not None and place.type == "meta":
        raise ArgumentError(
            "initialize: values are written to a device with memory. Got the meta device. "
            "fanin.plan looks at a model there."
        )
    return place


def _dtype(dtype: torch.dtype | None) -> torch.dtype | None:
    if dtype is not None and not isinstance(dtype, torch.dtype):
        raise ArgumentError(f"initialize: a dtype of torch. Got {dtype!r}. Write torch.bfloat16.")
    return dtype


def _every_one_is_written(without_memory: Iterable[str], written: set[str]) -> None:
    left = [name for name in without_memory if name not in written]
    if left:
        raise PlanError(
            "initialize: what is kept or skipped has a value to keep. Got these without memory:\n"
            + "\n".join(f"  {name}" for name in left)
            + "\nLoad them first, after fanin.model.construction.materialize(model), or let a rule "
            "write them."
        )


def _recipe(recipe: RecipeLike) -> Recipe:
    if isinstance(recipe, Recipe):
        return recipe
    if isinstance(recipe, str):
        from fanin.recipes import get_recipe  # two dozen files, which `import fanin` need not read

        return get_recipe(recipe)
    try:
        return Recipe("custom", 1, ()) + recipe
    except TypeError:
        raise ArgumentError(
            f"plan: a recipe is a name, a Recipe, rules, or a mapping from name globs to "
            f"initializers. Got {recipe!r}. For all parameters write {{'**': normal(std=0.02)}}."
        ) from None


def _seeded(seed: int | None) -> AbstractContextManager[int]:
    """The seed, or one that is drawn."""
    if seed is not None:
        return nullcontext(seed)
    if torch.distributed.is_available() and torch.distributed.is_initialized():
        raise PlanError(
            "plan: processes that share a model share a seed. Got seed=None with an initialized "
            "process group. Pass the same seed= on every rank."
        )
    return drawn_seed()
