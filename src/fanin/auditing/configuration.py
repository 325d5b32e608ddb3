"""`[tool.fanin.audit]`: what a project's pyproject.toml says of audits."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fanin.auditing.allowance import Allowance, allowed
from fanin.auditing.checks import CHECKS
from fanin.auditing.findings import Audit
from fanin.auditing.selection import chosen_checks
from fanin.errors import ArgumentError, one_of
from fanin.model import matches

__all__ = ["Configuration", "find_configuration", "load_configuration"]

_TABLE = ("tool", "fanin", "audit")
_KEYS = ("select", "ignore", "strict", "allow")
_ALLOWANCE_KEYS = ("codes", "names", "reason")


@dataclass(frozen=True, slots=True)
class Configuration:
    """The defaults of a project.

    Args:
        select: codes, beginnings of codes or names to run; None runs all.
        ignore: likewise, to leave out.
        strict: whether warnings fail like errors.
        allow: findings that are meant.

    Example of a table::

        [tool.fanin.audit]
        ignore = ["FAN303"]
        strict = true

        [[tool.fanin.audit.allow]]
        codes = ["FAN103"]
        names = ["**.lora_B.weight"]
        reason = "the second factor starts at zero"
    """

    select: tuple[str, ...] | None = None
    ignore: tuple[str, ...] = ()
    strict: bool = False
    allow: tuple[Allowance, ...] = ()

    def applied(self, audit: Audit) -> Audit:
        """The audit without what is allowed."""
        return allowed(audit, self.allow)

    def fails(self, audit: Audit) -> bool:
        """Whether the audit has an error; when strict, whether it has an error or a warning."""
        return not audit.is_clean if self.strict else audit.has_errors


def find_configuration(folder: Path | None = None) -> Configuration:
    """That of the nearest pyproject.toml that has one, in a folder or above it; else the defaults.

    Args:
        folder: the current one by default.

    Raises:
        ArgumentError: for a file that cannot be read, or a table that makes no sense.
    """
    start = (folder or Path.cwd()).resolve()
    for place in (start, *start.parents):
        path = place / "pyproject.toml"
        table = _table(path) if path.is_file() else None
        if table is not None:
            return _named(path, table)
    return Configuration()


def load_configuration(path: Path) -> Configuration:
    """The table ``tool.fanin.audit`` of a TOML file.

    Raises:
        ArgumentError: for a file that cannot be read or has none, or a table that makes no sense.
    """
    table = _table(path)
    if table is None:
        raise ArgumentError(
            f"{path}: a table tool.fanin.audit. Got none. Add [tool.fanin.audit], or leave the "
            "file away for the defaults."
        )
    return _named(path, table)


def _table(path: Path) -> dict[str, Any] | None:
    """The table as it is written; None where there is none."""
    try:
        found: dict[str, Any] = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError, RecursionError) as error:
        reason = getattr(error, "strerror", None) or error
        raise ArgumentError(
            f"{path}: a TOML file that can be read, for [tool.fanin.audit]. Got: {reason}."
        ) from error
    for i, key in enumerate(_TABLE):
        if key not in found:
            return None
        inner = found[key]
        if not isinstance(inner, dict):
            name = ".".join(_TABLE[: i + 1])
            raise ArgumentError(f"{path}: {name}: a table. Got {inner!r}. Write [{name}].")
        found = inner
    return found


def _named(path: Path, table: Mapping[str, Any]) -> Configuration:
    try:
        return _configuration(table)
    except ArgumentError as error:
        raise type(error)(f"{path}: {error}") from error


def _configuration(table: Mapping[str, Any]) -> Configuration:
    where = ".".join(_TABLE)
    _check_keys(where, table, _KEYS)
    strict = table.get("strict", False)
    if not isinstance(strict, bool):
        raise ArgumentError(f"{where}.strict: true or false. Got {strict!r}. Write strict = true.")
    allow = table.get("allow", [])
    if not isinstance(allow, list) or not all(isinstance(each, dict) for each in allow):
        raise ArgumentError(
            f"{where}.allow: tables. Got {allow!r}. Write [[{where}.allow]] above codes, names and "
            "reason."
        )
    return Configuration(
        _codes(f"{where}.select", table["select"]) if "select" in table else None,
        _codes(f"{where}.ignore", table.get("ignore", [])),
        strict,
        tuple(_allowance(f"{where}.allow", each) for each in allow),
    )


def _allowance(where: str, table: Mapping[str, Any]) -> Allowance:
    _check_keys(where, table, _ALLOWANCE_KEYS)
    reason = table.get("reason", "")
    if not isinstance(reason, str) or not reason.strip():
        raise ArgumentError(
            f'{where}: each has a reason. Got {dict(table)!r}. Add reason = "..." in a sentence.'
        )
    if not {"codes", "names"} & set(table):
        raise ArgumentError(
            f"{where}: codes or names, or both. Got {dict(table)!r}. Say what is allowed."
        )
    codes = _codes(f"{where}.codes", table.get("codes", ["FAN"]))
    return Allowance(codes, _globs(f"{where}.names", table.get("names", ["**"])), reason)


def _check_keys(where: str, table: Mapping[str, Any], known: tuple[str, ...]) -> None:
    for key in table:
        if key not in known:
            raise ArgumentError(f"{where}: a key that is known. Got {key!r}. {one_of(key, known)}")


def _codes(where: str, value: Any) -> tuple[str, ...]:
    codes = _texts(where, value)
    chosen_checks(CHECKS, select=codes, asked=f"{where}: a list that")
    return codes


def _globs(where: str, value: Any) -> tuple[str, ...]:
    globs = _texts(where, value)
    try:
        for glob in globs:
            matches(glob, "")
    except ArgumentError as error:
        raise type(error)(f"{where}: {error}") from error
    return globs


def _texts(where: str, value: Any) -> tuple[str, ...]:
    is_list = isinstance(value, list) and all(isinstance(each, str) for each in value)
    if not is_list or (not value and not where.endswith("ignore")):  # which would match nothing
        raise ArgumentError(f'{where}: a list of texts. Got {value!r}. Write ["..."].')
    return tuple(value)
