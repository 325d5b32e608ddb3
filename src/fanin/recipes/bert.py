"""BERT: one normal for every matrix, and a head that shares the word embeddings."""

from __future__ import annotations

from fanin.initializers import zeros
from fanin.planning import Recipe, rule
from fanin.recipes.options import stated
from fanin.recipes.transformers_config import base_rules, check_positive

__all__ = ["bert"]

_TIES = {
    "cls.predictions.decoder.weight": "bert.embeddings.word_embeddings.weight",
    "cls.predictions.decoder.bias": "cls.predictions.bias",
}


def bert(*, std: float | None = None, tied: bool = True) -> Recipe:
    """Every matrix and embedding N(0, std²), norms one, biases zero; the padding row is zero.

    The normal is not truncated: Google's original draws it with a truncation at 2σ, transformers
    without.

    Args:
        std: of matrices and embeddings; by default the config's ``initializer_range``, else 0.02.
        tied: the decoder of the head has the weight of the word embeddings and the head's bias.
            False for a model that keeps them apart, which is refused otherwise.

    Returns:
        The recipe ``bert@1``.

    Raises:
        ArgumentError: when a number is not positive.

    Example:
        >>> print(bert(std=0.01))
        bert@1(std=0.01)

    Source: Devlin et al. 2018, arXiv:1810.04805; transformers 5.23, `BertPreTrainedModel`.
    """
    check_positive("bert", std=std)
    return Recipe(
        "bert",
        1,
        (
            *base_rules(std),
            rule(("*LMPredictionHead",), zeros(), parameter="bias", label="head bias"),
        ),
        ties=_TIES if tied else {},
        summary="normal, std = 0.02 or the config's, tied head, as transformers starts BERT",
        options=stated(bert, std=std, tied=tied),
    )
