"""Errors about rules in the words of the command line: what Python says by calls is typed here."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeAlias

from fanin.errors import FaninError

__all__ = ["worded"]

Words: TypeAlias = Callable[[str], str]


@contextmanager
def worded() -> Iterator[None]:
    """Errors that are raised inside advise --set and --recipe in place of calls.

    Raises:
        FaninError: the one that was raised, of its own kind.
    """
    try:
        yield
    except FaninError as error:
        text = _typed(str(error))
        if text == str(error):
            raise
        raise type(error)(text) from error


def _typed(message: str) -> str:
    for advice, words in _WORDS:
        found = re.search(advice, message)
        if found is not None:
            message = message[: found.start()] + words(message) + message[found.end() :]
    return message


def _fits_none(message: str) -> str:
    option = re.search(r"\(option (\w+)= of ([\w@]+)\)", message)
    if option is not None:
        return f"Say what it fits by --recipe '{option[2]}({option[1]}=...)', or take another one."
    return "Correct it in --set, or leave that out; in a recipe.toml, optional = true lets it be."


def _uncovered(message: str) -> str:
    name = _first(r"Got none for\n  (\S+)", message)
    content = _first(r"rule\(None, (\w+\(\))", message, otherwise="INIT")
    return f"Add one, as in --set '{name}={content}', or leave it as built: --set '{name}=keep()'."


def _without_fans(message: str) -> str:
    name = _first(r"asked for '([^']+)'", message)
    return f"Say --set '{name}=zeros()', or ones(), or keep() to leave it as it is built."


def _kept(message: str) -> str:
    name = _first(r"for '([^']+)'", message)
    return f"as it is built: --set '{name}=keep()'."


def _part(message: str) -> str:
    part = _first(r"rule\(\.\.\., (part='\w+')\)", message).replace("=", " = ")
    return f"Add one for the whole parameter before it in the recipe.toml, or one with {part}."


def _tied(message: str) -> str:
    return (
        "or drop the pair from ties in the recipe.toml: --recipe 'NAME(tied=False)' does so, too."
    )


def _first(pattern: str, message: str, *, otherwise: str = "NAME") -> str:
    found = re.search(pattern, message)
    return otherwise if found is None else found[1]


# What planning advises, as a pattern, and what to type instead.
_WORDS: tuple[tuple[str, Words], ...] = (
    (r"Correct the name; or say that it may fit none, .*optional=True\)\.", _fits_none),
    (r"Add one, as in recipe \+ .*keep\(\)\.", _uncovered),
    (r"Add one for the whole parameter before it, or rule\(\.\.\., part='\w+'\)\.", _part),
    (
        r"Match it with ones\(\) or zeros\(\), leave it with keep\(\), or .*Layout\(.*\)\.",
        _without_fans,
    ),
    (r"with keep\(\)\.", _kept),
    (r"or drop the pair from ties=, as recipes do with tied=False\.", _tied),
)
