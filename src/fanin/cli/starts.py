"""A model with the first values that were asked for, and what those are, in words."""

from __future__ import annotations

from dataclasses import dataclass

from torch import nn

from fanin.cli.inputs import InputOptions, Inputs, make_inputs
from fanin.cli.plans import Request, build, make_plan, with_memory
from fanin.model.construction import infer_shapes
from fanin.planning import Plan

__all__ = ["Start", "start", "start_notes", "start_text", "title"]


@dataclass(frozen=True, slots=True)
class Start:
    """A model, the plan it was initialized by (None: as its constructor made it), and inputs."""

    model: nn.Module
    plan: Plan | None
    inputs: Inputs


def start(request: Request, *, needs_inputs: bool = True) -> Start:
    """Build the model and give it its values; lazy modules learn their shapes from the inputs.

    Args:
        request: as typed.
        needs_inputs: whether something goes in where no option asks for it.

    Raises:
        FaninError: for whatever was typed and makes no sense, or no plan.
    """

    def inputs_for(model: nn.Module) -> Inputs:
        if request.inputs == InputOptions() and not needs_inputs:
            return Inputs(None, "")
        inputs = make_inputs(model, request.model, request.inputs, seed=request.seed)
        infer_shapes(model, inputs.value)
        return inputs

    if request.recipe is None and request.init is None and not request.overrides:
        model = build(request, with_values=True)
        return Start(model, None, inputs_for(model))
    deferred, made = make_plan(request, prepare=inputs_for)
    model = with_memory(deferred, made, request)
    inputs = inputs_for(model)
    made.apply(model)
    return Start(model, made, inputs)


def title(request: Request) -> str:
    """The model and its arguments."""
    arguments = f"({', '.join(request.arguments)})" if request.arguments else ""
    return f"{request.model}{arguments}"


def start_text(request: Request, made: Plan | None) -> str:
    """What the weights start from, as a label."""
    if made is None:
        return ""
    if request.recipe and not request.init:
        return made.recipe
    return " + ".join(filter(None, [request.recipe, request.init, *request.overrides]))


def start_notes(request: Request) -> tuple[str, ...]:
    """That they are the constructor's, where nothing else was asked for."""
    if request.recipe or request.init:
        return ()
    rest = " but for --set" if request.overrides else ""
    return (f"weights as the model's constructor makes them{rest}",)
