"""The options of a recipe: those that were set, as its name shows them."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

__all__ = ["stated"]


def stated(builder: Callable[..., Any], **options: Any) -> tuple[tuple[str, Any], ...]:
    """The options that differ from the builder's defaults, in the order of its signature.

    Example:
        >>> def recipe(*, depth=2, zero_gamma=False): ...
        >>> stated(recipe, zero_gamma=True, depth=2)
        (('zero_gamma', True),)
    """
    parameters = inspect.signature(builder).parameters.values()
    return tuple(
        (parameter.name, options[parameter.name])
        for parameter in parameters
        if options[parameter.name] != parameter.default
    )
