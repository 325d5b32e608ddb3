"""A fill from the plain data that it wrote."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from fanin.errors import ArgumentError, UnknownNameError, one_of
from fanin.fills.composite import Packed, Part, Rearranged
from fanin.fills.elementwise import Constant, Normal, TruncNormal, Uniform
from fanin.fills.fill import Fill
from fanin.fills.functions import FromFunction, Mapped
from fanin.fills.structured import DeltaOrthogonal, Dirac, Eye, Orthogonal, Sparse

__all__ = ["fill_from_json"]

Functions = Mapping[str, Callable[..., Any]]

_KINDS: dict[str, type[Fill]] = {
    kind.name: kind
    for kind in (
        Constant,
        DeltaOrthogonal,
        Dirac,
        Eye,
        FromFunction,
        Mapped,
        Normal,
        Orthogonal,
        Packed,
        Rearranged,
        Sparse,
        TruncNormal,
        Uniform,
    )
}


def fill_from_json(data: Mapping[str, Any], *, functions: Functions | None = None) -> Fill:
    """The fill that `Fill.to_json` wrote.

    Args:
        data: its name and fields.
        functions: the users' functions that may occur, by `origin_of`; none is ever imported.

    Raises:
        UnknownNameError: for a kind of fill that does not exist.
        ArgumentError: for fields it does not have, and for a function that was not passed.
    """
    name = str(data.get("name"))
    if name not in _KINDS:
        raise UnknownNameError(f"fill: a known one. Got {name!r}. {one_of(name, _KINDS)}")
    given = {key: value for key, value in data.items() if key != "name"}
    try:
        return _KINDS[name](
            **{key: _value(key, value, functions or {}) for key, value in given.items()}
        )
    except (KeyError, TypeError) as error:
        raise ArgumentError(
            f"fill: the fields of {name!r}. Got {sorted(given)}: {error}."
        ) from None


def _value(key: str, value: Any, functions: Functions) -> Any:
    if key == "function":
        if value not in functions:
            raise ArgumentError(
                f"fill: data holds no code, so a function is passed by whoever reads it. Got none "
                f"for {value!r}. Pass it in functions=; another digest after the @ means that its "
                "text has changed since."
            )
        return functions[value]
    if value in ("inf", "-inf"):
        return float(value)
    if isinstance(value, Mapping):
        return fill_from_json(value, functions=functions)
    if isinstance(value, list):
        if key == "parts":
            return tuple(_part(item, functions) for item in value)
        return tuple(value)
    return value


def _part(data: Mapping[str, Any], functions: Functions) -> Part:
    fill = fill_from_json(data["fill"], functions=functions)
    return Part(str(data["name"]), int(data["start"]), int(data["stop"]), fill)
