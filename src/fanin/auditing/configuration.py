"""`[tool.fanin.audit]`: what a project's pyproject.toml says of audits."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

from fanin.auditing.allowance import Allowance, allowed
from fanin.auditing.findings import Audit
from fanin.errors import ArgumentError, one_of

__all__ = ["Configuration", "find_configuration", "load_configuration"]


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
    """That of the nearest pyproject.toml in a folder or above it; the defaults without one.

    Args:
        folder: the current one by default.
    """
    start = (folder or Path.cwd()).resolve()
    for place in (start, *start.parents):
        path = place / "pyproject.toml"
        if path.is_file():
            return load_configuration(path)
    return Configuration()


def load_configuration(path: Path) -> Configuration:
    """The table ``tool.fanin.audit`` of a TOML file; the defaults where it has none.

    Raises:
        ArgumentError: for a file that cannot be read, or a table that makes no sense.
    """
    try:
        content = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise ArgumentError(
            f"[tool.fanin.audit]: in a TOML file that can be read. Got {error} for {str(path)!r}."
        ) from error
    table = content.get("tool", {}).get("fanin", {}).get("audit", {})
    try:
        return _configuration(table)
    except ArgumentError as error:
        raise ArgumentError(f"{path}: {error}") from error


def _configuration(table: Mapping[str, Any]) -> Configuration:
    _check_keys("tool.fanin.audit", table, Configuration)
    found = Configuration()
    for key in ("select", "ignore"):
        if key in table:
            found = replace(found, **{key: _texts(f"tool.fanin.audit.{key}", table[key])})
    strict = table.get("strict", False)
    if not isinstance(strict, bool):
        raise ArgumentError(f"tool.fanin.audit.strict: true or false. Got {strict!r}.")
    allow = table.get("allow", [])
    if not isinstance(allow, list) or not all(isinstance(each, dict) for each in allow):
        raise ArgumentError(
            f"tool.fanin.audit.allow: tables. Got {allow!r}. Write [[tool.fanin.audit.allow]] "
            "above codes, names and reason."
        )
    return replace(found, strict=strict, allow=tuple(map(_allowance, allow)))


def _allowance(table: Mapping[str, Any]) -> Allowance:
    where = "tool.fanin.audit.allow"
    _check_keys(where, table, Allowance)
    reason = table.get("reason", "")
    if not isinstance(reason, str) or not reason.strip():
        raise ArgumentError(
            f'{where}: each has a reason. Got {dict(table)!r}. Add reason = "..." in a sentence.'
        )
    codes, names = (
        _texts(f"{where}.{key}", table.get(key, ["FAN" if key == "codes" else "**"]))
        for key in ("codes", "names")
    )
    return Allowance(codes, names, reason)


def _check_keys(where: str, table: Mapping[str, Any], kind: type) -> None:
    known = [each.name for each in fields(kind)]
    for key in table:
        if key not in known:
            raise ArgumentError(f"{where}: a key that is known. Got {key!r}. {one_of(key, known)}")


def _texts(where: str, value: Any) -> tuple[str, ...]:
    if isinstance(value, list) and all(isinstance(each, str) for each in value):
        return tuple(value)
    raise ArgumentError(f'{where}: a list of texts. Got {value!r}. As in ["FAN104"].')
