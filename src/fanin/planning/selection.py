"""`only=` and `skip=`: which parameters are to be left as they are, and why."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Protocol, TypeAlias

from torch import nn

from fanin.errors import ArgumentError, PlanError
from fanin.model import Entry, buffers, is_literal, matches
from fanin.planning.coverage import near_names

__all__ = ["LoadResult", "Selection", "skipped_names"]


class LoadResult(Protocol):
    """What `load_state_dict(strict=False)` returns."""

    missing_keys: list[str]


Selection: TypeAlias = str | Iterable[str] | LoadResult | Mapping[str, Any] | None


def skipped_names(
    model: nn.Module,
    found: Sequence[Entry],
    *,
    only: Selection,
    skip: Selection,
    prefix: str = "",
) -> dict[str, str]:
    """Names of the entries to leave alone, each with the reason. A pattern must fit something."""
    if only is None and skip is None:
        return {}
    known = _Names(model, found, prefix)
    missing = _missing_keys(only)
    if missing is not None:
        known.check_keys(missing)
        reasons = {e.name: "loaded, not in missing_keys" for e in found if _is_loaded(e, missing)}
    elif only is not None:
        wanted = known.fitting("only", only)
        reasons = {e.name: "not in only=" for e in found if e.name not in wanted}
    else:
        reasons = {}
    return reasons | dict.fromkeys(known.fitting("skip", skip), "in skip=")


def _is_loaded(entry: Entry, missing: frozenset[str]) -> bool:
    """Whether a load reached it: under one name, as tied parameters are often stored once."""
    return any(
        site.stored and missing.isdisjoint(site.stored) for site in (entry.owner, *entry.others)
    )


def _missing_keys(selection: Any) -> frozenset[str] | None:
    """The keys that a load left out; None for what is no result of a load."""
    if isinstance(selection, Mapping):  # what transformers calls loading info
        keys = selection.get("missing_keys")
    else:
        keys = getattr(selection, "missing_keys", None)
    return None if keys is None else frozenset(keys)


class _Names:
    """Every name of a model's parameters, canonical or stored, and the names of its buffers."""

    def __init__(self, model: nn.Module, found: Sequence[Entry], prefix: str) -> None:
        self.found = found
        self.owners: dict[str, str] = {}
        for entry in found:
            for name in (*entry.names, *entry.stored):
                self.owners[name] = entry.name
        held = buffers(model, prefix=prefix)
        self.buffers = {name for site in held for name in (site.name, *site.stored)}

    def check_keys(self, keys: Iterable[str]) -> None:
        """Refuse keys that are not of this model's state dict."""
        foreign = sorted(key for key in keys if key not in self.owners and key not in self.buffers)
        if foreign:
            raise PlanError(
                "plan: only= takes what load_state_dict returned for this very model. Got the "
                f"missing key {foreign[0]!r}, which it does not have. Load into the model that is "
                "initialized, or initialize the part that was loaded."
            )

    def fitting(self, option: str, patterns: Any) -> set[str]:
        """The owners of all that fits any of the patterns."""
        if patterns is None:
            return set()
        if isinstance(patterns, str):
            patterns = [patterns]
        if not isinstance(patterns, Iterable):
            raise ArgumentError(f"plan: {option}= takes names and name patterns. Got {patterns!r}.")
        return {name for pattern in patterns for name in self._fitting_one(option, pattern)}

    def _fitting_one(self, option: str, pattern: Any) -> set[str]:
        if not isinstance(pattern, str):
            raise ArgumentError(f"plan: {option}= takes names and name patterns. Got {pattern!r}.")
        if is_literal(pattern):
            names = {self.owners[pattern]} if pattern in self.owners else set()
        else:
            names = {owner for name, owner in self.owners.items() if matches(pattern, name)}
        if names or pattern in self.buffers:  # a buffer that has a value keeps it
            return names
        is_module = any(name.startswith(f"{pattern}.") for name in self.owners)
        advice = f"For all of a module write '{pattern}.**'." if is_module else ""
        raise PlanError(
            f"plan: {option}= names parameters of the model. Got {pattern!r}, which fits none. "
            f"{advice or near_names(pattern, self.found)}"
        )
