"""A rule: which parameters, and what they should hold."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import TypeAlias

from torch import nn

from fanin.errors import ArgumentError
from fanin.initializers import Initializer
from fanin.model import Entry, Site
from fanin.planning.globs import matches

__all__ = ["Content", "Keep", "Match", "Rule", "keep", "rule"]


@dataclass(frozen=True, slots=True)
class Keep:
    """Leaves a parameter as it is; see `keep`."""

    def __str__(self) -> str:
        return "keep()"


def keep() -> Keep:
    """Leave the parameters that a rule matches as they are: they count as covered.

    Example:
        >>> print(rule("head.**", keep()))
        head.** -> keep()
    """
    return Keep()


# What a rule asks for: an initializer, or a function that chooses one for the site.
Content: TypeAlias = Initializer | Keep | Callable[[Site], Initializer]


@dataclass(frozen=True, slots=True)
class Match:
    """Conditions on a parameter, all of which must hold.

    Args:
        name: pattern for a canonical name, alias or owner; see `fanin.planning.globs.matches`.
        types: types of the module that registered the parameter, under its owner's name.
        exact: whether a subclass of ``types`` does not count.
        within: types of which one must be among the modules from the root down.
        parameter: glob for the attribute (``"weight"``, ``"bias_*"``).
        predicate: called with the owning `Site`.
    """

    name: str | None = None
    types: tuple[type[nn.Module], ...] = ()
    exact: bool = False
    within: tuple[type[nn.Module], ...] = ()
    parameter: str | None = None
    predicate: Callable[[Site], bool] | None = None

    def __call__(self, entry: Entry) -> bool:
        """Whether the entry meets every condition."""
        site = entry.owner
        if self.types and not self._is_of_type(site.module):
            return False
        if self.within and not any(isinstance(parent, self.within) for parent in site.parents):
            return False
        if self.parameter is not None and not fnmatchcase(site.attribute, self.parameter):
            return False
        if self.name is not None and not any(matches(self.name, name) for name in entry.names):
            return False
        return self.predicate is None or bool(self.predicate(site))

    def _is_of_type(self, module: nn.Module) -> bool:
        return type(module) in self.types if self.exact else isinstance(module, self.types)

    def __str__(self) -> str:
        kinds = "|".join(kind.__name__ for kind in self.types[:2])
        kinds += "|…" if len(self.types) > 2 else ""
        where = ".".join(filter(None, [kinds, self.parameter]))
        inside = f"in {'|'.join(kind.__name__ for kind in self.within)}" if self.within else ""
        test = getattr(self.predicate, "__name__", str(self.predicate)) if self.predicate else ""
        return " ".join(filter(None, [self.name, where, inside, test]))


@dataclass(frozen=True, slots=True)
class Rule:
    """What the parameters that a match selects should hold; made by `rule`."""

    match: Match
    initializer: Content
    optional: bool = False
    stream: str | None = None
    label: str = ""

    @property
    def must_match(self) -> bool:
        """Whether it is an error when no parameter fits: a name was given, and not as optional."""
        return self.match.name is not None and not self.optional

    @property
    def where(self) -> str:
        """What the rule is called in a plan's table: its label, else its conditions."""
        return self.label or str(self.match)

    def __str__(self) -> str:
        content = self.initializer
        text = getattr(content, "__name__", None) if callable(content) else None
        return f"{self.match} -> {text or content}"


def rule(
    match: str | type[nn.Module] | tuple[type[nn.Module], ...] | Callable[[Site], bool] | None,
    initializer: Content,
    *,
    parameter: str | None = None,
    within: type[nn.Module] | tuple[type[nn.Module], ...] = (),
    exact: bool = False,
    optional: bool = False,
    stream: str | None = None,
    label: str = "",
) -> Rule:
    """A rule for the parameters that fit ``match`` and every keyword that is given.

    Args:
        match: a name glob (``*`` one component, ``**`` any number) or ``"re:…"``; a module type or
            a tuple of them; a predicate on `Site`; None for any parameter.
        initializer: an initializer, `keep()`, or a function from the owning `Site` to an
            initializer.
        parameter: glob for the parameter's own name (``"bias"``).
        within: types of which one must enclose the parameter.
        exact: do not count subclasses of the type in ``match``.
        optional: a name that fits no parameter is no error.
        stream: name of the random stream, instead of the parameter's; for a rule that fits one.
        label: what a plan's table calls the rule.

    Returns:
        A `Rule`, to be appended to a recipe: ``recipe + rule(...)``.

    Raises:
        ArgumentError: when ``match`` is none of these, or nothing is matched on.

    Example:
        >>> from fanin.initializers import zeros
        >>> print(rule(nn.Linear, zeros(), parameter="bias"))
        Linear.bias -> zeros()
    """
    name = match if isinstance(match, str) else None
    types = match if isinstance(match, tuple) else (match,) if isinstance(match, type) else ()
    selected = name is not None or bool(types)
    predicate = None if isinstance(match, str | type | tuple) else match
    if not (match is None or selected or callable(predicate)):
        raise ArgumentError(
            f"rule: match is a name pattern, a module type or a predicate. Got {match!r}."
        )
    if not all(isinstance(kind, type) and issubclass(kind, nn.Module) for kind in types):
        raise ArgumentError(f"rule: a type to match is a subclass of nn.Module. Got {match!r}.")
    if not isinstance(initializer, Initializer | Keep) and not callable(initializer):
        raise ArgumentError(
            f"rule: an initializer is a description such as zeros(), or keep(). "
            f"Got {initializer!r} for {match!r}."
        )
    conditions = Match(
        name=name,
        types=types,
        exact=exact,
        within=within if isinstance(within, tuple) else (within,),
        parameter=parameter,
        predicate=predicate,
    )
    if conditions == Match(exact=exact):
        raise ArgumentError(
            "rule: a rule states what it matches. Got none of match, parameter and within. "
            'Use "**" to match every parameter.'
        )
    if name is not None:
        matches(name, "")  # refuse a malformed pattern here, not when the plan is made
    return Rule(conditions, initializer, optional, stream, label)
