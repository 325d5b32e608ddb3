"""`Unblocked`: what zero weights alone keep from a gradient, found by another pass without them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call

from fanin.auditing.products import Products, products
from fanin.auditing.weights import Weight
from fanin.probing.measuring.gradients import Start, backward, start
from fanin.probing.measuring.isolation import undisturbed
from fanin.probing.measuring.tensors import copied

__all__ = ["Unblocked", "listed", "unblocked"]

_STD = 0.05
"""Of what stands in for the zeros: it moves outputs by more than rounding, and blows nothing up."""

_ROUNDS = 4
"""A zero behind another one (a gate before a head of zeros) gets its gradient a round later."""


@dataclass(frozen=True, slots=True, eq=False)
class Unblocked:
    """What the passes show with small values for the zeros that a gradient reaches.

    Args:
        causes: for each parameter that then gets a gradient, the zeros that kept it away.
        output: of the model then; None where nothing stood in for anything.
        zeros: the names of all that something stood in for.
        faint: parameters whose gradient is not 0 but too small for its dtype.
        cancelled: those whose gradient is 0 because terms of one size cancel, as two samples do.
    """

    causes: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    output: Any = None
    zeros: tuple[str, ...] = ()
    faint: frozenset[str] = frozenset()
    cancelled: frozenset[str] = frozenset()


def unblocked(
    model: nn.Module,
    weights: Sequence[Weight],
    inputs: object,
    *,
    loss: Callable[[Any], Tensor] | None,
    idle: Iterable[str],
    reached: Iterable[str],
) -> Unblocked:
    """Run the passes again on other values for the zeros; the model is left as it was.

    A zero counts if it gets a gradient itself, so that the first step moves it, and if it is a
    factor: other values of what is only added would raise any signal that has died. It is the
    cause of what the graph shows behind it. Two passes with the zeros as they are come first, whose
    gradients start at other sizes: uneven ones tell what only cancelled from what is 0, and louder
    ones what is too small.

    Args:
        model: without its wrappers.
        weights: of it.
        inputs: as for a probe.
        loss: as for a probe.
        idle: names of parameters whose gradient is 0.
        reached: names of those that have another one.
    """
    passes = _Passes(model, {w.name: w for w in weights if _is_trained(w)}, inputs, loss)
    zeros = [name for name, weight in passes.weights.items() if _is_zero(weight)]
    open_, live = [name for name in idle if name in passes.weights], set(reached)
    causes: dict[str, tuple[str, ...]] = {}
    values: dict[str, Tensor] = {}
    output: Any = None
    try:
        first = passes.run({}, open_, zeros=zeros)
        open_ = [name for name in open_ if name not in first.found]
        loud = passes.run({}, open_, is_loud=True).found if open_ else ()
        open_ = [name for name in open_ if name not in loud]
        able = [name for name in zeros if name not in first.products.added]
        for _ in range(_ROUNDS):
            new = [name for name in able if name in live - values.keys()]
            if not new or not (open_ or not values):
                break
            values |= {
                name: _small(passes.weights[name].tensor, len(values) + n)
                for n, name in enumerate(new)
            }
            then = passes.run(values, open_)
            output = then.output
            for name in then.found:
                multiply = first.products.factors.get(name, frozenset())
                factors = tuple(zero for zero in new if zero in multiply)
                causes |= {name: factors} if factors else {}
            open_ = [name for name in open_ if name not in then.found]
            live |= set(then.found)
    except Exception:  # a forward may check the very values; then nothing is known
        return Unblocked()
    return Unblocked(causes, output, tuple(values), frozenset(loud), frozenset(first.found))


def listed(names: Sequence[str]) -> str:
    """The first name, and how many more there are."""
    more = f" (and {len(names) - 1} more)" if len(names) > 1 else ""
    return f"{names[0]!r}{more}" if names else ""


@dataclass(frozen=True, slots=True, eq=False)
class _Passed:
    """The output, which of the parameters get a gradient, and what the graph shows of zeros."""

    output: Any
    found: tuple[str, ...] = ()
    products: Products = field(default_factory=Products)


@dataclass(frozen=True, slots=True, eq=False)
class _Passes:
    """A forward and a backward pass of a model, with other values for some parameters."""

    model: nn.Module
    weights: Mapping[str, Weight]
    inputs: object
    loss: Callable[[Any], Tensor] | None

    def run(
        self,
        values: Mapping[str, Tensor],
        asked: Sequence[str],
        *,
        zeros: Sequence[str] = (),
        is_loud: bool = False,
    ) -> _Passed:
        """Pass once.

        Args:
            values: that stand in, by name.
            asked: the parameters whose gradient is looked at.
            zeros: to be found in the graph.
            is_loud: whether gradients start so large that none is lost for its size.
        """
        owners = {id(self._parameter(name)): value for name, value in values.items()}
        tensors = {
            name: owners[id(parameter)]
            for name, parameter in self.model.named_parameters(remove_duplicate=False)
            if id(parameter) in owners
        }
        given = copied(self.inputs)
        args, kwargs = ((), given) if isinstance(given, Mapping) else (given, {})
        args = tuple(args) if isinstance(args, tuple | list) else (args,)
        with undisturbed(self.model), torch.enable_grad():
            output = functional_call(self.model, tensors, args, dict(kwargs))
            begin = _uneven(start(output, self.loss))
            targets = [self._parameter(name) for name in asked]
            if not begin.roots:
                return _Passed(output)
            leaves = {name: self._parameter(name) for name in {*asked, *zeros}}
            shown = products(begin.roots, leaves, zeros) if zeros else Products()
            if not targets:
                return _Passed(output, products=shown)
            gradients, _ = backward(_loud(begin) if is_loud else begin, targets)
            arrived = zip(asked, gradients, strict=True)
            found = tuple(name for name, grad in arrived if grad is not None and _has_some(grad))
        return _Passed(output, found, shown)

    def _parameter(self, name: str) -> Tensor:
        site = self.weights[name].site
        assert site is not None
        tensor: Tensor = site.tensor
        return tensor


def _uneven(begin: Start) -> Start:
    """The same with gradients that start at sizes between a half and one."""
    generator = torch.Generator().manual_seed(0)
    seeds = []
    for root, seed in zip(begin.roots, begin.seeds, strict=True):
        size = 1 - torch.rand(root.shape, generator=generator, device="cpu") / 2
        sign = torch.ones_like(root) if seed is None else seed
        seeds.append(sign * size.to(device=root.device, dtype=root.dtype))
    return replace(begin, seeds=tuple(seeds))


def _loud(begin: Start) -> Start:
    """The same with gradients that start at the root of the largest number of their dtype."""
    seeds = (seed for seed in begin.seeds if seed is not None)
    return replace(begin, seeds=tuple(seed * torch.finfo(seed.dtype).max ** 0.5 for seed in seeds))


def _has_some(gradient: Tensor) -> bool:
    """Whether a gradient is a number other than 0 anywhere."""
    values = gradient.detach()
    return bool((values.isfinite() & (values != 0)).any())


def _is_trained(weight: Weight) -> bool:
    site = weight.site
    return site is not None and site.through is None and site.tensor.requires_grad


def _is_zero(weight: Weight) -> bool:
    """Whether its entries are 0 and it is no bias: those are added."""
    is_bias = "bias" in weight.attribute
    return not is_bias and weight.numbers.is_zero


def _small(like: Tensor, number: int) -> Tensor:
    """Values of another sequence for each weight, the same at every call."""
    generator = torch.Generator().manual_seed(number)
    drawn = _STD * torch.randn(like.shape, generator=generator, device="cpu")
    return drawn.to(device=like.device, dtype=like.dtype).requires_grad_()
