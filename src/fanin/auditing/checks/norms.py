"""FAN307: scales with which no norm should start."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from types import CodeType

from torch import nn

from fanin.auditing.code import expression
from fanin.auditing.evidence import Evidence
from fanin.auditing.finding import Check, Severity, Symptom
from fanin.auditing.plausible import is_trained, is_written
from fanin.auditing.remedy import draw_again
from fanin.auditing.weights import Weight
from fanin.model import module_type
from fanin.recipes.families import adds_one, is_norm
from fanin.report import number_text, times_text

__all__ = ["NORM_CHECKS"]

_HUGE = 100.0
"""Published schemes start norms between 0 and 2; a softmax of logits of this std has one winner."""

_FEWEST = 3  # norms that are all 0; with fewer each may end a branch (the blocks of Swin v2)


@dataclass(frozen=True, eq=False)
class _Scale:
    """What a norm multiplies by: its weight, or in some classes one more."""

    weight: Weight
    norm: nn.Module
    offset: float

    @property
    def low(self) -> float:
        """The smallest."""
        return self.weight.numbers.low + self.offset

    @property
    def high(self) -> float:
        """The largest."""
        return self.weight.numbers.high + self.offset

    @property
    def mean(self) -> float:
        """Of all."""
        return self.weight.numbers.mean + self.offset

    @property
    def rms(self) -> float:
        """How much larger the norm makes a signal."""
        return math.hypot(self.mean, self.weight.numbers.std)

    @property
    def is_zero(self) -> bool:
        """Whether nothing passes."""
        return self.low == self.high == 0

    @property
    def place(self) -> str:
        """The name of the norm."""
        return self.weight.name.rpartition(".")[0]


def _wrong(evidence: Evidence) -> Iterator[Symptom]:
    scales = [*_scales(evidence)]
    symptom = partial(_symptom, evidence)
    around = [s for s in scales if s.low < 0 < s.high and abs(s.mean) <= s.weight.numbers.std]
    if around:
        yield symptom(
            around,
            f"scales around 0, of mean {number_text(around[0].mean)} and std "
            f"{number_text(around[0].weight.numbers.std)}: signals become "
            f"{times_text(around[0].rms)} of what they were, and many change their sign",
        )
    huge = [scale for scale in scales if scale not in around and scale.rms >= _HUGE]
    if huge:
        yield symptom(huge, f"scales of rms {number_text(huge[0].rms)}")
    twice = [scale for scale in scales if scale.offset and scale.low == scale.high == 2]
    if twice:
        yield symptom(twice, "all entries are 1, which is added to 1: signals are doubled")
    turned = [scale for scale in scales if -_HUGE < scale.low == scale.high < 0]
    if turned:
        yield symptom(turned, f"all scales are {number_text(turned[0].low)}", severity="note")
    zero = [scale for scale in scales if scale.is_zero]
    dead = [scale for scale in zero if _is_dead(evidence, scale)]
    if dead:
        yield symptom(
            dead, "all scales are 0 before a ReLU, and no gradient changes that", severity="error"
        )
    blocking = zero if _is_every_one(evidence, scales) else _before_layers(evidence, zero)
    blocking = [scale for scale in blocking if scale not in dead]
    if blocking:
        yield symptom(blocking, "all scales are 0, and what comes next does not see the inputs")


def _symptom(
    evidence: Evidence, scales: Sequence[_Scale], observed: str, severity: Severity | None = None
) -> Symptom:
    names, first = tuple(scale.weight.name for scale in scales), scales[0]
    start = "zeros" if first.offset else "ones"
    fix = f"fanin.init.{start}_({expression(names[0])})"
    return Symptom(
        names,
        observed,
        "scales of 1: " + ("entries of 0, to which it adds 1" if first.offset else "entries of 1"),
        fix if len(names) == 1 else draw_again(evidence, names, f"{start}()"),
        {"low": first.low, "high": first.high, "rms": first.rms},
        severity,
    )


def _scales(evidence: Evidence) -> Iterator[_Scale]:
    """Of the norms whose class is known to multiply by its weight, or by one more."""
    for weight in evidence.weights:
        norm = weight.module
        if norm is None or weight.attribute != "weight" or not is_norm(norm):
            continue
        if weight.numbers.not_finite or not weight.numbers.count or not is_written(weight):
            continue
        if is_trained(weight) and _is_known(norm):
            yield _Scale(weight, norm, float(adds_one(norm)))


def _is_known(norm: nn.Module) -> bool:
    """Whether it is sure how a norm scales: any class may add 1 to its weight."""
    if adds_one(norm):
        return True
    forward = module_type(norm).forward
    author = getattr(forward, "__module__", "").partition(".")[0]
    code = getattr(forward, "__code__", None)
    constants = code.co_consts if isinstance(code, CodeType) else (1.0,)
    has_one = any(type(each) in (int, float) and each == 1 for each in constants)
    return author == "torch" or (author == "transformers" and not has_one)


def _following(evidence: Evidence, place: str) -> Iterator[nn.Module]:
    """What a Sequential runs after a module."""
    parent, _, own = place.rpartition(".")
    holder = evidence.modules.get(parent) if place else None
    if isinstance(holder, nn.Sequential) and own in holder._modules:
        names = [*holder._modules]
        yield from (holder[k] for k in range(names.index(own) + 1, len(names)))


def _is_dead(evidence: Evidence, scale: _Scale) -> bool:
    """Whether a rectifier is next, whose derivative at 0 is 0, and no bias lifts it."""
    bias = evidence.by_name.get(f"{scale.place}.bias")
    passed = (each for each in _following(evidence, scale.place) if not isinstance(each, _PASSING))
    is_shut = bias is None or bias.numbers.high <= 0
    return is_shut and isinstance(next(passed, None), nn.ReLU | nn.ReLU6)


def _before_layers(evidence: Evidence, zero: Sequence[_Scale]) -> list[_Scale]:
    """Those that end no branch: weights follow in their Sequential."""
    return [
        scale
        for scale in zero
        if any(each._parameters for each in _following(evidence, scale.place))
    ]


def _is_every_one(evidence: Evidence, scales: Sequence[_Scale]) -> bool:
    """Whether all are 0, those in a list of blocks and the one that follows the list."""
    if len(scales) < _FEWEST or not all(scale.is_zero for scale in scales):
        return False
    places = [scale.place for scale in scales]
    for name, module in evidence.modules.items():
        if not isinstance(module, nn.ModuleList | nn.Sequential) or not name:
            continue
        inside = [place for place in places if place.startswith(f"{name}.")]
        parent = name.rpartition(".")[0]
        beside = [place for place in places if place.rpartition(".")[0] == parent]
        if inside and any(places.index(each) > places.index(inside[-1]) for each in beside):
            return True
    return False


_PASSING = (nn.Dropout, nn.Identity)

NORM_CHECKS = (
    Check(
        "FAN307",
        "norm-scale",
        "warning",
        "a norm's scale is drawn around 0, huge, or 0 where that blocks the signal",
        "A norm sets the scale of what follows: what it multiplies by is the scale of the signal.",
        _wrong,
    ),
)
