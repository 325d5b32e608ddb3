"""Elementwise functions of normal variables, kept as what they are until a number is asked for."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from itertools import count

import torch
from torch import Tensor

from fanin.flow.moments.moments import Moments
from fanin.flow.moments.noise import Noise
from fanin.flow.moments.quadrature import Grid, grid
from fanin.flow.moments.shapes import Shape, shape_of

__all__ = ["Expression", "root"]

_MAX_ROOTS = 3  # a product rule over more variables costs more than it tells
_MAX_DEPTH = 40
_ORDER = count()


@dataclass(frozen=True, eq=False)
class Expression:
    """A tensor's entry as a function of independent normal variables, its roots.

    A root is an expression without ``inputs``: what a layer puts out, whose entries are sums of
    many independent terms. Everything elementwise stays exact; that a root is normal is the
    approximation (it holds for wide layers).

    Args:
        stated: a root's moments.
        function: of the inputs' values, for others.
        inputs: what the function is of.
        noise: a root's, see `Noise`.
        normalized: whether a norm has set the empirical second moment of a root's entries, so
            that it does not fluctuate.
        shape: of a root that is not normal itself but a function of a normal variable.
    """

    stated: Moments | None = None
    function: Callable[..., Tensor] | None = None
    inputs: tuple[Expression, ...] = ()
    noise_of_root: Noise = field(default_factory=Noise.none)
    normalized: bool = False
    shape: Shape | None = None
    order: int = field(default_factory=_ORDER.__next__)

    @cached_property
    def roots(self) -> tuple[Expression, ...]:
        """The normal variables, oldest first; and constants whose size is not known exactly."""
        if self.stated is not None:
            return (self,)
        every = {each.order: each for part in self.inputs for each in part.roots}
        return tuple(every[order] for order in sorted(every))

    @cached_property
    def depth(self) -> int:
        """The longest chain of functions."""
        return 1 + max((part.depth for part in self.inputs), default=0)

    @property
    def is_too_large(self) -> bool:
        """Whether a part of it has to be taken as a variable of its own."""
        return len(self.varying) > _MAX_ROOTS or self.depth > _MAX_DEPTH

    @property
    def is_root(self) -> bool:
        """Whether it is a variable of its own."""
        return self.stated is not None

    @property
    def varying(self) -> tuple[Expression, ...]:
        """The roots that are no constants."""
        return tuple(each for each in self.roots if each.moments.variance > 0)

    @cached_property
    def moments(self) -> Moments:
        """Of the values."""
        if self.stated is not None:
            return self.stated
        values, rule = self._values, self.grid
        second = rule.mean(values.square())
        pairs = rule.products(values, self.correlations, second)
        return Moments(rule.mean(values), second, *pairs)

    @cached_property
    def noise(self) -> Noise:
        """What the roots' noises come to, by the powers with which the second moment follows."""
        if self.stated is not None:
            return self.noise_of_root
        parts = [
            (power, each.noise_of_root)
            for power, each in zip(self._powers, self.varying, strict=True)
        ]
        for each in self.roots:
            if each.moments.variance == 0 and not each.noise_of_root.is_none:
                parts.append((self._power_of(each), each.noise_of_root))
        return Noise.combined(parts)

    @cached_property
    def power(self) -> float:
        """d log E f² / d log(variance) of all roots together."""
        if self.stated is not None:
            second = self.stated.second
            is_bell = self.shape is None and second > 0
            return self.stated.variance / second if is_bell else 1.0
        return sum(self._powers)

    @cached_property
    def slope(self) -> float:
        """How the correlation of two entries follows that of their roots, where it is small."""
        if self.stated is not None or self.moments.second <= 0:
            return 1.0
        weighted = self.grid.points @ (self.grid.weights * self._values)
        return float(weighted.square().sum()) / self.moments.second

    @property
    def alignment(self) -> float:
        """See `Noise`: what the function leaves of its roots', less where little is there."""
        before = self.noise.alignment
        return before * (1 - (1 - self.slope**2) * (1 - before))

    @cached_property
    def fluctuation(self) -> tuple[float, float, float, float]:
        """E x² x'² / (E x²)² - 1: of an entry with itself, and for the three pairs."""
        second = self.moments.second
        if second <= 0:
            return 0.0, 0.0, 0.0, 0.0
        if self.normalized:
            return 0.0, 0.0, 0.0, 0.0
        if self.stated is not None and self.shape is None:
            mean, variance = self.stated.mean, self.stated.variance
            own = (2 * variance**2 + 4 * variance * mean**2) / second**2
            neighbours, positions, samples = (
                (2 * (rho * variance) ** 2 + 4 * rho * variance * mean**2) / second**2
                for rho in self.stated.correlations
            )
            return own, neighbours, positions, samples
        squares = self._values.square() / second
        own = self.grid.mean(squares.square())
        pairs = self.grid.products(squares, self.correlations, own)
        # Lengths that are set do not vary, nor does what two entries have in common of them.
        known = [
            (2 * power**2, each.moments.correlations)
            for power, each in zip(self._powers, self.varying, strict=True)
            if each.normalized
        ]
        neighbours, positions, samples = (
            max(pair - 1 - sum(share * rho[at] ** 2 for share, rho in known), 0.0)
            for at, pair in enumerate(pairs)
        )
        own = max(own - 1 - sum(share for share, _ in known), 0.0)
        return own, neighbours, positions, samples

    def values(self, leaves: Mapping[Expression, Tensor]) -> Tensor:
        """The function at given values of the roots."""
        return self.all_values(leaves)[self]

    def all_values(self, leaves: Mapping[Expression, Tensor]) -> dict[Expression, Tensor]:
        """Likewise, with those of every part."""
        known = dict(leaves)
        for each in self.walk():
            if each not in known:
                known[each] = each(*(known[part] for part in each.inputs))
        return known

    def walk(self) -> Iterator[Expression]:
        """Every part, inputs before what is made of them, itself last."""
        seen: set[int] = set()
        stack = [(self, False)]
        while stack:
            each, is_ready = stack.pop()
            if is_ready:
                yield each
            elif each.order not in seen:
                seen.add(each.order)
                stack.append((each, True))
                stack.extend((part, False) for part in each.inputs)

    def __call__(self, *inputs: Tensor) -> Tensor:
        """The function of its inputs' values; a root is its mean where nothing was said of it."""
        if self.function is None:
            assert self.stated is not None
            return torch.full((1,), self.stated.mean, dtype=torch.float64)
        return self.function(*inputs)

    def on_grid(
        self, *, scale: Mapping[Expression, float] | None = None
    ) -> dict[Expression, Tensor]:
        """The roots' values at the points of the rule; constants times their scales."""
        points = self.grid.points
        leaves = {}
        varying = {each.order: at for at, each in enumerate(self.varying)}
        for each in self.roots:
            at = varying.get(each.order)
            moments = each.moments
            if at is None:
                factor = (scale or {}).get(each, 1.0)
                leaves[each] = torch.full_like(self.grid.weights, factor * moments.mean)
            elif each.shape is not None:
                leaves[each] = each.shape(points[at])
            else:
                leaves[each] = moments.mean + moments.std * points[at]
        return leaves

    @property
    def grid(self) -> Grid:
        """The rule over the roots that vary."""
        return grid(len(self.varying))

    @property
    def correlations(self) -> list[tuple[float, float, float]]:
        """Of the normal variables behind the roots that vary."""
        return [each._own_correlations for each in self.varying]

    def closed(self) -> Expression:
        """A new variable with the same moments, distribution and noise."""
        shape = shape_of(self._values, self.grid, self.moments) if self.varying else None
        return root(self.moments, noise=self.noise, shape=shape)

    @cached_property
    def _values(self) -> Tensor:
        return self.values(self.on_grid())

    @cached_property
    def _own_correlations(self) -> tuple[float, float, float]:
        moments = self.moments
        return self.shape.correlations(moments) if self.shape else moments.correlations

    @cached_property
    def _powers(self) -> tuple[float, ...]:
        """d log E f² / d log(variance) of each root that varies; of its square where shaped."""
        found = self.grid.sensitivities(self._values)
        if all(each.shape is None for each in self.varying) or self.moments.second <= 0:
            return found
        leaves = self.on_grid()
        points = [leaves[each].requires_grad_() for each in self.varying]
        with torch.enable_grad():
            values = self.values(leaves)
            slopes = torch.autograd.grad(
                values.sum(), points, materialize_grads=True, allow_unused=True
            )
        followed = (
            self.grid.mean(values.detach() * torch.nan_to_num(slope) * x.detach())
            / self.moments.second
            for slope, x in zip(slopes, points, strict=True)
        )
        return tuple(
            by_scale if each.shape is not None else by_variance
            for each, by_scale, by_variance in zip(self.varying, followed, found, strict=True)
        )

    def _power_of(self, constant: Expression) -> float:
        """d log E f² / d log c², by a small difference."""
        step = 1e-4
        values = self.values(self.on_grid(scale={constant: 1 + step}))
        changed = self.grid.mean(values.square())
        second = self.moments.second
        if changed <= 0 or second <= 0:
            return 0.0
        return math.log(changed / second) / (2 * math.log1p(step))


def root(
    moments: Moments,
    *,
    noise: Noise | None = None,
    normalized: bool = False,
    shape: Shape | None = None,
) -> Expression:
    """A new variable."""
    return Expression(
        stated=moments, noise_of_root=noise or Noise.none(), normalized=normalized, shape=shape
    )
