"""Which registered recipe a recipe extends, found by comparing rules."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress

from fanin.errors import ArgumentError
from fanin.planning import Recipe
from fanin.recipes.registry import build_recipe, known_recipes

__all__ = ["base_of"]


def base_of(recipe: Recipe) -> Recipe | None:
    """The registered recipe with the most rules that ``recipe`` begins with; None without any."""
    bases = (base for base in _candidates(recipe) if _begins_with(recipe, base))
    return max(bases, key=lambda base: len(base.rules), default=None)


def _candidates(recipe: Recipe) -> Iterator[Recipe]:
    """The registered recipe of this name, version and options first: it wins among equals."""
    with suppress(ArgumentError):  # nothing registered may be called that
        yield build_recipe(recipe.name, recipe.version, dict(recipe.options))
    yield from known_recipes()


def _begins_with(recipe: Recipe, base: Recipe) -> bool:
    is_like = base.derived == recipe.derived and base.ties.items() <= recipe.ties.items()
    return is_like and recipe.rules[: len(base.rules)] == base.rules
