"""`--init`: one initializer for all weights of a model, whatever they are called."""

from __future__ import annotations

from torch.nn.parameter import is_lazy

from fanin.initializers import Initializer, zeros
from fanin.model import Site
from fanin.planning import Recipe, Rule, keep, rule
from fanin.recipes.families import common_rules, is_norm

__all__ = ["AS_BUILT", "one_initializer"]

AS_BUILT = Recipe("as_built", 1, (rule("**", keep(), optional=True),))


def one_initializer(initializer: Initializer, *, alone: bool) -> tuple[Rule, ...]:
    """Rules for every parameter of two dims or more, but for biases and those of norms.

    Args:
        initializer: of the weights.
        alone: whether no recipe lies below it: then biases are zero, and norms, PReLU and the like
            start as in most recipes.
    """
    weights = rule(_is_weight, initializer, label="--init")
    if not alone:
        return (weights,)
    return (rule(_is_bias, zeros(), label="bias"), *common_rules(), weights)


def _is_weight(site: Site) -> bool:
    if site.is_buffer or is_norm(site.module) or "bias" in site.attribute:
        return False
    return is_lazy(site.tensor) or site.tensor.dim() >= 2


def _is_bias(site: Site) -> bool:
    return not site.is_buffer and "bias" in site.attribute
