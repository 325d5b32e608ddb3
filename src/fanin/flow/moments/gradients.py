"""How second moments of gradients come back through one operation."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from math import prod
from typing import NamedTuple, TypeAlias

from fanin.flow.graph import Value
from fanin.flow.moments.axes import Axes, Role, count
from fanin.flow.moments.moments import Moments

__all__ = ["Arrival", "Gradients", "Pullback", "gathered", "silent", "to_parameter"]

# Of the operation's outputs; those that get no gradient have the moments of 0.
Gradients: TypeAlias = Mapping[Value, Moments]


class Arrival(NamedTuple):
    """A contribution to a value's gradient; several to one value count as uncorrelated.

    Args:
        value: an input of the operation, or what it was computed from elementwise.
        gradient: moments of the contribution.
        is_passed_on: whether what lies behind the value has been told already.
    """

    value: Value
    gradient: Moments
    is_passed_on: bool = False


Pullback: TypeAlias = Callable[[Gradients], Sequence[Arrival]]


def silent() -> Moments:
    """Of no gradient."""
    return Moments.constant(0.0)


def gathered(gradient: Moments, axes: Axes, of_source: Axes) -> Moments:
    """Of the gradient of a tensor that was broadcast: the sum over what it was copied to.

    Args:
        gradient: with respect to each copy.
        axes: of the result.
        of_source: axes of what was copied; views of it count as itself.
    """
    copies = _size(axes) // max(_size(of_source), 1)
    if copies <= 1:
        return gradient
    samples = _copies(axes, of_source, "sample", copies)
    positions = _copies(axes, of_source, "position", copies // samples)
    # Different features' gradients are uncorrelated.
    others = copies / (samples * positions)
    second = others * positions * (gradient.second + (positions - 1) * gradient.positions)
    along = others * positions**2 * gradient.positions
    across = others * positions**2 * gradient.samples
    second = samples * (second + (samples - 1) * across)
    return Moments(0.0, second, along, along, samples**2 * across)


def _copies(axes: Axes, of_source: Axes, role: Role, copies: int) -> int:
    """How many samples, or positions, share one entry of the source."""
    number = count(axes, role) // count(of_source, role)
    return number if number >= 1 and copies % number == 0 else 1


def _size(axes: Axes) -> int:
    return prod(atom.size for dim in axes for atom in dim)


def to_parameter(gradient: Moments, axes: Axes, uses: float) -> Moments:
    """Of the gradient of one entry that is used for all samples and positions of a result.

    Args:
        gradient: of one use: what arrives, times what the entry is multiplied with.
        axes: of the result.
        uses: of one entry. Those beyond the samples and positions are uncorrelated.
    """
    samples, positions = count(axes, "sample"), count(axes, "position")
    along = positions * (gradient.second + (positions - 1) * gradient.positions)
    second = samples * (along + (samples - 1) * positions**2 * gradient.samples)
    others = uses / (samples * positions)
    return Moments.independent(mean=0.0, second=max(others * second, 0.0))
