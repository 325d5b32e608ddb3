"""Recipes by name, version and options; built when they are asked for."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any

from fanin.errors import ArgumentError, UnknownNameError, one_of
from fanin.initializers.text import read_call
from fanin.planning import Recipe
from fanin.recipes.auto import auto
from fanin.recipes.bert import bert
from fanin.recipes.dcgan import dcgan
from fanin.recipes.gpt2 import gpt2
from fanin.recipes.kaiming import kaiming
from fanin.recipes.lecun import lecun
from fanin.recipes.llama import llama
from fanin.recipes.orthogonal import orthogonal
from fanin.recipes.resnet import resnet
from fanin.recipes.siren import siren
from fanin.recipes.t5 import t5
from fanin.recipes.torch_default import torch_default
from fanin.recipes.vgg import vgg
from fanin.recipes.vit import vit
from fanin.recipes.xavier import xavier

__all__ = ["RECIPES", "build_recipe", "get_recipe", "known_recipes"]

# The versions of each recipe, oldest first: the builder of version n is at n - 1.
_VERSIONS: dict[str, tuple[Callable[..., Recipe], ...]] = {
    "auto": (auto,),
    "bert": (bert,),
    "dcgan": (dcgan,),
    "gpt2": (gpt2,),
    "kaiming": (kaiming,),
    "lecun": (lecun,),
    "llama": (llama,),
    "orthogonal": (orthogonal,),
    "resnet": (resnet,),
    "siren": (siren,),
    "t5": (t5,),
    "torch_default": (torch_default,),
    "vgg": (vgg,),
    "vit": (vit,),
    "xavier": (xavier,),
}

RECIPES: Mapping[str, Callable[..., Recipe]] = MappingProxyType(
    {name: versions[-1] for name, versions in _VERSIONS.items()}
)


def get_recipe(text: str) -> Recipe:
    """The recipe that a text names: ``name``, ``name@version``, either with ``(option=value)``.

    Without a version it is the latest. Values are written as in `fanin.parse`; nothing is
    evaluated.

    Args:
        text: for instance ``"kaiming"``, ``"gpt2@1"`` or ``"resnet(zero_gamma=true)"``.

    Returns:
        A new recipe, equal to any other of the same name, version and options.

    Raises:
        UnknownNameError: for another name, version or option; the message has the nearest.
        ArgumentError: when the text cannot be read, or an option does not take the value.

    Example:
        >>> print(get_recipe("kaiming"), get_recipe("resnet@1(zero_gamma=true)"))
        kaiming@1 resnet@1(zero_gamma=true)
    """
    call = read_call(text, what="recipe", example="resnet@1(zero_gamma=true)")
    if call.positional:
        raise ArgumentError(
            f"recipe: an option is given by name. Got {call.positional[0]!r} in {text!r}. "
            f"Write {call.name}(option=value)."
        )
    return build_recipe(call.name, call.version, call.named)


def known_recipes() -> tuple[Recipe, ...]:
    """The latest version of every recipe that has a name, in alphabetical order."""
    return tuple(build_recipe(name) for name in sorted(_VERSIONS))


def build_recipe(
    name: str, version: int | None = None, options: Mapping[str, Any] | None = None
) -> Recipe:
    """The registered recipe of this name, version (default: the latest) and options."""
    versions = _VERSIONS.get(name, ())
    number = len(versions) if version is None else version
    if not 1 <= number <= len(versions):
        got = name if version is None else f"{name}@{version}"
        known = (f"{key}@{i + 1}" for key, made in _VERSIONS.items() for i in range(len(made)))
        raise UnknownNameError(f"recipe: one of a closed list. Got {got!r}. {one_of(got, known)}")
    builder = versions[number - 1]
    parameters = inspect.signature(builder).parameters
    for option, value in (options or {}).items():
        if option not in parameters:
            takes = one_of(option, parameters) if parameters else "It has none."
            raise UnknownNameError(f"recipe {name}: the name of an option. Got {option!r}. {takes}")
        if isinstance(parameters[option].default, bool) and not isinstance(value, bool):
            raise ArgumentError(
                f"recipe {name}: {option} is true or false. Got {value!r}. "
                f"Write {name}({option}=true)."
            )
    return builder(**(options or {}))
