"""Published schemes under the names they are asked for by, each with a version."""

from __future__ import annotations

from fanin.recipes.registry import get_recipe, known_recipes

__all__ = ["get_recipe", "known_recipes"]
