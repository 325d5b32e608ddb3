"""T5: every matrix by what it sums over, and queries that make up for an unscaled attention."""

from __future__ import annotations

import math
from dataclasses import dataclass

from torch import nn

from fanin.errors import PlanError
from fanin.fills import derived
from fanin.initializers import Initializer, constant, normal, variance_scaling, zeros
from fanin.model import Site
from fanin.planning import Recipe, rule
from fanin.recipes.families import EMBEDDING, NORM, adds_one
from fanin.recipes.options import stated
from fanin.recipes.transformers_config import check_positive, from_config

__all__ = ["t5"]

_QUERY = "**.q.weight"
_TIES = {
    "encoder.embed_tokens.weight": "shared.weight",
    "decoder.embed_tokens.weight": "shared.weight",
    "lm_head.weight": "shared.weight",
}


def t5(
    *,
    factor: float | None = None,
    d_model: int | None = None,
    d_kv: int | None = None,
    query: str | tuple[str, ...] = _QUERY,
    tied: bool = True,
) -> Recipe:
    """Linear layers N(0, factor²/fan_in), queries N(0, factor²/(fan_in·d_kv)), embeddings N(0, 1).

    T5 does not divide the logits of its attention by sqrt(d_kv), so its queries start smaller by
    that much. A model without a parameter that fits ``query`` is refused. Relative position biases
    are N(0, factor²/d_model), and embeddings, the head and norms start with ``factor`` for 1.

    Args:
        factor: multiplies every std and the norms' weights; by default the config's
            ``initializer_factor``, else 1.
        d_model: width, for relative position biases; by default the config's.
        d_kv: width of one head, for queries; by default the config's.
        query: name patterns of the query projections; each fits something. ``()`` for a model
            whose attention divides by sqrt(d_kv), and for a part without attention.
        tied: the encoder's and decoder's embeddings and the head are ``shared.weight``. False for a
            model that keeps any of them apart, which is refused otherwise.

    Returns:
        The recipe ``t5@1``. Planning with it raises `PlanError` where ``d_model`` or ``d_kv`` is
        needed and neither given nor in a config.

    Raises:
        ArgumentError: when a number is not positive.

    Example:
        >>> import fanin
        >>> from torch import nn
        >>> attention = nn.ModuleDict({"q": nn.Linear(64, 64), "v": nn.Linear(64, 64)})
        >>> plan = fanin.plan(nn.ModuleList([attention]), t5(d_kv=16), seed=0)
        >>> [step.fill.std for step in plan.steps if step.name.endswith("weight")]
        [0.03125, 0.125]

    Source: Raffel et al. 2019, arXiv:1910.10683; transformers 5.23, `T5PreTrainedModel`.
    """
    check_positive("t5", factor=factor, d_model=d_model, d_kv=d_kv)

    lookup = Lookup(factor)
    patterns = (query,) if isinstance(query, str) else query
    return Recipe(
        "t5",
        1,
        (
            rule(NORM, NormScale(factor), parameter="weight", label="norm weight"),
            rule(NORM, zeros(), parameter="bias", label="norm bias"),
            rule(nn.Linear, ByFanIn(factor), parameter="weight", label="linear weight"),
            rule(nn.Linear, zeros(), parameter="bias", label="linear bias"),
            rule(EMBEDDING, lookup, parameter="weight", label="embedding"),
            rule("lm_head.weight", lookup, optional=True, label="embedding"),
            rule(
                "classifier.weight",
                lookup,
                within="T5ForTokenClassification",
                optional=True,
                label="token classifier",
            ),
            rule(
                "**.relative_attention_bias.weight",
                PositionBias(factor, d_model),
                optional=True,
                label="relative position bias",
            ),
            *(rule(pattern, Query(factor, d_kv), label="query") for pattern in patterns),
        ),
        ties=_TIES if tied else {},
        summary="normal by fan_in, queries smaller by sqrt(d_kv), embeddings N(0, 1) (Raffel 2019)",
        options=stated(t5, factor=factor, d_model=d_model, d_kv=d_kv, query=query, tied=tied),
    )


@dataclass(frozen=True, slots=True)
class _Scaled:
    """What grows with the factor: the one asked for, else the config's, else 1."""

    factor: float | None

    def factor_at(self, site: Site) -> float:
        given = self.factor
        return float(from_config(site, "initializer_factor") or 1.0) if given is None else given


class ByFanIn(_Scaled):
    """N(0, factor²/fan_in)."""

    def __call__(self, site: Site) -> Initializer:
        return variance_scaling(derived(self.factor_at(site) ** 2))


class Lookup(_Scaled):
    """N(0, factor²)."""

    def __call__(self, site: Site) -> Initializer:
        return normal(std=self.factor_at(site))


class NormScale(_Scaled):
    """The weight with which a norm scales by the factor."""

    def __call__(self, site: Site) -> Initializer:
        factor = self.factor_at(site)
        return constant(derived(factor - 1.0) if adds_one(site.module) else factor)


@dataclass(frozen=True, slots=True)
class Query(_Scaled):
    """N(0, factor²/(fan_in·d_kv))."""

    d_kv: int | None

    def __call__(self, site: Site) -> Initializer:
        return variance_scaling(derived(self.factor_at(site) ** 2 / _size(site, "d_kv", self.d_kv)))

    def __str__(self) -> str:  # in the error where no name fits
        return "query (option query= of t5)"


@dataclass(frozen=True, slots=True)
class PositionBias(_Scaled):
    """N(0, factor²/d_model)."""

    d_model: int | None

    def __call__(self, site: Site) -> Initializer:
        d_model = _size(site, "d_model", self.d_model)
        return normal(std=derived(self.factor_at(site) / math.sqrt(d_model)))


def _size(site: Site, option: str, given: int | None) -> int:
    size: int | None = from_config(site, option) if given is None else given
    if size is None:
        raise PlanError(
            f"t5: the std of {site.name!r} comes from {option}. Got none, and no config that "
            f"states it. Say t5({option}=64)."
        )
    return size
