"""Vision transformer: one normal for matrices, one truncated normal for what is no module's."""

from __future__ import annotations

from dataclasses import dataclass

from fanin.fills import derived, truncated_moments
from fanin.initializers import Initializer, trunc_normal, zeros
from fanin.model import Site
from fanin.planning import Recipe, rule
from fanin.recipes.options import stated
from fanin.recipes.transformers_config import base_rules, check_positive, std_of

__all__ = ["vit"]

# In transformers, in timm and in torchvision.
_LEARNED = {
    "position embedding": ("position_embeddings", "pos_embed", "pos_embedding"),
    "class token": ("cls_token", "class_token"),
}
_BOUND = 2.0  # absolute, the default of torch's trunc_normal_: 100σ at 0.02


def vit(*, std: float | None = None) -> Recipe:
    """Matrices N(0, std²); position embeddings and class token N(0, std²) within ±2, mask zero.

    The bounds are absolute as in torch's ``trunc_normal_``, so at 0.02 nothing is cut off. Raw
    parameters are known by their names in transformers, timm and torchvision; one with another
    name is refused as uncovered.

    Args:
        std: of all of them; by default the config's ``initializer_range``, else 0.02.

    Returns:
        The recipe ``vit@1``.

    Raises:
        ArgumentError: when the std is not positive.

    Example:
        >>> print(vit(std=0.01))
        vit@1(std=0.01)

    Source: Dosovitskiy et al. 2020, arXiv:2010.11929; transformers 5.23, `ViTPreTrainedModel`.
    """
    check_positive("vit", std=std)
    # By name, since constructors fill them with random numbers: under `deferred` a rule by type
    # would take those for values of their own.
    learned = (
        rule(f"**.{name}", NormalWithinTwo(std), optional=True, label=label)
        for label, names in _LEARNED.items()
        for name in names
    )
    return Recipe(
        "vit",
        1,
        (
            *base_rules(std),
            *learned,
            rule("**.mask_token", zeros(), optional=True, label="mask token"),
        ),
        summary="normal, std = 0.02 or the config's, as transformers starts ViT",
        options=stated(vit, std=std),
    )


@dataclass(frozen=True, slots=True)
class NormalWithinTwo:
    """N(0, std²) within ±2, by `std_of`."""

    std: float | None

    def __call__(self, site: Site) -> Initializer:
        parent_std = std_of(site, self.std)
        bounds = (-_BOUND / parent_std, _BOUND / parent_std)
        return trunc_normal(std=derived(parent_std * truncated_moments(*bounds)[1]), bounds=bounds)
