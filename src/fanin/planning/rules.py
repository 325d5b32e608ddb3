"""A rule: which parameters, and what they should hold."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import TypeAlias

from torch import nn

from fanin.errors import ArgumentError
from fanin.geometry import Layout
from fanin.initializers import BUILDERS, Initializer
from fanin.model import Entry, Site, matches, module_type
from fanin.planning.following import Following

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
# The axes that a rule states: with a shape, for any shape, or chosen for the site.
StatedLayout: TypeAlias = Layout | Callable[[Site], Layout]
# A module type, or a glob for the names of classes: nobody has to import transformers.
Kind: TypeAlias = type[nn.Module] | str


@dataclass(frozen=True, slots=True)
class Match:
    """Conditions on a parameter, all of which must hold.

    Args:
        name: pattern for a canonical name, alias or owner; see `fanin.model.globs.matches`.
        types: types of the module that registered the parameter, under its owner's name; text is
            a glob for the name of its class or of a base.
        exact: whether a subclass of ``types`` does not count.
        within: types of which one must be among the modules from the root down.
        parameter: glob for the attribute (``"weight"``, ``"bias_*"``).
        predicate: called with the owning `Site`.
        followed_by: globs for what its result goes into (`Trace.followed_by`), one of which fits.
    """

    name: str | None = None
    types: tuple[Kind, ...] = ()
    exact: bool = False
    within: tuple[Kind, ...] = ()
    parameter: str | None = None
    predicate: Callable[[Site], bool] | None = None
    followed_by: tuple[str, ...] = ()

    def __call__(self, entry: Entry, following: Following | None = None) -> bool:
        """Whether the entry meets every condition."""
        site, kind = entry.owner, module_type(entry.owner.module)
        return self.fits_kind(kind, site.attribute) and self.fits_place(entry, following)

    def fits_kind(self, kind: type[nn.Module], attribute: str) -> bool:
        """Whether parameters of this name in modules of this type may meet the conditions."""
        if self.types and not _is_kind(kind, self.types, exact=self.exact):
            return False
        return self.parameter is None or fnmatchcase(attribute, self.parameter)

    def fits_place(self, entry: Entry, following: Following | None = None) -> bool:
        """Whether the entry meets the conditions on its name, what it lies in, and itself.

        Args:
            entry: a parameter.
            following: tells what its result goes into; without it no condition on that is met.
        """
        site = entry.owner
        if self.name is not None and not any(matches(self.name, name) for name in entry.names):
            return False
        if self.within and not any(
            _is_kind(module_type(parent), self.within) for parent in site.parents
        ):
            return False
        if self.followed_by and not (following and self._fits_one(following(entry.names))):
            return False
        return self.predicate is None or bool(self.predicate(site))

    def _fits_one(self, functions: Iterable[str]) -> bool:
        return any(fnmatchcase(each, glob) for each in functions for glob in self.followed_by)

    def __str__(self) -> str:
        kinds = "|".join(map(_kind_name, self.types[:2]))
        kinds += "|…" if len(self.types) > 2 else ""
        where = ".".join(filter(None, [kinds, self.parameter]))
        inside = f"in {'|'.join(map(_kind_name, self.within))}" if self.within else ""
        test = getattr(self.predicate, "__name__", str(self.predicate)) if self.predicate else ""
        after = f"before {'|'.join(self.followed_by)}" if self.followed_by else ""
        return " ".join(filter(None, [self.name, where, inside, after, test]))


@dataclass(frozen=True, slots=True)
class Rule:
    """What the parameters that a match selects should hold; made by `rule`."""

    match: Match
    initializer: Content
    optional: bool = False
    stream: str | None = None
    part: str | None = None
    layout: StatedLayout | None = None
    label: str = ""

    @property
    def must_match(self) -> bool:
        """Whether it is an error when no parameter fits: a name was given, and not as optional."""
        return self.match.name is not None and not self.optional

    @property
    def where(self) -> str:
        """What the rule is called in a plan's table: its label, else its conditions."""
        return self.label or str(self.match)

    def where_at(self, site: Site) -> str:
        """`where`, with the ``detail`` of the site where the rule's function tells one."""
        detail = getattr(self.initializer, "detail", None)
        return f"{self.where} ({detail(site)})" if detail is not None else self.where

    def covers(self, part: str) -> bool:
        """Whether the rule speaks of this part of a packed parameter."""
        return self.part is None or fnmatchcase(part, self.part)

    @property
    def content_text(self) -> str:
        """The initializer's text, or the name of the function that chooses one."""
        content = self.initializer
        text = getattr(content, "__name__", None) if callable(content) else None
        return text or str(content)

    def __str__(self) -> str:
        part = f", part {self.part}" if self.part else ""
        return f"{self.match}{part} -> {self.content_text}"


