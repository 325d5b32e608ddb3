"""What a weight was drawn with, as far as its numbers tell: the std, and the scheme behind it."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from inspect import unwrap
from types import CodeType
from typing import Literal, TypeAlias

import torch
from torch import nn
from torch.nn.modules.conv import _ConvNd

from fanin.auditing.numbers import SOME, Numbers
from fanin.auditing.weights import Weight
from fanin.gains import calculate_gain, gain, nonlinearities
from fanin.geometry import Fans

__all__ = [
    "Drawn",
    "code_names",
    "default_std",
    "drawn_with",
    "healthy_stds",
    "initializer_of",
    "is_librarys_own",
    "is_random",
    "is_round",
    "names_used",
    "schemes",
    "torch_fans",
]

Family: TypeAlias = Literal["uniform", "bell"]

# max|x| of a uniform is √3 = 1.73 std; of a normal cut at ±2σ it is 2.27 std, without a cut more.
_UNIFORM_REACH = math.sqrt(3)
_LEAST = 256  # entries; below it the normal approximation of a std's error is poor at such tails
_LIBRARY = "transformers."
_VALUES = 64  # more than a repeated kernel or a counted row has
_SHARP = 1.2  # high / low of an interval that tells one scheme from another


@dataclass(frozen=True, slots=True)
class Drawn:
    """The interval in which the std of the distribution lies that a weight was drawn from.

    Args:
        family: ``"uniform"``, or ``"bell"`` for a normal, cut or not.
        std: the best guess: of the sample, or of a uniform between its ends.
        low: lower end of the interval.
        high: upper end.
        seen: entries of the sample.
    """

    family: Family
    std: float
    low: float
    high: float
    seen: int

    def fits(self, std: float) -> bool:
        """Whether the weight may have been drawn with this std."""
        return self.low <= std <= self.high

    def fits_any(self, stds: Iterable[float]) -> bool:
        """Whether it may have been drawn with one of them."""
        return any(self.fits(std) for std in stds)


def drawn_with(
    numbers: Numbers, dtype: torch.dtype, *, deviations: float, sharpest: float = _SHARP
) -> Drawn | None:
    """The std that a weight was drawn with; None where too few entries leave it open.

    A normal's std is estimated with a standard error of ``std / sqrt(2n)`` (a cut one's with less).
    The bound of a uniform lies above the largest of all n entries by less than the share t, where
    ``(1 - t)**n`` is the chance that goes with as many deviations.

    Args:
        numbers: of the weight.
        dtype: of the weight: values are off by its rounding.
        deviations: standard errors that chance may carry the estimate.
        sharpest: high / low of the interval from which on it leaves too much open.

    Example:
        >>> from fanin.auditing.numbers import numbers_of
        >>> weight = torch.nn.Linear(400, 400).weight.detach()
        >>> drawn = drawn_with(numbers_of(weight), weight.dtype, deviations=6)
        >>> drawn.family, drawn.fits(1 / math.sqrt(3 * 400)), drawn.fits(1 / math.sqrt(400))
        ('uniform', True, False)
    """
    if numbers.seen < _LEAST or numbers.is_constant or numbers.not_finite or not numbers.std > 0:
        return None
    rounding = torch.finfo(dtype).eps
    reach = max(abs(numbers.low), abs(numbers.high))
    error = deviations / math.sqrt(2 * numbers.seen)
    share = -math.log(math.erfc(deviations / math.sqrt(2)) or 1e-300) / numbers.count
    is_even = min(abs(numbers.low), abs(numbers.high)) > (1 - share - rounding) * reach
    if is_even and reach < _UNIFORM_REACH * numbers.std * (1 + error + rounding):
        std = reach / _UNIFORM_REACH
        ends = (std * (1 - rounding), std / max(1 - share, 0.1) * (1 + rounding))
        drawn = Drawn("uniform", std, *ends, numbers.seen)
    else:
        ends = (numbers.std / (1 + error + rounding), numbers.std / max(1 - error - rounding, 0.1))
        drawn = Drawn("bell", numbers.std, *ends, numbers.seen)
    return drawn if drawn.high < sharpest * drawn.low else None


def is_random(weight: Weight, numbers: Numbers) -> bool:
    """Whether the entries look drawn at random: many values, hardly a zero.

    Identities, tables of sines, counted and repeated values are none of a linter of scales.
    """
    if numbers.seen < _LEAST or numbers.is_constant or numbers.not_finite or numbers.zeros > 0.1:
        return False
    if weight.tensor.dtype.itemsize < 2:
        return True  # it has no more values than a table
    # Of so many normal ones 1,400 differ in bfloat16.
    return numbers.variety > max(_VALUES, min(numbers.seen, SOME) / 20)


def is_round(*drawn: Drawn) -> bool:
    """Whether a person may have chosen one std for all: 1, 2 or 5 times a power of ten."""
    decade = 10.0 ** math.floor(math.log10(drawn[0].low))
    chosen = (decade * k for k in (1, 2, 5, 10, 20))
    return any(all(each.family == "bell" and each.fits(std) for each in drawn) for std in chosen)


def is_librarys_own(model: nn.Module | None, scheme: str) -> bool:
    """Whether a class of transformers draws its weights by such a scheme itself.

    Its ``_init_weights`` names the function: then a model from its constructor is as it was meant,
    by others who train it.
    """
    kinds = type(model).__mro__ if model is not None else ()
    writers = (vars(k).get("_init_weights") for k in kinds if k.__module__.startswith(_LIBRARY))
    names = {name for writer in writers for name in names_used(writer)}
    return any(name.startswith(scheme.split(maxsplit=1)[0].strip(",")) for name in names)


def torch_fans(shape: tuple[int, ...]) -> Fans:
    """The fans that `torch.nn.init` reads off a shape: dim 1 is in, dim 0 is out."""
    kernel = math.prod(shape[2:])
    return Fans(shape[1] * kernel, shape[0] * kernel)


_GAINS = {"gain 1": 1.0, "gain √2": math.sqrt(2)}


def schemes(fans: Fans) -> dict[str, float]:
    """The std of every published scheme for these fans, by name.

    Example:
        >>> schemes(Fans(64, 16))["kaiming fan_in, gain √2"] == math.sqrt(2 / 64)
        True
    """
    found = {}
    for mode, fan in (("fan_in", fans.fan_in), ("fan_out", fans.fan_out)):
        for text, factor in _GAINS.items():
            found[f"kaiming {mode}, {text}"] = factor / math.sqrt(max(fan, 1))
    xavier = math.sqrt(2 / max(fans.fan_in + fans.fan_out, 1))
    for text, factor in (*_GAINS.items(), ("gain 5/3", 5 / 3)):
        found[f"xavier, {text}"] = factor * xavier
    found["torch's default"] = 1 / math.sqrt(3 * max(fans.fan_in, 1))
    return found


def healthy_stds(fans: Fans, *, least: float = 0.0) -> tuple[float, ...]:
    """The std that any scheme gives with the gain of any nonlinearity, and torch's default.

    `schemes` names what people do by habit; these are all that a person may have meant.

    Args:
        fans: of the weight.
        least: gain that is not too small to be meant here.

    Example:
        >>> fans = Fans(64, 16)
        >>> healthy = healthy_stds(fans)
        >>> gain("tanh") / 8 in healthy, all(std in healthy for std in schemes(fans).values())
        (True, True)
    """
    forward, backward = (
        [each for each in gains if each >= least] for gains in (_forward_gains(), _backward_gains())
    )
    average = max(fans.fan_in + fans.fan_out, 1) / 2
    return (
        *schemes(fans).values(),
        *(each / math.sqrt(max(fans.fan_in, 1)) for each in forward),
        *(each / math.sqrt(max(fans.fan_out, 1)) for each in (*forward, *backward)),
        *(each / math.sqrt(average) for each in forward),
    )


# Of torch's table those that a quadrature gives otherwise.
_TORCHS = ("tanh", "selu", "sigmoid")


@cache
def _forward_gains() -> tuple[float, ...]:
    found = {gain(name) for name in _with_gain()}
    return tuple(sorted(found | {calculate_gain(name) for name in _TORCHS}))


@cache
def _backward_gains() -> tuple[float, ...]:
    return tuple(sorted({gain(name, of="backward") for name in _with_gain()}))


def _with_gain() -> list[str]:
    """Names whose parameters have defaults."""
    return [name for name, given in nonlinearities().items() if None not in given.values()]


def initializer_of(scheme: str, family: Family) -> str:
    """A scheme of `schemes` as code, of `fanin.initializers`.

    Example:
        >>> initializer_of("kaiming fan_out, gain 1", "bell")
        'kaiming_normal(mode="fan_out", nonlinearity="linear")'
    """
    kind = "uniform" if family == "uniform" else "normal"
    if scheme.startswith("xavier"):
        return f"xavier_{kind}()"
    arguments = ['mode="fan_out"'] if "fan_out" in scheme else []
    arguments += ['nonlinearity="linear"'] if scheme.endswith("gain 1") else []
    return f"kaiming_{kind}({', '.join(arguments)})"


def default_std(weight: Weight) -> float | None:
    """The std that torch's constructor of the weight's module draws with; None: of no such one."""
    module, shape = weight.module, weight.shape
    if isinstance(module, nn.RNNBase | nn.RNNCellBase):
        return 1 / math.sqrt(3 * max(module.hidden_size, 1))
    if isinstance(module, nn.Bilinear):
        return 1 / math.sqrt(3 * max(module.in1_features, 1))
    if isinstance(module, nn.Linear | _ConvNd):
        return 1 / math.sqrt(3 * max(torch_fans(shape).fan_in, 1))
    if isinstance(module, nn.MultiheadAttention):
        return schemes(torch_fans(shape))["xavier, gain 1"]
    return 1.0 if isinstance(module, nn.Embedding | nn.EmbeddingBag) else None


def names_used(function: object) -> frozenset[str]:
    """Every name that a function, and the functions inside it, use; of other objects none."""
    code = getattr(unwrap(function), "__code__", None) if callable(function) else None
    return code_names(code) if isinstance(code, CodeType) else frozenset()


def code_names(code: CodeType) -> frozenset[str]:
    """Every name that a piece of code and the functions inside it use."""
    inner = (each for each in code.co_consts if isinstance(each, CodeType))
    return frozenset(code.co_names).union(*(code_names(each) for each in inner))
