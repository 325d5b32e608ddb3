"""A recipe as plain data: what its TOML and JSON files hold, and what is read back from them."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import fields, replace
from typing import Any, NamedTuple

from fanin.errors import ArgumentError, FaninError, UnknownNameError, one_of
from fanin.geometry import Layout
from fanin.initializers import Initializer, from_function, mapped, parse
from fanin.planning import Keep, Recipe, Rule, keep, rule
from fanin.recipes.bases import base_of
from fanin.recipes.registry import get_recipe

__all__ = ["from_data", "from_json", "to_data", "to_json"]


def to_json(recipe: Recipe) -> str:
    """The recipe as JSON text, with the keys that `to_toml` lists.

    Raises:
        ArgumentError: as `to_toml`.
    """
    return json.dumps(to_data(recipe), indent=2, ensure_ascii=False)


def from_json(text: str, *, source: str = "the text") -> Recipe:
    """The recipe that `to_json` wrote; arguments and errors are those of `from_toml`."""
    try:
        data = json.loads(text)
    except (json.JSONDecodeError, RecursionError) as error:
        raise ArgumentError(f"recipe: JSON was expected. Got {error} in {source}.") from error
    return from_data(data, source=source)


def to_data(recipe: Recipe) -> dict[str, Any]:
    """The recipe as text, numbers, lists and tables; what is empty is left out.

    Raises:
        ArgumentError: for a rule with a function in it that belongs to no registered recipe.
    """
    base = base_of(recipe)
    known = base or Recipe("", 1, ())
    if recipe.derived != known.derived:
        raise ArgumentError(
            f"recipe: what is written down holds no functions. Got {recipe.derived!r}, by which "
            f"{str(recipe)!r} derives rules. Write the rules that are appended to it."
        )
    own = enumerate(recipe.rules[len(known.rules) :], start=len(known.rules) + 1)
    data = {
        "name": recipe.name,
        "version": recipe.version,
        "base": str(base) if base else "",
        "summary": recipe.summary if recipe.summary != known.summary else "",
        "ties": {alias: owner for alias, owner in recipe.ties.items() if alias not in known.ties},
        "rules": [_rule_data(each, f"rule {i} of {recipe}, {each.where!r}") for i, each in own],
    }
    return {key: value for key, value in data.items() if value not in ("", {}, [])}


def from_data(data: object, *, source: str) -> Recipe:
    """The recipe that `to_data` wrote.

    Args:
        data: a table.
        source: where it comes from, for messages.

    Raises:
        UnknownNameError: for an unknown key, base, initializer or argument.
        ArgumentError: for a value that its key does not take.
    """
    table = _checked(data, _RECIPE_KEYS, source)
    rules = tuple(
        _rule(one, f"rule {number} of {source}")
        for number, one in enumerate(table.get("rules", ()), start=1)
    )
    ties, summary = table.get("ties", {}), table.get("summary", "")
    if "base" not in table:
        if "name" not in table:
            raise ArgumentError(
                f"recipe: its name or its base is stated. Got neither in {source}. "
                'Write name = "mine".'
            )
        return Recipe(table["name"], table.get("version", 1), rules, ties, summary)
    with _located(source):
        base = get_recipe(table["base"])
    name, version = table.get("name", base.name), table.get("version", base.version)
    extended = base + Recipe(name, version, rules, ties)
    extended = replace(extended, summary=summary or base.summary)
    if (name, version) == (base.name, base.version):
        return extended
    return replace(extended, name=name, version=version, num_added=0, options=())


def _rule_data(one: Rule, where: str) -> dict[str, Any]:
    match, layout = one.match, one.layout
    for function in (match.predicate, one.initializer, layout):
        if callable(function):
            raise ArgumentError(
                f"recipe: what is written down holds no functions. Got {function!r} in {where}. "
                "Match by name or type, or append to a registered recipe."
            )
    data = {
        "name": match.name,
        "type": _kinds(match.types),
        "within": _kinds(match.within),
        "parameter": match.parameter,
        "followed_by": _kinds(match.followed_by),
        "part": one.part,
        "exact": match.exact,
        "optional": one.optional,
        "stream": one.stream,
        "label": one.label,
    }
    stated = {key: value for key, value in data.items() if value}
    axes = _layout_data(layout) if isinstance(layout, Layout) else {}
    with _located(where):
        return {**stated, **axes, "init": _init_text(one.initializer)}


def _init_text(content: object) -> str:
    if isinstance(content, Keep):
        return str(content)
    assert isinstance(content, Initializer)
    if content.name in (mapped.__name__, from_function.__name__):
        raise ArgumentError(
            f"recipe: what is written down holds no functions. Got {content}. Write the recipe "
            "without this rule, and append the rule in code to what is read."
        )
    content.to_json()  # refuses a nonlinearity that is a function
    return str(content)


def _kinds(kinds: tuple[type | str, ...]) -> str | list[str] | None:
    """Class names; one of them alone is no list."""
    names = [kind if isinstance(kind, str) else kind.__name__ for kind in kinds]
    return (names[0] if len(names) == 1 else names) if names else None


def _layout_data(layout: Layout) -> dict[str, Any]:
    """What differs from a layout without axes; both of its axes, so that there is something."""
    data: dict[str, Any] = {"in_axes": list(layout.in_axes), "out_axes": list(layout.out_axes)}
    for field in fields(Layout):
        value = getattr(layout, field.name)
        if value != field.default:
            data[field.name] = list(value) if isinstance(value, tuple) else value
    if layout.parts:
        names = [name for name, _ in layout.parts]
        is_equal = layout.parts == Layout().packed(names).parts
        data["parts"] = names if is_equal else dict(layout.parts)
    return data


def _rule(data: object, where: str) -> Rule:
    table = _checked(data, _RULE_KEYS, where)
    if "init" not in table:
        raise ArgumentError(
            f'recipe: a rule states its init. Got none in {where}. Write init = "zeros()".'
        )
    with _located(where):
        return _made(table)


def _made(table: dict[str, Any]) -> Rule:
    """The rule of a table that was checked; its remaining keys are those of `rule`."""
    axes = {key: table.pop(key) for key in _LAYOUT_KEYS if key in table}
    init = table.pop("init")
    return rule(
        table.pop("name", None),
        keep() if init in ("keep", str(keep())) else parse(init),
        type_name=_names(table.pop("type", ())),
        within=_names(table.pop("within", ())),
        followed_by=_names(table.pop("followed_by", ())),
        layout=_layout(axes) if axes else None,
        **table,
    )


def _names(kinds: str | Sequence[str]) -> tuple[str, ...]:
    return (kinds,) if isinstance(kinds, str) else tuple(kinds)


def _layout(data: dict[str, Any]) -> Layout:
    parts, dim = data.pop("parts", ()), data.pop("part_dim", 0)
    lists = {key: tuple(value) for key, value in data.items() if isinstance(value, list)}
    layout = Layout(**{**data, **lists})
    return layout.packed(parts, dim=dim) if parts else layout


@contextmanager
def _located(where: str) -> Iterator[None]:
    """An error that is raised inside says where it was found."""
    try:
        yield
    except FaninError as error:
        raise type(error)(f"{error}\nThis is in {where}.") from error


def _checked(data: object, keys: Mapping[str, _Value], where: str) -> dict[str, Any]:
    """A copy of the table, every key known and every value of the form that its key takes."""
    if not isinstance(data, Mapping):
        raise ArgumentError(f"recipe: a table was expected. Got {data!r} in {where}.")
    for key, value in data.items():
        if key not in keys:
            raise UnknownNameError(
                f"recipe: a key that is known. Got {key!r} in {where}. {one_of(key, keys)}"
            )
        if not keys[key].is_valid(value):
            raise ArgumentError(
                f"recipe: {key} is {keys[key].form}. Got {value!r} for {key} in {where}."
            )
    return dict(data)


class _Value(NamedTuple):
    """What a key takes: a test, and the words for it."""

    is_valid: Callable[[Any], bool]
    form: str


def _is_text(value: object) -> bool:
    return isinstance(value, str) and bool(value)


def _is_number(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _all(is_valid: Callable[[Any], bool]) -> Callable[[Any], bool]:
    return lambda value: isinstance(value, list) and all(map(is_valid, value))


def _table(is_valid: Callable[[Any], bool]) -> Callable[[Any], bool]:
    return lambda value: isinstance(value, Mapping) and all(map(is_valid, value.values()))


_TEXT = _Value(_is_text, "text")
_NAMES = _Value(lambda v: _is_text(v) or (_all(_is_text)(v) and bool(v)), "text, or a list of it")
_FLAG = _Value(lambda value: isinstance(value, bool), "true or false")
_NUMBER = _Value(_is_number, "a whole number")
_DIMS = _Value(_all(_is_number), "a list of dims such as [0, 1]")

_RECIPE_KEYS = {
    "name": _TEXT,
    "version": _Value(lambda value: _is_number(value) and value > 0, "a number from 1"),
    "base": _TEXT,
    "summary": _TEXT,
    "ties": _Value(_table(_is_text), "a table from alias to owner"),
    "rules": _Value(_all(lambda value: isinstance(value, Mapping)), "a list of tables"),
}
_LAYOUT_KEYS = {
    "shape": _DIMS,
    "in_axes": _DIMS,
    "out_axes": _DIMS,
    "batch_axes": _DIMS,
    "groups": _NUMBER,
    "stride": _NUMBER,
    "is_lookup": _FLAG,
    "padding_idx": _NUMBER,
    "parts": _Value(
        lambda v: _all(_is_text)(v) or _table(_is_number)(v), "a list of names, or a table of sizes"
    ),
    "part_dim": _NUMBER,
}
_RULE_KEYS = {
    "name": _TEXT,
    "type": _NAMES,
    "within": _NAMES,
    "parameter": _TEXT,
    "followed_by": _NAMES,
    "part": _TEXT,
    "exact": _FLAG,
    "optional": _FLAG,
    "stream": _TEXT,
    "label": _TEXT,
    "init": _TEXT,
    **_LAYOUT_KEYS,
}
