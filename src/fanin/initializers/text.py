"""The text form of an initializer: ``kaiming_normal(nonlinearity=gelu)``, read without `eval`."""

from __future__ import annotations

import re
from typing import Any, NamedTuple, NoReturn

from fanin.errors import ArgumentError
from fanin.initializers.initializer import WORDS, Initializer, build

__all__ = ["Call", "parse", "read_call"]

_TOKEN = re.compile(
    r"""\s*(?:
      (?P<number>[+-]?(?:(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?|inf\b|nan\b))
    | (?P<name>[A-Za-z_]\w*)
    | (?P<string>"[^"]*"|'[^']*')
    | (?P<version>@\d{1,9})
    | (?P<mark>[(),=])
    | (?P<end>$)
    )""",
    re.VERBOSE,
)

_MOST_PARENTHESES = 64  # far above any use; each may take a level of the call stack


def parse(text: str) -> Initializer:
    """Read an initializer from its text form: ``parse(str(initializer)) == initializer``.

    ``name(value, key=value, …)``; a value is a number, a name, a quoted string, ``true``,
    ``false``, ``none``, a tuple ``(-2, 2)`` or another initializer. A name alone is a call
    without arguments.

    Args:
        text: one initializer.

    Returns:
        The description.

    Raises:
        UnknownNameError: when there is no initializer of this name; the message has the nearest.
        ArgumentError: when the text cannot be read; the message points at the column.

    Example:
        >>> print(parse("kaiming_normal(nonlinearity = gelu, mode='fan_out')"))
        kaiming_normal(nonlinearity=gelu, mode=fan_out)
        >>> parse("zeros") == parse("zeros()")
        True
    """
    reader = _Reader(text, "parse", "normal(std=0.02)")
    initializer = reader.initializer()
    reader.expect("end", "nothing more")
    return initializer


class Call(NamedTuple):
    """A call as it was written, with nothing looked up but the initializers in its arguments."""

    name: str
    version: int | None
    positional: tuple[Any, ...]
    named: dict[str, Any]


def read_call(text: str, *, what: str, example: str) -> Call:
    """Read ``name``, ``name@version`` or either with arguments, as `parse` reads them.

    Args:
        text: one call.
        what: begins an error's message.
        example: ends it.

    Raises:
        ArgumentError: when the text cannot be read; the message points at the column.

    Example:
        >>> read_call("siren@1(omega=30)", what="recipe", example="siren(omega=30)")
        Call(name='siren', version=1, positional=(), named={'omega': 30})
    """
    reader = _Reader(text, what, example)
    name = reader.expect("name", "a name")
    version = reader.version()
    positional, named = reader.arguments()
    reader.expect("end", "nothing more")
    return Call(name.text, version, tuple(positional), named)


class _Token(NamedTuple):
    kind: str
    text: str
    column: int


class _Reader:
    """A recursive-descent reader, one token ahead."""

    def __init__(self, text: str, what: str, example: str) -> None:
        if not isinstance(text, str):
            raise ArgumentError(
                f"{what}: text was expected. Got {text!r}. Write for instance {example!r}."
            )
        if text.count("(") > _MOST_PARENTHESES:
            raise ArgumentError(f"{what}: at most {_MOST_PARENTHESES} calls and tuples. Got more.")
        self.text = text
        self.what = what
        self.example = example
        self.next = self._scan(0)

    def initializer(self) -> Initializer:
        name = self.expect("name", "the name of an initializer")
        return build(name.text, *self.arguments())

    def version(self) -> int | None:
        if self.next.kind != "version":
            return None
        return int(self.expect("version", "a version").text[1:])

    def expect(self, kind: str, what: str) -> _Token:
        token = self.next
        if token.kind != kind:
            self._refuse(what)
        if kind != "end":
            self._advance()
        return token

    def arguments(self) -> tuple[list[Any], dict[str, Any]]:
        positional: list[Any] = []
        named: dict[str, Any] = {}
        if self.next.text != "(":
            return positional, named
        self._advance()
        while self.next.text != ")":
            token = self.next
            value = self._value()
            if token.kind == "name" and self.next.text == "=":
                self._advance()
                if token.text in named:
                    self._refuse("an argument that was not given before")
                named[token.text] = self._value()
            elif named:
                self._refuse("name=value after the first named argument")
            else:
                positional.append(value)
            self._separator()
        self._advance()
        return positional, named

    def _value(self) -> Any:
        token = self.next
        if token.text == "(":
            return self._tuple()
        if token.kind not in ("number", "name", "string"):
            self._refuse("a value")
        self._advance()
        if token.kind == "number":
            return _number(token.text)
        if token.kind == "string":
            return token.text[1:-1]
        if self.next.text == "(":
            return build(token.text, *self.arguments())
        return WORDS.get(token.text, token.text)

    def _tuple(self) -> tuple[Any, ...]:
        self._advance()
        items = []
        while self.next.text != ")":
            items.append(self._value())
            self._separator()
        self._advance()
        return tuple(items)

    def _separator(self) -> None:
        if self.next.text == ",":
            self._advance()
        elif self.next.text != ")":
            self._refuse("a comma or a closing parenthesis")

    def _advance(self) -> None:
        self.next = self._scan(self.next.column + len(self.next.text))

    def _scan(self, start: int) -> _Token:
        match = _TOKEN.match(self.text, start)
        if match is None or match.lastgroup is None:
            blank = len(self.text) - len(self.text[start:].lstrip())
            return _Token("unreadable", self.text[blank : blank + 1], blank)
        return _Token(match.lastgroup, match[match.lastgroup], match.start(match.lastgroup))

    def _refuse(self, what: str) -> NoReturn:
        found = self.next.text or "the end"
        raise ArgumentError(
            f"{self.what}: {what} was expected. Got {found!r} at column {self.next.column + 1} of\n"
            f"  {self.text}\n  {' ' * self.next.column}^\n"
            f"Write for instance {self.example}."
        )


def _number(text: str) -> float:
    try:
        return int(text)
    except ValueError:
        return float(text)
