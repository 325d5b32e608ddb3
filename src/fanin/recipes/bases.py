"""Which registered recipe a recipe extends, found by comparing rules."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from dataclasses import fields
from types import FunctionType
from typing import Any

from fanin.errors import ArgumentError
from fanin.planning import Match, Recipe, Rule
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
    if len(base.rules) > len(recipe.rules) or not base.ties.items() <= recipe.ties.items():
        return False
    return all(map(_same, recipe.rules, base.rules))


def _same(a: Any, b: Any) -> bool:
    """Whether two are equal, or functions that were made from one source with equal values."""
    if isinstance(a, FunctionType) and isinstance(b, FunctionType):
        return a.__code__ is b.__code__ and _same(_captured(a), _captured(b))
    if type(a) is not type(b):
        return False
    if isinstance(a, Rule | Match):
        return all(_same(getattr(a, field.name), getattr(b, field.name)) for field in fields(a))
    if isinstance(a, tuple):
        return len(a) == len(b) and all(map(_same, a, b))
    return bool(a == b)


def _captured(function: FunctionType) -> tuple[Any, ...]:
    """What a function brings along: values of the function around it, and defaults."""
    cells = tuple(cell.cell_contents for cell in function.__closure__ or ())
    return (cells, function.__defaults__, *sorted((function.__kwdefaults__ or {}).items()))
