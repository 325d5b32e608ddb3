"""What the dims of a tensor stand for, followed through views."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Literal, TypeAlias

__all__ = [
    "Atom",
    "Axes",
    "Role",
    "blended",
    "broadcast",
    "count",
    "even",
    "of_argument",
    "of_parameter",
    "of_role",
    "raised",
    "reshaped",
]

Role: TypeAlias = Literal["sample", "position", "feature", "entry", "copy"]


@dataclass(frozen=True, slots=True)
class Atom:
    """One meaning of a dim; a dim that was merged from several holds several.

    Args:
        role: sample of the batch, position in a sequence or picture, feature (channel, unit,
            head), entry of a parameter, or copy, of which all are the same.
        size: number of indices.
        profile: for positions, the second moment at each, relative to the mean over all; None
            where it is even. Zero padding makes the borders of a picture quieter.
    """

    role: Role
    size: int
    profile: tuple[float, ...] | None = None


Axes: TypeAlias = tuple[tuple[Atom, ...], ...]


def of_argument(shape: Sequence[int], *, channels_first: bool) -> Axes:
    """Of a model's argument: samples first, features second or last, positions elsewhere."""
    roles: list[Role] = ["position"] * len(shape)
    if shape:
        roles[min(1, len(shape) - 1) if channels_first else -1] = "feature"
        roles[0] = "sample"
    return tuple(of_role(role, size) for role, size in zip(roles, shape, strict=True))


def of_parameter(shape: Sequence[int]) -> Axes:
    """Of a parameter, whose entries are all drawn alike."""
    return tuple(of_role("entry", size) for size in shape)


def count(axes: Axes, role: Role) -> int:
    """How many indices of a role there are."""
    return math.prod(atom.size for dim in axes for atom in dim if atom.role == role)


def reshaped(axes: Axes, shape: Sequence[int]) -> Axes:
    """Of a view: dims merged, or cut along what they were merged from."""
    pending = [atom for dim in axes for atom in dim]
    result = []
    for size in shape:
        taken: list[Atom] = []
        while (length := math.prod(atom.size for atom in taken)) < size and pending:
            if size % length:
                return _unmatched(axes, shape)
            taken.append(_next(pending, size // length))
        if math.prod(atom.size for atom in taken) != size:
            return _unmatched(axes, shape)
        result.append(tuple(taken))
    return tuple(result)


def broadcast(operands: Sequence[Axes], shape: Sequence[int]) -> Axes:
    """Of the result of an elementwise function of tensors that broadcast."""
    result = []
    for dim, size in enumerate(shape):
        found: tuple[Atom, ...] = ()
        for axes in operands:
            at = dim - len(shape) + len(axes)
            candidate = axes[at] if at >= 0 else ()
            if math.prod(atom.size for atom in candidate) != size:
                continue
            if not found or all(atom.role in ("entry", "copy") for atom in found):
                found = candidate or found
        result.append(found or of_role("entry", size))
    return tuple(result)


def blended(axes: Axes, operands: Sequence[Axes], weights: Sequence[float]) -> Axes:
    """The axes of a sum, of operands that contribute these shares of its second moment."""
    result = []
    for dim, atoms in enumerate(axes):
        profiles = [_profile(each, dim - len(axes), atoms) for each in operands]
        if len(atoms) != 1 or all(profile is None for profile in profiles):
            result.append(atoms)
            continue
        flat = (1.0,) * atoms[0].size
        columns = zip(*(profile or flat for profile in profiles), strict=True)
        mixed = [sum(w * p for w, p in zip(weights, each, strict=True)) for each in columns]
        mean = sum(mixed) / len(mixed)
        profile = tuple(each / mean for each in mixed) if mean > 0 else None
        result.append((replace(atoms[0], profile=profile),))
    return tuple(result)


def raised(axes: Axes, power: float) -> Axes:
    """The axes of a function whose second moment follows this power of its input's."""
    return tuple(tuple(_raised(atom, power) for atom in dim) for dim in axes)


def _raised(atom: Atom, power: float) -> Atom:
    if atom.profile is None:
        return atom
    profile = [each**power if each > 0 else 0.0 for each in atom.profile]
    mean = sum(profile) / len(profile)
    return replace(atom, profile=tuple(each / mean for each in profile) if mean > 0 else None)


def _profile(axes: Axes, dim: int, like: tuple[Atom, ...]) -> tuple[float, ...] | None:
    if len(axes) < -dim or len(axes[dim]) != 1 or len(like) != 1:
        return None
    atom = axes[dim][0]
    return atom.profile if atom.size == like[0].size else None


def of_role(role: Role, size: int, profile: tuple[float, ...] | None = None) -> tuple[Atom, ...]:
    """A dim with one meaning; a dim of one index has none."""
    return (Atom(role, size, profile),) if size != 1 else ()


def even(axes: Axes) -> Axes:
    """The same, every position alike."""
    return tuple(tuple(replace(atom, profile=None) for atom in dim) for dim in axes)


def _next(pending: list[Atom], wanted: int) -> Atom:
    """The first atom, or as much of it as is wanted; the rest stays pending."""
    atom = pending.pop(0)
    if atom.size <= wanted or wanted < 1 or atom.size % wanted:
        return atom
    pending.insert(0, Atom(atom.role, atom.size // wanted))
    return Atom(atom.role, wanted)


def _unmatched(axes: Axes, shape: Sequence[int]) -> Axes:
    """Where sizes do not fit together: each dim gets the role that is next in order."""
    order: list[Role] = [atom.role for atom in _flat(axes)] or ["feature"]
    return tuple(of_role(order[min(dim, len(order) - 1)], size) for dim, size in enumerate(shape))


def _flat(axes: Axes) -> Iterator[Atom]:
    for dim in axes:
        yield from dim
