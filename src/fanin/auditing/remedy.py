"""Fixes: code that draws some parameters anew, by the axes that their modules state."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from fanin.auditing.evidence import Evidence
from fanin.auditing.weights import Weight
from fanin.model import matches

__all__ = ["draw_again", "redraw", "redraw_all"]

_LISTED = 3  # names or patterns that still read well


def draw_again(evidence: Evidence, names: Sequence[str], initializer: str) -> str:
    """The call that gives parameters another start, and leaves the others as they are.

    Many names become patterns, if these fit nothing else.

    Args:
        evidence: of the model.
        names: of parameters, also of parts of packed ones: ``"attn.in_proj_weight[q]"``.
        initializer: as code, of `fanin.initializers`: ``"kaiming_normal()"``.
    """
    whole = list(dict.fromkeys(name.partition("[")[0] for name in names))
    chosen = _patterns(evidence, whole) if len(whole) > _LISTED else whole
    return f'fanin.initialize(model, {{"**": fanin.initializers.{initializer}}}, only={chosen!r})'


def redraw(names: Iterable[str], recipe: str = "kaiming") -> str:
    """The call that gives parameters the start that a recipe has for them.

    Args:
        names: of parameters, also of parts of packed ones.
        recipe: by its name.

    Example:
        >>> print(redraw(["0.weight"]))
        fanin.initialize(model, "kaiming", only=['0.weight'])
    """
    whole = list(dict.fromkeys(name.partition("[")[0] for name in names))
    return f'fanin.initialize(model, "{recipe}", only={whole!r})'


def redraw_all(weights: Sequence[Weight]) -> str:
    """Likewise for whole parameters, some of which may be raw ones that no recipe knows."""
    raw = [weight.name for weight in weights if weight.layout is None and not _is_norm(weight)]
    if not raw:
        return redraw(weight.name for weight in weights)
    rules = ", ".join(f"{name!r}: fanin.initializers.normal(std=0.02)" for name in raw)
    names = [weight.name for weight in weights]
    return f'fanin.initialize(model, fanin.get_recipe("kaiming") + {{{rules}}}, only={names!r})'


def _is_norm(weight: Weight) -> bool:
    """Whether recipes know it by the name of its class."""
    return weight.kind is not None and "Norm" in weight.kind.__name__


def _patterns(evidence: Evidence, names: list[str]) -> list[str]:
    """Globs with ``*`` for each number, where they fit these names alone; else the names."""
    patterns = list(dict.fromkeys(_pattern(name) for name in names))
    fitting = {name for name in evidence.by_name for each in patterns if matches(each, name)}
    return patterns if len(patterns) <= _LISTED and fitting <= set(names) else names


def _pattern(name: str) -> str:
    return ".".join("*" if part.isdigit() else part for part in name.split("."))
