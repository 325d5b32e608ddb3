"""Llama and its kin (Mistral, Qwen2, Gemma): one normal for every matrix, without exceptions."""

from __future__ import annotations

from fanin.planning import Recipe
from fanin.recipes.options import stated
from fanin.recipes.transformers_config import base_rules, check_positive

__all__ = ["llama"]


def llama(*, std: float | None = None, tied: bool = False) -> Recipe:
    """Every matrix and embedding N(0, std²), norms one, or zero where they add one; biases zero.

    Rules go by module type and fit any model. A tied head needs no option where the whole model is
    at hand: the embedding comes first and owns the weight.

    Args:
        std: of matrices and embeddings; by default the config's ``initializer_range``, else 0.02.
        tied: ``lm_head.weight`` is ``model.embed_tokens.weight``, also on a pipeline stage that
            holds only one of them.

    Returns:
        The recipe ``llama@1``.

    Raises:
        ArgumentError: when a number is not positive.

    Example:
        >>> import fanin
        >>> from torch import nn
        >>> plan = fanin.plan(nn.Linear(4, 4, bias=False), llama(std=0.01), seed=0)
        >>> plan.steps[0].fill
        Normal(mean=0.0, std=0.01)

    Source: transformers 5.23, `LlamaPreTrainedModel`, which leaves all to its base class.
    """
    check_positive("llama", std=std)
    return Recipe(
        "llama",
        1,
        base_rules(std),
        ties={"lm_head.weight": "model.embed_tokens.weight"} if tied else {},
        summary="normal, std = 0.02 or the config's, as transformers starts Llama",
        options=stated(llama, std=std, tied=tied),
    )
