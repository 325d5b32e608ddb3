"""A recipe: rules in order, of which the last that matches a parameter wins."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, TypeAlias

from fanin.errors import ArgumentError
from fanin.initializers.initializer import value_text
from fanin.planning.rules import Content, Rule, rule

if TYPE_CHECKING:
    from torch import nn

    from fanin.flow import Trace

__all__ = ["Derivation", "Recipe"]

Derived: TypeAlias = "Callable[[nn.Module, Trace], Iterable[Rule] | Derivation]"


@dataclass(frozen=True, slots=True)
class Derivation:
    """Rules that were derived from a trace, and what their reader should know of them.

    Args:
        rules: in order of precedence, the strongest last.
        notes: sentences; one that quotes a parameter's name is about that parameter.
    """

    rules: Iterable[Rule]
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Recipe:
    """A named, versioned list of rules. Later rules win, so it is extended by appending.

    Args:
        name: what it is asked for by.
        version: counts changes of what it does; ``name@version`` never changes.
        rules: in order of precedence, the strongest last.
        ties: alias to owner, for parameters that two modules share.
        summary: one line for `fanin list recipes`.
        num_added: how many of the rules, the last ones, were appended to it.
        options: name and value of what it was made with, where that is not the default.
        derived: gives rules from a model and its `Trace`, or a `Derivation` of rules and notes; all
            of them are weaker than ``rules``. A plan then needs ``example_inputs=``.

    Example:
        >>> from fanin.initializers import ones, zeros
        >>> recipe = Recipe("flat", 1, (rule("**", zeros()),)) + {"*.scale": ones()}
        >>> print(recipe)
        flat@1 + 1 rule
    """

    name: str
    version: int
    rules: tuple[Rule, ...]
    ties: Mapping[str, str] = field(default_factory=dict, hash=False)
    summary: str = ""
    num_added: int = 0
    options: tuple[tuple[str, Any], ...] = ()
    derived: Derived | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "ties", dict(self.ties))

    def __add__(self, other: Rule | Recipe | Iterable[Rule] | Mapping[str, Content]) -> Recipe:
        """The recipe with more rules: one, several, another recipe's, or one for each name glob."""
        ties = self.ties
        derived = self.derived
        if isinstance(other, Rule):
            added: tuple[Rule, ...] = (other,)
        elif isinstance(other, Recipe):
            added, ties = other.rules, {**self.ties, **other.ties}
            derived = _one_of_two(self, other)
        elif isinstance(other, Mapping):
            added = tuple(rule(pattern, content) for pattern, content in other.items())
        elif isinstance(other, Iterable):
            added = tuple(other)
            if not all(isinstance(each, Rule) for each in added):
                return NotImplemented
        else:
            return NotImplemented
        rules, count = (*self.rules, *added), self.num_added + len(added)
        return replace(self, rules=rules, ties=ties, num_added=count, derived=derived)

    @property
    def needs_trace(self) -> bool:
        """Whether what it does depends on how the model computes."""
        return self.derived is not None or any(each.match.followed_by for each in self.rules)

    def __str__(self) -> str:
        stated = ", ".join(f"{name}={value_text(value)}" for name, value in self.options)
        options = f"({stated})" if stated else ""
        plural = "" if self.num_added == 1 else "s"
        added = f" + {self.num_added} rule{plural}" if self.num_added else ""
        return f"{self.name}@{self.version}{options}{added}"

    def __repr__(self) -> str:
        return f"Recipe({self})"


def _one_of_two(recipe: Recipe, added: Recipe) -> Derived | None:
    """The function of two recipes that derives rules: those come first, so it is the first's."""
    if added.derived is not None and (recipe.rules or recipe.derived):
        raise ArgumentError(
            "recipe: rules from a trace come before all others. Got "
            f"{str(added)!r}, which derives rules, appended to {str(recipe)!r}. Append the other "
            "way round."
        )
    return recipe.derived or added.derived
