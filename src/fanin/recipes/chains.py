"""Layers in a row without norms: what each should give, so that deviations stay deviations."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from fanin.flow import Operation, Trace
from fanin.flow.moments import Forward
from fanin.recipes.links import Growth, Link, links, weight_of

__all__ = ["Aim", "aims"]

_BOUND = math.log(2)
"""Along a chain a deviation of the second moment at most doubles, and a gradient's rms at most
doubles or halves: what [0.5, 2] allows."""

_REACH = 4  # targets from 2^-10 to 2^4: where functions are nearly linear, or nearly two lines
_STEPS = sorted((k / _REACH for k in range(-40, 17)), key=lambda k: (abs(k), -k))


@dataclass(frozen=True, slots=True)
class Aim:
    """What a layer should give.

    Args:
        second: its second moment.
        of_bias: the share of it that comes from its bias.
    """

    second: float
    of_bias: float = 0.0


def aims(forward: Forward, biases: Mapping[str, str]) -> dict[str, Aim]:
    """For layers in chains where a second moment of 1 and biases of 0 do not do.

    A layer solved for q gives q again for an input of q; for one that is off by a little it gives
    what is off by ``d log E f² / d log q`` times as much. GELU and SiLU have 1.14 and 1.17 there at
    q = 1, which is 1e3 after 50 layers. A bias with the share s of the variance leaves (1 - s) of
    it. The gradient grows by ``(1 - s) q E f'² / E f²`` a layer, 1.18 for tanh at q = 1: the
    target is the q nearest to 1 where neither is more than a factor of 2 over the whole chain.

    Args:
        forward: a finished pass over the model, in which layers give 1.
        biases: those of layers that have one, by the name of the weight.

    Source: Schoenholz et al. 2017, arXiv:1611.01232, eq. 5; Roberts, Yaida and Hanin 2021,
    arXiv:2106.10165, §5.3: GELU's and SiLU's critical points, which this finds for deep nets.
    """
    found: dict[str, Aim] = {}
    for chain in _chains(links(forward)):
        solved = _Chain(forward.trace, chain, biases)
        second = solved.target()
        for name in solved.givers:
            found[name] = Aim(second)
        for name, share in solved.shares(second).items():
            found[name] = Aim(found[name].second if name in found else 1.0, share)
    return {name: aim for name, aim in found.items() if aim != Aim(1.0)}


class _Chain:
    """Links that hang together."""

    def __init__(self, trace: Trace, chain: Sequence[Link], biases: Mapping[str, str]) -> None:
        self._links = chain
        self._names = {
            operation: weight_of(trace, operation)
            for link in chain
            for operation in (link.before, link.after)
        }
        self._biased = {o for o, name in self._names.items() if name in biases}

    @property
    def givers(self) -> list[str]:
        """The weights whose results go into a function of the chain."""
        names = (self._names[link.before] for link in self._links if link.curve is not None)
        return [name for name in dict.fromkeys(names) if name is not None]

    def target(self) -> float:
        """The second moment nearest to 1 that keeps what grows within bounds, or comes nearest."""
        tried: list[tuple[float, float]] = []
        for step in _STEPS:
            second = math.pow(2.0, step)
            excess = self._excess(second)
            if excess <= _BOUND + 1e-9:
                return second
            if abs(step) <= 2:  # std between 0.5 and 2: farther away only for what helps
                tried.append((round(excess, 6), second))
            if step == 0 and self._is_alike:
                return second
        return min(tried, key=lambda each: each[0])[1]

    def shares(self, second: float) -> dict[str, float]:
        """For each weight, the share of its layer's second moment that its bias should have."""
        power = self._power(second)
        found: dict[str, float] = {}
        for link in self._links:
            name = self._names[link.after]
            if power and name is not None and link.after in self._biased:
                share = -math.expm1(-power * max(_growth(link, second).length, 0.0))
                if share > 0:
                    found[name] = max(found.get(name, 0.0), share)
        return found

    @property
    def _is_alike(self) -> bool:
        """Whether the functions do the same at every second moment, as products of signals do."""
        return all(
            max(abs(a - b) for a, b in zip(_growth(link, 1.0), _growth(link, 0.5), strict=True))
            < 1e-3
            for link in self._links
        )

    def _excess(self, second: float) -> float:
        """The most that a deviation or a gradient grows or shrinks along the chain, a logarithm."""
        power = self._power(second)

        def length(link: Link) -> float:
            return _growth(link, second).length * self._left(link, second, power)

        def gradient(link: Link) -> float:
            growth = _growth(link, second)
            taken = growth.length * (1 - self._left(link, second, power))
            return (growth.gradient - taken) / 2

        along = self._longest(gradient)
        return max(self._longest(length), along, self._longest(lambda link: -gradient(link)))

    def _left(self, link: Link, second: float, power: float) -> float:
        """The part of a link's growth of lengths that biases leave."""
        takes = link.after in self._biased and _growth(link, second).length > 0
        return 1 - power if takes else 1.0

    def _power(self, second: float) -> float:
        """How much of the growth of lengths biases have to take, from 0 to 1."""
        whole = self._longest(lambda link: _growth(link, second).length)
        biased = self._longest(
            lambda link: (
                max(_growth(link, second).length, 0.0) if link.after in self._biased else 0.0
            )
        )
        if whole <= _BOUND or biased <= 0:
            return 0.0
        return min((whole - _BOUND) / biased, 1.0)

    def _longest(self, of_link: Callable[[Link], float]) -> float:
        """The largest sum along links that follow each other."""
        best: defaultdict[Operation, float] = defaultdict(float)
        for link in self._links:
            best[link.after] = max(best[link.after], best[link.before] + of_link(link))
        return max(best.values(), default=0.0)


def _growth(link: Link, second: float) -> Growth:
    return link.curve.at(second) if link.curve is not None else Growth(0.0, 0.0)


def _chains(found: Iterable[Link]) -> list[list[Link]]:
    """Links that share a layer, together; each chain in the order of execution."""
    chain_of: dict[Operation, list[Link]] = {}
    for link in found:
        first, second = (chain_of.setdefault(o, []) for o in (link.before, link.after))
        if first is not second:
            first.extend(second)
        first.append(link)
        for each in first:
            chain_of[each.before] = chain_of[each.after] = first
        chain_of[link.before] = chain_of[link.after] = first
    unique = {id(chain): chain for chain in chain_of.values()}
    return [sorted(chain, key=lambda link: link.after.index) for chain in unique.values()]
