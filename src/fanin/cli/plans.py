"""From what was typed to a plan, and to a model with memory for it."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import nn

import fanin
from fanin.cli.inputs import InputOptions, make_inputs
from fanin.cli.models import build_model, parse_arguments
from fanin.cli.one_initializer import AS_BUILT, one_initializer
from fanin.cli.wording import worded
from fanin.errors import ArgumentError, UnknownNameError, one_of
from fanin.flow import Trace, trace
from fanin.initializers import parse
from fanin.model import sites
from fanin.model.construction import infer_shapes, materialize
from fanin.planning import Plan, Recipe, keep, rule
from fanin.recipes import get_recipe, load_recipe

__all__ = [
    "Request",
    "build",
    "checked_seed",
    "make_plan",
    "make_plan_and_trace",
    "seed_torch",
    "with_memory",
]

_DTYPES = ("float64", "float32", "float16", "bfloat16", "float8_e4m3fn", "float8_e5m2")


class Request(NamedTuple):
    """A model and what it should start from, as typed."""

    model: str
    recipe: str | None  # None: as the constructor makes it, but for the two below
    seed: int
    overrides: Sequence[str] = ()
    arguments: Sequence[str] = ()
    dtype: str | None = None
    init: str | None = None
    inputs: InputOptions = InputOptions()  # for recipes that depend on how the model computes


def make_plan(
    request: Request, *, prepare: Callable[[nn.Module], object] = lambda model: None
) -> tuple[nn.Module, Plan]:
    """The model without its values, and its plan: all input is checked here.

    Args:
        request: as typed.
        prepare: called with the model before it is planned for.

    Raises:
        FaninError: for whatever was typed and makes no sense, or no plan.
    """
    recipe = _recipe(request)
    model = build(request, with_values=False)
    prepare(model)
    inputs = _example_inputs(model, request) if recipe.needs_trace else None
    with worded():
        return model, fanin.plan(model, recipe, seed=request.seed, example_inputs=inputs)


def make_plan_and_trace(request: Request) -> tuple[Plan, Trace]:
    """The plan of a model whose lazy modules have their shapes, and what it computes."""

    def give_shapes(model: nn.Module) -> None:
        infer_shapes(model, _example_inputs(model, request))

    model, made = make_plan(request, prepare=give_shapes)
    return made, trace(model, _example_inputs(model, request))


def _example_inputs(model: nn.Module, request: Request) -> Any:
    """Inputs as typed; without any, of the shape that is known for the model."""
    return make_inputs(model, request.model, request.inputs, seed=request.seed).value


def with_memory(model: nn.Module, made: Plan, request: Request) -> nn.Module:
    """The model with memory to write to, built anew where the plan keeps a constructor's value."""
    tensors = {site.name: site.tensor for site in sites(model)}
    kept = [step for step in made.steps if step.fill is None and not step.is_pending]
    if any(tensors[step.name].is_meta for step in kept if step.name in tensors):
        return build(request, with_values=True)
    written = {name for step in made.steps if step.fill is not None for name in step.names}
    materialize(model, device="cpu", buffers=written)
    return model


def build(request: Request, *, with_values: bool) -> nn.Module:
    """The model as its constructor makes it from this seed; see `build_model`."""
    if request.dtype is not None and request.dtype not in _DTYPES:
        raise UnknownNameError(
            f"--dtype: one of a closed list. Got {request.dtype!r}. "
            f"{one_of(request.dtype, _DTYPES)}"
        )
    seed_torch(request.seed)  # for what a constructor draws and the plan keeps
    arguments = parse_arguments(request.arguments)
    model = build_model(request.model, arguments, with_values=with_values)
    return model if request.dtype is None else model.to(getattr(torch, request.dtype))


def checked_seed(seed: int | None) -> int:
    """The seed that was given, or a fresh one."""
    seed = secrets.randbits(64) if seed is None else seed
    if not 0 <= seed < 2**64:
        raise ArgumentError(f"--seed: in [0, 2**64). Got {seed}.")
    return seed


def seed_torch(seed: int) -> None:
    """Seed torch's generators with a seed of ours, which may be beyond what they take."""
    torch.manual_seed(seed - 2**64 if seed >= 2**63 else seed)


def _recipe(request: Request) -> Recipe:
    recipe = AS_BUILT if request.recipe is None else _named_recipe(request.recipe)
    if request.init is not None:
        recipe = recipe + one_initializer(parse(request.init), alone=request.recipe is None)
    for override in request.overrides:
        name, separator, initializer = override.partition("=")
        if not (separator and name and initializer):
            raise ArgumentError(
                f"--set: written NAME=INITIALIZER. Got {override!r}. As in --set '*.bias=zeros()'."
            )
        content = keep() if initializer.strip() == "keep()" else parse(initializer)
        recipe = recipe + rule(name, content)
    return recipe


def _named_recipe(text: str) -> Recipe:
    """A recipe by name, or from a file; a name wins over a file that happens to be called so."""
    path = Path(text)
    try:
        if path.suffix == ".toml":
            return load_recipe(path)
        try:
            return get_recipe(text)
        except ArgumentError:
            if not path.is_file():
                raise
            return load_recipe(path)
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or error
        raise ArgumentError(f"--recipe: cannot read {text!r}: {reason}.") from error
