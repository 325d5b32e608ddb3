"""The axes of raw weights in Hugging Face's transformers, which is not imported for it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import nn

from fanin.geometry import Layout
from fanin.model.types import module_type

__all__ = ["transformers_layout"]


def transformers_layout(module: nn.Module, name: str) -> Layout | None:
    """The axes that a class of transformers is known for, or that stacked experts state."""
    for kind in module_type(module).__mro__:
        adapter = _adapter_of(kind)
        if adapter is not None:
            return adapter(module, name)
    return _stated_experts(module, name)


def _adapter_of(kind: type) -> Callable[[Any, str], Layout | None] | None:
    if not kind.__module__.startswith("transformers."):
        return None
    # The routers of mixtures: `F.linear` with a raw weight (experts, hidden), in every family.
    if kind.__name__.endswith(("TopKRouter", "TopkRouter")):
        return _router
    return _CLASSES.get(f"{kind.__module__.removeprefix('transformers.')}.{kind.__qualname__}")


def _conv1d(module: Any, name: str) -> Layout | None:
    """GPT-2's linear layer, whose weight is (in, out)."""
    if name == "weight":
        return Layout.linear_transposed(*module.weight.shape)
    return Layout.vector(*module.bias.shape) if name == "bias" else None


def _router(module: Any, name: str) -> Layout | None:
    if name == "weight":
        return Layout.linear(*module.weight.shape)
    return Layout.vector(*module.bias.shape) if name == "bias" else None


def _stated_experts(module: Any, name: str) -> Layout | None:
    """Stacks of `use_experts_implementation`, which writes on the instance how they lie."""
    stated = vars(module)
    if not {"is_transposed", "is_concatenated", "has_gate", "has_bias"} <= stated.keys():
        return None
    return _experts(
        module, name, is_transposed=module.is_transposed, has_halves=module.is_concatenated
    )


def _llama4_experts(module: Any, name: str) -> Layout | None:
    return _experts(module, name, is_transposed=True, has_halves=True)


def _experts(module: Any, name: str, *, is_transposed: bool, has_halves: bool) -> Layout | None:
    """A weight (experts, out, in), or (experts, in, out) when transposed, or a bias (experts, out).

    Where gate and up alternate row by row instead of lying in halves, no layout can say so, and
    fan_out would count both: the joint weight is left to a rule that states its axes.
    """
    if name not in _EXPERT_WEIGHTS and name not in _EXPERT_BIASES:
        return None
    is_joint = name.startswith("gate_up")
    shape = tuple(getattr(module, name).shape)
    if name in _EXPERT_BIASES:
        layout, out_dim = Layout.vector(*shape), 1
    elif is_joint and not has_halves:
        return None
    else:
        in_dim, out_dim = (1, 2) if is_transposed else (2, 1)
        layout = Layout(shape, in_axes=(in_dim,), out_axes=(out_dim,), batch_axes=(0,))
    return layout.packed(("gate", "up"), dim=out_dim) if is_joint and has_halves else layout


def _jetmoe_experts(module: Any, name: str) -> Layout | None:
    if name != "weight":
        return None
    return Layout(tuple(module.weight.shape), in_axes=(2,), out_axes=(1,), batch_axes=(0,))


_EXPERT_WEIGHTS = ("gate_up_proj", "up_proj", "down_proj")
_EXPERT_BIASES = ("gate_up_proj_bias", "up_proj_bias", "down_proj_bias")

# By path below `transformers`.
_CLASSES: dict[str, Callable[[Any, str], Layout | None]] = {
    "pytorch_utils.Conv1D": _conv1d,
    "models.llama4.modeling_llama4.Llama4TextExperts": _llama4_experts,
    "models.jetmoe.modeling_jetmoe.JetMoeParallelExperts": _jetmoe_experts,
}
