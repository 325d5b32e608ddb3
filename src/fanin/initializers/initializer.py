"""`Initializer`, what a parameter should hold before its shape is known; and their registry."""

from __future__ import annotations

import inspect
import math
import numbers
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, TypeAlias

from fanin.errors import ArgumentError, LayoutError, UnknownNameError, one_of
from fanin.fills import Fill, Part, packed
from fanin.geometry import Layout

__all__ = ["BUILDERS", "WORDS", "Initializer", "build", "check_numbers", "register", "value_text"]

Resolver: TypeAlias = Callable[..., Fill]

WORDS = {"true": True, "false": False, "none": None}  # of the text form; others are strings


@dataclass(frozen=True, slots=True, repr=False)
class Initializer:
    """A description: the name of a builder and all of its arguments.

    Stateless and hashable: one initializer serves any number of parameters, and two that describe
    the same are equal. ``str`` is its text form, which `fanin.parse` reads.

    Args:
        name: of a registered builder.
        arguments: its arguments by name, in the order of its signature.

    Example:
        >>> from fanin.initializers import kaiming_normal
        >>> kaiming_normal(nonlinearity="gelu")
        kaiming_normal(nonlinearity=gelu)
        >>> kaiming_normal() == kaiming_normal(nonlinearity="relu")
        True
    """

    name: str
    arguments: tuple[tuple[str, Any], ...] = ()

    def __post_init__(self) -> None:
        arguments = tuple((key, _builtin(value)) for key, value in self.arguments)
        object.__setattr__(self, "arguments", arguments)

    def resolve(self, layout: Layout) -> Fill:
        """The fill with numbers in it, for a parameter of this layout.

        Each packed part gets the fill of its own layout, unless all hold one constant.

        Raises:
            LayoutError: when the initializer needs axes that the layout does not have.
        """
        if not layout.parts:
            return self._resolve_one(layout)
        parts = [
            Part(name, start, stop, self._resolve_one(part))
            for name, start, stop, part in layout.split()
        ]
        return packed(layout.part_dim, parts, size=layout.shape[layout.part_dim])

    def to_json(self) -> dict[str, Any]:
        """Name and arguments as plain data.

        Raises:
            ArgumentError: when an argument is a function, which has no text.
        """
        return {"name": self.name, **{key: self._plain(key, arg) for key, arg in self.arguments}}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Initializer:
        """The initializer that `to_json` wrote."""
        arguments = {key: _lively(value) for key, value in data.items() if key != "name"}
        return build(str(data.get("name", "")), (), arguments)

    def __str__(self) -> str:
        parameters = inspect.signature(BUILDERS[self.name]).parameters
        stated = [
            f"{key}={value_text(value)}"
            for key, value in self.arguments
            if value != parameters[key].default
        ]
        return f"{self.name}({', '.join(stated)})"

    __repr__ = __str__

    def _resolve_one(self, layout: Layout) -> Fill:
        try:
            return _RESOLVERS[self.name](layout, **dict(self.arguments))
        except LayoutError as error:
            raise LayoutError(f"{self.name}: {error}") from None

    def _plain(self, key: str, value: Any) -> Any:
        if isinstance(value, Initializer):
            return value.to_json()
        if callable(value):
            raise ArgumentError(
                f"{self.name}: only named arguments can be written down. Got {value!r} for {key}. "
                "Name a known nonlinearity, or pass its gain as a number."
            )
        if isinstance(value, float) and math.isinf(value):
            return str(value)  # JSON has no infinity
        return [self._plain(key, item) for item in value] if isinstance(value, tuple) else value


_BUILDERS: dict[str, Callable[..., Initializer]] = {}
_RESOLVERS: dict[str, Resolver] = {}
BUILDERS: Mapping[str, Callable[..., Initializer]] = MappingProxyType(_BUILDERS)


def register(builder: Callable[..., Initializer], resolver: Resolver) -> None:
    """Make a builder known by its name.

    Args:
        builder: returns ``Initializer(name, arguments)``; its first docstring line describes it.
        resolver: ``resolver(layout, **arguments)`` returns the fill.

    Raises:
        ArgumentError: when the name is taken.
    """
    name = builder.__name__
    if name in _BUILDERS:
        raise ArgumentError(f"register: a name is given once. Got {name!r} again. Choose another.")
    _BUILDERS[name] = builder
    _RESOLVERS[name] = resolver


def build(name: str, positional: Iterable[Any], named: Mapping[str, Any]) -> Initializer:
    """Call a builder by name.

    Raises:
        UnknownNameError: when there is no such initializer.
        ArgumentError: when it does not take these arguments.
    """
    if name not in _BUILDERS:
        raise UnknownNameError(
            f"initializer: the name of a known one. Got {name!r}. {one_of(name, _BUILDERS)}"
        )
    builder = _BUILDERS[name]
    signature = inspect.signature(builder)
    for key in named:
        if key not in signature.parameters:
            takes = one_of(key, signature.parameters) if signature.parameters else "It takes none."
            raise UnknownNameError(f"{name}: the name of an argument. Got {key!r}. {takes}")
    try:
        bound = signature.bind(*positional, **named)
        return builder(*bound.args, **bound.kwargs)
    except TypeError as error:
        bare = [p.replace(annotation=p.empty) for p in signature.parameters.values()]
        raise ArgumentError(f"{name}: {error}. Write {name}{inspect.Signature(bare)}.") from None


def check_numbers(name: str, **arguments: Any) -> None:
    """Refuse what is no finite number."""
    for key, value in arguments.items():
        if isinstance(value, bool) or not _is_finite(value):
            raise ArgumentError(f"{name}: {key} is a finite number. Got {value!r}. Pass a float.")


def _is_finite(value: Any) -> bool:
    try:
        return isinstance(value, numbers.Real) and math.isfinite(value)
    except OverflowError:  # an int or a fraction beyond every float
        return False


def _builtin(value: Any) -> Any:
    """Numbers of other libraries as Python's own, and lists as tuples: what text can say."""
    if isinstance(value, tuple | list):
        return tuple(map(_builtin, value))
    if isinstance(value, numbers.Integral):
        return value if isinstance(value, bool) else int(value)
    return float(value) if isinstance(value, numbers.Real) else value


def value_text(value: Any) -> str:
    """An argument in the text form that `parse` reads."""
    if isinstance(value, bool) or value is None:
        return str(value).lower()
    if isinstance(value, str):
        bare = value.isidentifier() and value.isascii() and value not in (*WORDS, "inf", "nan")
        return value if bare else f'"{value}"'
    if isinstance(value, tuple):
        return f"({', '.join(map(value_text, value))}{',' if len(value) == 1 else ''})"
    if callable(value):
        return f"<{getattr(value, '__name__', type(value).__name__)}>"
    return str(value)


def _lively(value: Any) -> Any:
    if isinstance(value, Mapping):
        return Initializer.from_json(value)
    if value in ("inf", "-inf"):
        return float(value)
    return tuple(_lively(item) for item in value) if isinstance(value, list) else value
