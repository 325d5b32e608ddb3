"""`trace`: the operations of a model's forward pass, from shapes alone."""

from __future__ import annotations

import sys
from contextlib import ExitStack
from typing import Any

import torch
from torch import nn
from torch.jit import ScriptModule

from fanin.errors import ArgumentError, TraceError
from fanin.flow.graph import Trace
from fanin.flow.rehearsal import Rehearsal
from fanin.model import sites
from fanin.model.construction.generators import generators_kept
from fanin.model.wrappers import unwrapped

__all__ = ["trace"]


def trace(model: nn.Module, example_inputs: Any) -> Trace:
    """What a model computes, operation by operation, without computing it.

    A copy of the model without memory runs one forward pass on inputs without values. Branches go
    as they go for these inputs and the model's training mode. Where a branch asks for a value that
    needs no parameter (a mask, a position), that value is computed. Composite functions, such as
    multi-head attention, appear as what they are made of; recurrent networks are one operation.
    A weight that a parametrization computes appears as a parameter. The model, its buffers and
    hooks and all random generators stay as they are; hooks of the user's do not run.

    Args:
        model: any module that runs as Python; also one without memory.
        example_inputs: a tensor; a tuple of positional arguments; a mapping of named ones.
            Tensors may lie deeper in them.

    Returns:
        A `Trace`.

    Raises:
        ArgumentError: when the model is no module, or a program of `torch.jit`.
        TraceError: when it has lazy parameters, cannot be copied, or does not run without values.

    Example:
        >>> net = nn.Sequential(nn.Linear(4, 8), nn.GELU(), nn.Linear(8, 2))
        >>> [operation.name for operation in trace(net, torch.empty(1, 4)).operations]
        ['linear', 'gelu', 'linear']
        >>> trace(net, torch.empty(1, 4)).followed_by("0.weight")
        ('gelu',)
    """
    model = _checked(model)
    with ExitStack() as around:
        around.enter_context(generators_kept())
        around.enter_context(torch.inference_mode(False))
        around.enter_context(torch.no_grad())
        rehearsal = Rehearsal(model, example_inputs)
        around.enter_context(torch.device("meta"))
        if "torch._dynamo.eval_frame" in sys.modules:  # nothing is compiled without it
            around.enter_context(torch.compiler.set_stance("force_eager"))
        return rehearsal.run()


def _checked(model: nn.Module) -> nn.Module:
    if not isinstance(model, nn.Module):
        raise ArgumentError(
            f"trace: the model is an nn.Module. Got {type(model).__name__}. Wrap a function in a "
            "module that calls it."
        )
    model = unwrapped(model)
    programs = [name for name, each in model.named_modules() if isinstance(each, ScriptModule)]
    if programs:
        raise ArgumentError(
            "trace: the modules run as Python, which a torch.jit program does not. Got one for "
            f"{programs[0] or 'the whole model'!r}. Trace the module it was made of."
        )
    lazy = [site.name for site in sites(model) if site.is_lazy]
    if lazy:
        shown = ", ".join(map(repr, lazy[:5])) + (" and more" if len(lazy) > 5 else "")
        raise TraceError(
            f"trace: every parameter has a shape. Got lazy ones: {shown}. Give them shapes with "
            "fanin.initialize(model, ..., example_inputs=...), or one forward pass."
        )
    return model
