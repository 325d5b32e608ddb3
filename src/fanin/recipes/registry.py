"""Recipes by name and version."""

from __future__ import annotations

from fanin.errors import UnknownNameError, one_of
from fanin.planning import Recipe
from fanin.recipes.kaiming import kaiming
from fanin.recipes.torch_default import torch_default
from fanin.recipes.xavier import xavier

__all__ = ["get_recipe", "known_recipes"]

_RECIPES = (kaiming, torch_default, xavier)


def known_recipes() -> tuple[Recipe, ...]:
    """Every recipe that has a name, in alphabetical order."""
    return _RECIPES


def get_recipe(name: str) -> Recipe:
    """The recipe called ``name`` (its latest version) or ``name@version``.

    Raises:
        UnknownNameError: for any other name; the message lists the known ones.

    Example:
        >>> print(get_recipe("kaiming"))
        kaiming@1
    """
    for recipe in reversed(_RECIPES):
        if name in (recipe.name, f"{recipe.name}@{recipe.version}"):
            return recipe
    known = one_of(name, (f"{recipe.name}@{recipe.version}" for recipe in _RECIPES))
    raise UnknownNameError(f"recipe: one of a closed list. Got {name!r}. {known}")
