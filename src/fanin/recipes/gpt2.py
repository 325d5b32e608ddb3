"""GPT-2: one normal for every matrix, smaller where a block writes to the residual stream."""

from __future__ import annotations

import math
from dataclasses import dataclass

from fanin.fills import derived
from fanin.initializers import Initializer, normal
from fanin.model import Site
from fanin.planning import Recipe, rule
from fanin.recipes.blocks import num_blocks
from fanin.recipes.options import stated
from fanin.recipes.transformers_config import base_rules, check_positive, from_config, std_of

__all__ = ["gpt2"]

_RESIDUAL = "**.c_proj.weight"
_NUM_LAYERS = ("n_layer", "num_hidden_layers", "num_layers", "n_layers")


def gpt2(
    *,
    std: float | None = None,
    residual: str | tuple[str, ...] = _RESIDUAL,
    num_layers: int | None = None,
    tied: bool = True,
) -> Recipe:
    """Matrices and embeddings N(0, std²); residual projections with std / sqrt(2·num_layers).

    Every block adds to the residual stream twice; the smaller std keeps the sum's variance from
    growing with depth. A model without a parameter that fits ``residual`` is refused: it would be
    started without what makes this GPT-2's scheme.

    Args:
        std: of matrices and embeddings; by default the config's ``initializer_range``, else 0.02.
        residual: name patterns of the projections that end a residual branch; each fits something.
            ``()`` for a part of a model that has none.
        num_layers: blocks of the whole model; by default the config's, else the length of the one
            list of blocks around the projection.
        tied: ``lm_head.weight`` is ``transformer.wte.weight``, also on a pipeline stage that holds
            only one of them. False for a model that keeps them apart, which is refused otherwise.

    Returns:
        The recipe ``gpt2@1``. Planning with it raises `PlanError` where the number of blocks is
        not to be found, or could be several.

    Raises:
        ArgumentError: when a number is not positive.

    Example:
        >>> import fanin
        >>> from torch import nn
        >>> def block():
        ...     return nn.ModuleDict({"up": nn.Linear(8, 32), "down": nn.Linear(32, 8)})
        >>> model = nn.ModuleList(block() for _ in range(8))
        >>> plan = fanin.plan(model, gpt2(std=0.08, residual="*.down.weight"), seed=0)
        >>> [round(s.fill.std, 6) for s in plan.steps if s.name in ("0.up.weight", "0.down.weight")]
        [0.08, 0.02]

    Source: Radford et al. 2019, Language models are unsupervised multitask learners, §2.3;
    transformers 5.23, `GPT2PreTrainedModel`.
    """
    check_positive("gpt2", std=std, num_layers=num_layers)
    patterns = tuple(residual) if isinstance(residual, tuple | list) else (residual,)
    projection = ResidualNormal(std, num_layers)
    return Recipe(
        "gpt2",
        1,
        (
            *base_rules(std),
            *(rule(pattern, projection, label="residual projection") for pattern in patterns),
        ),
        ties={"lm_head.weight": "transformer.wte.weight"} if tied else {},
        summary="normal, std = 0.02; residual projections 0.02 / sqrt(2·layers) (Radford 2019)",
        options=stated(gpt2, std=std, residual=residual, num_layers=num_layers, tied=tied),
    )


@dataclass(frozen=True, slots=True)
class ResidualNormal:
    """N(0, std²/(2·blocks))."""

    std: float | None
    num_layers: int | None

    def __call__(self, site: Site) -> Initializer:
        return normal(std=derived(std_of(site, self.std) / math.sqrt(2 * self._num_blocks(site))))

    def detail(self, site: Site) -> str:
        """What a plan shows after the rule's label."""
        return f"num_layers={self._num_blocks(site)}"

    def __str__(self) -> str:  # in the error where no name fits
        return "residual projection (option residual= of gpt2)"

    def _num_blocks(self, site: Site) -> int:
        return self.num_layers or from_config(site, *_NUM_LAYERS) or num_blocks(site)
