"""A recipe: rules in order, of which the last that matches a parameter wins."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from fanin.planning.rules import Content, Rule, rule

__all__ = ["Recipe"]


@dataclass(frozen=True, slots=True)
class Recipe:
    """A named, versioned list of rules. Later rules win, so it is extended by appending.

    Args:
        name: what it is asked for by.
        version: counts changes of what it does; ``name@version`` never changes.
        rules: in order of precedence, the strongest last.
        ties: alias to owner, for parameters that two modules share.
        summary: one line for `fanin list recipes`.

    Example:
        >>> from fanin.initializers import ones, zeros
        >>> recipe = Recipe("flat", 1, (rule("**", zeros()),)) + {"*.scale": ones()}
        >>> print(recipe)
        flat@1 + 1 rule
    """

    name: str
    version: int
    rules: tuple[Rule, ...]
    ties: Mapping[str, str] = field(default_factory=dict)
    summary: str = ""
    num_added: int = 0

    def __add__(self, other: Rule | Recipe | Mapping[str, Content]) -> Recipe:
        """The recipe with one rule more, another recipe's rules, or a rule for each name glob."""
        ties = self.ties
        if isinstance(other, Rule):
            added: tuple[Rule, ...] = (other,)
        elif isinstance(other, Recipe):
            added, ties = other.rules, {**self.ties, **other.ties}
        elif isinstance(other, Mapping):
            added = tuple(rule(pattern, content) for pattern, content in other.items())
        else:
            return NotImplemented
        rules, count = (*self.rules, *added), self.num_added + len(added)
        return replace(self, rules=rules, ties=ties, num_added=count)

    def __str__(self) -> str:
        plural = "" if self.num_added == 1 else "s"
        added = f" + {self.num_added} rule{plural}" if self.num_added else ""
        return f"{self.name}@{self.version}{added}"