def rule(
    match: str | type[nn.Module] | tuple[Kind, ...] | Callable[[Site], bool] | None,
    initializer: Content,
    *,
    type_name: str | tuple[str, ...] = (),
    parameter: str | None = None,
    part: str | None = None,
    within: Kind | tuple[Kind, ...] = (),
    followed_by: str | tuple[str, ...] = (),
    exact: bool = False,
    optional: bool = False,
    stream: str | None = None,
    layout: StatedLayout | None = None,
    label: str = "",
) -> Rule:
    """A rule for the parameters that fit ``match`` and every keyword that is given.

    Args:
        match: a name glob (``*`` one component, ``**`` any number) or ``"re:…"``; a module type or
            a tuple of them; a predicate on `Site`; None for any parameter.
        initializer: an initializer, `keep()`, or a function from the owning `Site` to an
            initializer.
        type_name: glob for the name of the module's class or of a base (``"*RMSNorm"``), or a tuple
            of them.
        parameter: glob for the parameter's own name (``"bias"``).
        part: glob for parts of a packed parameter (``"q"``; ``"f"``, an LSTM's forget gate): the
            rule is for these parts alone, and the last rule wins part by part.
        within: types, or globs for class names, of which one must enclose the parameter.
        followed_by: glob for what the parameter's result goes into (``"relu"``, ``"*norm"``,
            ``"add"`` for a residual stream; see `fanin.flow.Trace.followed_by`), or a tuple of
            them. A plan with such a rule needs ``example_inputs=``.
        exact: do not count subclasses of the type in ``match``.
        optional: a name that fits no parameter is no error.
        stream: name of the random stream, instead of the parameter's; for a rule that fits one.
        layout: the axes of the parameters, where no adapter knows them or knows better; without a
            shape it serves any: ``Layout(in_axes=(2,), out_axes=(1,), batch_axes=(0,))``.
        label: what a plan's table calls the rule.

    Returns:
        A `Rule`, to be appended to a recipe: ``recipe + rule(...)``.

    Raises:
        ArgumentError: when ``match`` is none of these, or nothing is matched on.

    Example:
        >>> from fanin.initializers import ones, zeros
        >>> print(rule(nn.Linear, zeros(), parameter="bias"))
        Linear.bias -> zeros()
        >>> print(rule(nn.LSTM, ones(), parameter="bias_ih_*", part="f"))
        LSTM.bias_ih_*, part f -> ones()
        >>> print(rule(nn.Linear, zeros(), parameter="weight", followed_by="add"))
        Linear.weight before add -> zeros()
    """
    name = match if isinstance(match, str) else None
    types: tuple[Kind, ...] = match if isinstance(match, tuple) else ()
    types += (match,) if isinstance(match, type) else ()
    types += (type_name,) if isinstance(type_name, str) else type_name
    predicate = None if isinstance(match, str | type | tuple) else match
    if match == () or not (predicate is None or callable(predicate)):
        raise ArgumentError(
            f"rule: match is a name pattern, a module type or a predicate. Got {match!r}."
        )
    if not isinstance(initializer, Initializer | Keep):
        _check_chooses(initializer, match)
    if part is not None and stream is not None:
        raise ArgumentError(
            f"rule: a stream is that of a whole parameter. Got stream={stream!r} for {part=}. "
            "Each part has a stream of its own, made from the parameter's."
        )
    conditions = Match(
        name=name,
        types=_kinds("match", types),
        exact=exact,
        within=_kinds("within", within if isinstance(within, tuple) else (within,)),
        parameter=parameter,
        predicate=predicate,
        followed_by=_functions(followed_by),
    )
    if conditions == Match(exact=exact):
        raise ArgumentError(
            "rule: a rule states what it matches. Got none of match, type_name, parameter, within "
            'and followed_by. Use "**" to match every parameter.'
        )
    if name is not None:
        matches(name, "")  # refuse a malformed pattern here, not when the plan is made
    return Rule(conditions, initializer, optional, stream, part, layout, label)


def _check_chooses(function: object, match: object) -> None:
    """Refuse what is no function that chooses an initializer."""
    if not callable(function):
        raise ArgumentError(
            f"rule: an initializer is a description such as zeros(), or keep(). "
            f"Got {function!r} for {match!r}."
        )
    for name, builder in BUILDERS.items():
        if function is builder:
            raise ArgumentError(
                f"rule: an initializer is what its builder returns. Got {function!r} for "
                f"{match!r}. Call it: {name}()."
            )


def _kinds(option: str, kinds: tuple[Kind, ...]) -> tuple[Kind, ...]:
    for kind in kinds:
        is_type = isinstance(kind, type) and issubclass(kind, nn.Module)
        if not (is_type or (isinstance(kind, str) and kind)):
            raise ArgumentError(
                f"rule: a type in {option}= is a subclass of nn.Module, or text that fits the name "
                f"of one. Got {kind!r}."
            )
    return kinds


def _functions(followed_by: str | tuple[str, ...]) -> tuple[str, ...]:
    globs = [followed_by] if isinstance(followed_by, str) else followed_by
    # An empty tuple says nothing; an empty list was made by somebody who meant to name some.
    is_several = isinstance(globs, tuple | list) and globs != []
    if not is_several or not all(isinstance(glob, str) and glob for glob in globs):
        raise ArgumentError(
            "rule: followed_by= is the name of a function, a glob for it, or a tuple of them. Got "
            f'{followed_by!r}. Write "relu", or ("relu", "gelu").'
        )
    return tuple(globs)


def _is_kind(kind: type, wanted: tuple[Kind, ...], *, exact: bool = False) -> bool:
    bases = (kind,) if exact else kind.__mro__
    return any(
        any(fnmatchcase(base.__name__, want) for base in bases)
        if isinstance(want, str)
        else want in bases
        for want in wanted
    )


def _kind_name(kind: Kind) -> str:
    return kind if isinstance(kind, str) else kind.__name__
