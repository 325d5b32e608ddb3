"""Recipes as TOML files: read and written without running any code."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from fanin.errors import ArgumentError
from fanin.planning import Recipe
from fanin.recipes.data import from_data, from_json, to_data

__all__ = ["from_toml", "load_recipe", "to_toml"]


def to_toml(recipe: Recipe) -> str:
    """The recipe as TOML text; `from_toml` reads back a recipe with the same plans.

    At the top stand ``name``, ``version``, ``summary`` and, where the first rules are those of a
    registered recipe, ``base`` in their stead (``base = "gpt2@1"``). ``[ties]`` maps aliases to
    owners. Each ``[[rules]]`` has ``init``, the text form of an initializer or ``"keep()"``, and
    what it selects by: ``name`` (a glob, or ``re:…``), ``type`` and ``within`` (class names or
    globs for them), ``parameter``, ``followed_by`` (names of functions or globs for them),
    ``part``; then ``exact``, ``optional``, ``stream``, ``label``, and the axes where it states
    them: ``in_axes``, ``out_axes``, ``batch_axes``, ``parts`` and the other fields of a `Layout`.
    A type is written as the name of its class, which also fits another class of that name.

    Args:
        recipe: rules with names and numbers in them, after those of a registered recipe or none.

    Returns:
        The text of a file.

    Raises:
        ArgumentError: for a rule with a function in it (a predicate, a function of the site) that
            belongs to no registered recipe; the message names it.

    Example:
        >>> from fanin.initializers import zeros
        >>> from fanin.recipes import get_recipe
        >>> print(to_toml(get_recipe("vgg") + {"head.*": zeros()}))
        name = "vgg"
        version = 1
        base = "vgg@1"
        <BLANKLINE>
        [[rules]]
        name = "head.*"
        init = "zeros()"
        <BLANKLINE>
    """
    data = to_data(recipe)
    ties, rules = data.pop("ties", {}), data.pop("rules", [])
    blocks = [_lines(data)]
    if ties:
        blocks.append(["[ties]", *_lines(ties)])
    blocks += [["[[rules]]", *_lines(rule)] for rule in rules]
    return "\n\n".join("\n".join(block) for block in blocks) + "\n"


def from_toml(text: str, *, source: str = "the text") -> Recipe:
    """The recipe that TOML text states, with the keys that `to_toml` lists. No code is run.

    Args:
        text: the content of a file.
        source: what messages call it.

    Returns:
        The recipe; where the name is the base's or absent, the base with rules appended.

    Raises:
        UnknownNameError: for an unknown key, base, initializer or argument, with near names.
        ArgumentError: when the text is no TOML, or a value is not what its key takes.

    Example:
        >>> text = '''
        ... base = "kaiming@1"
        ... [[rules]]
        ... name = "head.weight"
        ... init = "normal(std=0.01)"
        ... '''
        >>> print(from_toml(text))
        kaiming@1 + 1 rule
    """
    import tomllib

    try:
        data = tomllib.loads(text)
    except (tomllib.TOMLDecodeError, RecursionError) as error:
        raise ArgumentError(f"recipe: TOML was expected. Got {error} in {source}.") from error
    return from_data(data, source=source)


def load_recipe(path: str | os.PathLike[str]) -> Recipe:
    """The recipe in a file: JSON where its name ends in ``.json``, else TOML.

    Args:
        path: of a UTF-8 file.

    Raises:
        OSError: when the file cannot be read.
        ArgumentError: as `from_toml`; the message has the path.
    """
    file = Path(path)
    try:
        text = file.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise ArgumentError(f"recipe: a file is UTF-8 text. Got {error} in {file}.") from error
    read = from_json if file.suffix == ".json" else from_toml
    return read(text, source=str(file))


def _lines(table: Mapping[str, Any]) -> list[str]:
    return [f"{_key(key)} = {_value(value)}" for key, value in table.items()]


def _value(value: Any) -> str:
    if isinstance(value, str):
        return _text(value)
    if isinstance(value, list):
        return f"[{', '.join(map(_value, value))}]"
    if isinstance(value, Mapping):
        return f"{{ {', '.join(_lines(value))} }}"
    return str(value).lower() if isinstance(value, bool) else str(value)


def _key(key: str) -> str:
    return key if key.isidentifier() and key.isascii() else _text(key)


def _text(text: str) -> str:
    """A basic string; JSON escapes all that TOML wants escaped but DEL."""
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")
