"""What a forward and a backward pass leave behind, taken back."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from itertools import chain
from typing import Any

import torch
from torch import Tensor, nn

from fanin.model.construction.generators import generators_kept

__all__ = ["undisturbed"]


@contextmanager
def undisturbed(model: nn.Module) -> Iterator[None]:
    """Passes run inside; afterwards, also after an exception, everything is as it was.

    Taken back are the random generators (torch's on the CPU and on CUDA, Python's, NumPy's), the
    buffers with what they hold, ``.grad``, ``requires_grad`` and the hooks on parameters, the
    modules' training modes, grad mode and anomaly detection. Inside, hooks that act once a
    gradient is accumulated (an optimizer step in the backward pass) do not fire, NaN is no error
    of anomaly detection, and compiled modules run as they are written.

    Memory: a copy of the buffers. Not taken back is what a forward writes into parameters, and
    what it sets or adds besides: attributes that are no buffers, hooks, modules.

    Args:
        model: any module that runs as Python.
    """
    with ExitStack() as afterwards:
        afterwards.enter_context(generators_kept())
        for keep in (_buffers(model), _flags(model), _autocast()):
            afterwards.callback(keep)
        afterwards.callback(_gradients(set(model.parameters())))
        afterwards.enter_context(torch.inference_mode(False))  # grad mode is on inside
        is_on = torch.is_anomaly_enabled()
        afterwards.enter_context(torch.autograd.set_detect_anomaly(is_on, check_nan=False))
        if "torch._dynamo.eval_frame" in sys.modules:  # nothing is compiled without it
            afterwards.enter_context(torch.compiler.set_stance("force_eager"))
        yield


def _buffers(model: nn.Module) -> Callable[[], None]:
    """Which buffers each module has, and what is in them."""
    held = [(module, dict(module._buffers)) for module in model.modules()]
    present = {id(b): b for b in chain.from_iterable(d.values() for _, d in held) if b is not None}
    copies = [
        (buffer, buffer.detach().clone())
        for buffer in present.values()
        if buffer.layout == torch.strided
    ]

    def restore() -> None:
        for module, buffers in held:
            module._buffers.clear()
            module._buffers.update(buffers)
        for buffer, copy in copies:
            _write_back(buffer, copy)

    return restore


def _write_back(buffer: Tensor, copy: Tensor) -> None:
    """Through ``.data``: a graph that the user holds finds what it saved, at the same version."""
    if buffer.shape != copy.shape:
        buffer.data = copy
    elif not torch.equal(buffer, copy):
        buffer.data.copy_(copy)


def _flags(model: nn.Module) -> Callable[[], None]:
    """Training modes, and which parameters are frozen."""
    modes = [(module, module.training) for module in model.modules()]
    wanted = [(parameter, parameter.requires_grad) for parameter in model.parameters()]

    def restore() -> None:
        for module, training in modes:
            module.training = training
        for parameter, requires_grad in wanted:
            if parameter.requires_grad != requires_grad:  # inference tensors refuse to be told
                parameter.requires_grad_(requires_grad)

    return restore


def _autocast() -> Callable[[], None]:
    """Weights that autocast has cast are cached; those of a pass that is over are not reused."""
    return torch.clear_autocast_cache


def _gradients(leaves: set[Tensor]) -> Callable[[], None]:
    """``.grad`` is set aside, not copied; so are hooks, and the dictionary they live in."""
    held = [(leaf, leaf.grad, leaf._backward_hooks) for leaf in leaves]
    acting: list[tuple[dict[int, Any], dict[int, Any]]] = []
    for leaf in leaves:
        leaf.grad = None
        hooks = leaf._post_accumulate_grad_hooks
        if hooks:
            acting.append((hooks, dict(hooks)))
            hooks.clear()

    def restore() -> None:
        for leaf, gradient, hooks in held:
            leaf.grad = gradient
            if hooks is None and leaf._backward_hooks is not None:
                leaf._backward_hooks = None
        for emptied, content in acting:
            emptied.update(content)

    return restore
