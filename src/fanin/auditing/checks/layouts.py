"""FAN204, FAN205, FAN206: scales whose fans were read off the shape, not off the module."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

from torch import Tensor, nn

from fanin.auditing.checks.orthogonal import gram
from fanin.auditing.code import expression
from fanin.auditing.evidence import Evidence
from fanin.auditing.finding import Check, Severity, Symptom
from fanin.auditing.matrices import matrices
from fanin.auditing.plausible import is_trained
from fanin.auditing.provenance import (
    Drawn,
    default_std,
    drawn_with,
    healthy_stds,
    initializer_of,
    is_librarys_own,
    is_random,
    is_round,
    schemes,
    torch_fans,
)
from fanin.auditing.remedy import draw_again
from fanin.auditing.weights import Weight
from fanin.errors import LayoutError
from fanin.geometry import Fans, Layout
from fanin.report import number_text, times_text

__all__ = ["LAYOUT_CHECKS"]

_TELLING = 1.15  # a std that is off by less is as good as the right one
_SHARP, _VAGUE = 1.2, 2.0  # high / low of a std that tells alone, and of one among others
_ERROR = 0.08  # of the std of all members together; published schemes are further apart
_ROUNDING = 0.01  # of bfloat16
_VECTORS, _FEWEST = 32, 16  # that are compared with each other
_RIGHT_ANGLES = 0.25  # of the cosines of random ones, of which no 16 vectors come near it


@dataclass(frozen=True)
class _Suspect:
    """A weight whose shape says other fans than its module does.

    Args:
        weight: the weight.
        fans: that its module states.
        wrong: std of the schemes that would show that the shape's fans were taken, by name.
        right: std of what explains the weight without that.
        thirds: dim along which its name says that q, k and v lie; None where the module does.
    """

    weight: Weight
    fans: Fans
    wrong: dict[str, float]
    right: tuple[float, ...]
    thirds: int | None = None


def _swapped(evidence: Evidence) -> Iterator[Symptom]:
    if not _prefers_fan_out(evidence):
        suspects = [each for w in evidence.weights if (each := _as_transposed(w)) is not None]
        yield from _symptoms(evidence, suspects, "of dim 1, which holds the outputs")


def _ungrouped(evidence: Evidence) -> Iterator[Symptom]:
    suspects = [each for w in evidence.weights if (each := _as_grouped(w)) is not None]
    yield from _symptoms(evidence, suspects, "as if all channels were one group")


def _packed(evidence: Evidence) -> Iterator[Symptom]:
    suspects = [each for w in evidence.weights if (each := _as_packed(w)) is not None]
    orthogonal = [each for each in suspects if _is_orthogonal(each.weight.tensor)]
    yield from _one_orthogonal(evidence, [each for each in orthogonal if each.weight.parts])
    others = [each for each in suspects if each not in orthogonal]
    yield from _symptoms(evidence, others, "as if all parts were one matrix")


def _as_transposed(weight: Weight) -> _Suspect | None:
    """A weight whose inputs are dim 0.

    With swapped fans, ``fan_in`` is what the module calls fan_out, and the other way round is
    right: the mode tells. Every mode of the right fans explains a weight, but for that one.
    """
    layout = weight.layout
    if layout is None or layout.is_lookup or layout.groups > 1 or layout.parts:
        return None
    if layout.in_axes != (0,) or layout.out_axes != (1,):
        return None
    stride = getattr(weight.module, "stride", 1)
    steps = math.prod(stride) if isinstance(stride, tuple) else 1
    summed = Fans(layout.fans.fan_in / steps, layout.fans.fan_out)  # by one output, on average
    right = [s for fans in (layout.fans, summed) for s in _without(schemes(fans), "fan_out")]
    wrong = _of(schemes(torch_fans(weight.shape)), "fan_in", "torch's")
    return _Suspect(weight, layout.fans, wrong, _own(weight, right))


def _as_grouped(weight: Weight) -> _Suspect | None:
    """A weight of several groups: the shape's dim 0 counts the channels of all of them."""
    layout = weight.layout
    if layout is None or layout.groups == 1:
        return None
    wrong = _of(schemes(torch_fans(weight.shape)), "fan_out", "xavier")
    return _Suspect(weight, layout.fans, wrong, _own(weight, healthy_stds(layout.fans)))


# Layers, or parameters, that transformers, timm and others call so hold queries, keys and values.
_QKV = frozenset({"c_attn", "in_proj", "in_proj_weight", "query_key_value"})
_QKV_WITHIN = ("qkv", "kqv")


def _as_packed(weight: Weight) -> _Suspect | None:
    """A weight of several parts side by side, of which each has fans of its own."""
    layout = _with_parts(weight)
    if layout is None:
        return None
    try:
        fans = layout.fans
    except LayoutError:  # parts of different fans
        return None
    wrong = _of(schemes(torch_fans(weight.shape)), "fan_out", "xavier")
    # A gain below 1, as relu squared has, follows no gate, no query and no key.
    right = healthy_stds(fans, least=1.0)
    is_own = weight.kind is nn.MultiheadAttention
    thirds = None if weight.parts else layout.part_dim
    return _Suspect(weight, fans, wrong, right if is_own else _own(weight, right), thirds)


def _with_parts(weight: Weight) -> Layout | None:
    layout = weight.layout
    if layout is None and len(weight.shape) == 2 and weight.site is not None:
        layout = Layout.linear(*weight.shape)  # a parameter of a custom module, by its name
    if layout is None or len(layout.shape) != 2 or layout.is_lookup:
        return None
    if not (layout.in_axes and layout.out_axes):
        return None
    if layout.parts:
        return layout
    (inputs,), (outputs,) = layout.in_axes, layout.out_axes
    is_three = layout.shape[outputs] == 3 * layout.shape[inputs]
    is_packed = is_three and any(_holds_qkv(name) for name in weight.name.split(".")[-2:])
    return layout.packed(("q", "k", "v"), dim=outputs) if is_packed else None


def _holds_qkv(name: str) -> bool:
    """Whether a module or a parameter is called as one that holds queries, keys and values."""
    return name in _QKV or any(mark in name.lower() for mark in _QKV_WITHIN)


def _is_orthogonal(tensor: Tensor) -> bool:
    """Whether all of it together is: the vectors along its shorter side meet at right angles."""
    if tensor.ndim != 2 or not tensor.dtype.is_floating_point:
        return False
    vectors = tensor if tensor.shape[0] <= tensor.shape[1] else tensor.T
    if len(vectors) < _FEWEST:
        return False
    found = gram(vectors[:_VECTORS])
    return found is not None and found.cosine < _RIGHT_ANGLES


def _one_orthogonal(evidence: Evidence, suspects: Sequence[_Suspect]) -> Iterator[Symptom]:
    """Stacked parts that are orthogonal as one, and not each: more rows than inputs."""
    found: dict[tuple[int, ...], list[_Suspect]] = {}
    for each in suspects:
        shortened = math.sqrt(_longest_part(each.weight) / max(each.weight.shape))
        parts = (matrix.tensor for matrix in matrices(each.weight))
        if (
            shortened < 1 / _TELLING
            and is_trained(each.weight)
            and not any(_is_orthogonal(part) for part in parts)  # orthogonal parts are it together
        ):
            found.setdefault(each.weight.shape, []).append(each)
    for (rows, columns), members in found.items():
        names = tuple(each.weight.name for each in members)
        numbers = members[0].weight.numbers
        factor = math.sqrt(_longest_part(members[0].weight) / max(rows, columns))
        count = len(members[0].weight.parts)
        yield Symptom(
            names,
            f"one orthogonal matrix of ({rows}, {columns}), std {number_text(numbers.rms)}: none "
            f"of its {count} parts is orthogonal",
            f"std {number_text(numbers.rms / factor)}, each part orthogonal: this one is "
            f"{times_text(factor)}",
            draw_again(evidence, names, "orthogonal()"),
            {"std": numbers.rms, "expected_std": numbers.rms / factor, "factor": factor},
        )


def _longest_part(weight: Weight) -> int:
    """The longer side of a part."""
    return max(max(layout.shape) for _, layout, _ in weight.parts)


def _prefers_fan_out(evidence: Evidence) -> bool:
    """Whether other weights of the model are scaled by fan_out: then the swapped ones are too."""
    limit = evidence.budget.deviations(len(evidence.weights))
    for weight in evidence.weights:
        layout = weight.layout
        if layout is None or layout.groups > 1 or layout.parts or layout.out_axes != (0,):
            continue
        drawn = _drawn(weight, limit, sharpest=_SHARP)
        known = schemes(layout.fans)
        if drawn is None or is_round(drawn) or drawn.fits_any(_without(known, "fan_out")):
            continue
        if drawn.fits_any(_of(known, "fan_out").values()):
            return True
    return False


def _symptoms(evidence: Evidence, suspects: Sequence[_Suspect], how: str) -> Iterator[Symptom]:
    """One for each scheme that weights were drawn by with the wrong fans."""
    limit = evidence.budget.deviations(len(suspects))
    left = [
        (each, drawn)
        for each in suspects
        if (drawn := _drawn(each.weight, limit, sharpest=_VAGUE)) is not None
        and not drawn.fits_any(each.right)
    ]
    for scheme in dict.fromkeys(text for each, _ in left for text in each.wrong):
        members = [(each, drawn) for each, drawn in left if _is_told(each, drawn, scheme)]
        if not members or not _agree(members, scheme, limit):
            continue
        left = [pair for pair in left if pair not in members]
        default = [pair for pair in members if _is_torchs(pair[0], scheme)]
        others = [pair for pair in members if pair not in default]
        is_own = is_librarys_own(evidence.model, scheme)
        for thirds in dict.fromkeys(each.thirds for each, _ in others):
            alike = [pair for pair in others if pair[0].thirds == thirds]
            yield _symptom(evidence, scheme, alike, how, "note" if is_own else None)
        if default:
            by = f"{how}, as torch's constructor draws it"
            yield _symptom(evidence, scheme, default, by, "note")


_Members: TypeAlias = Sequence[tuple[_Suspect, Drawn]]


def _is_told(suspect: _Suspect, drawn: Drawn, scheme: str) -> bool:
    """Whether a weight may have been drawn by the scheme with the wrong fans, and is off by it."""
    wrong = suspect.wrong.get(scheme)
    if wrong is None or not drawn.fits(wrong):
        return False
    return abs(math.log(wrong / schemes(suspect.fans)[scheme])) > math.log(_TELLING)


def _agree(members: _Members, scheme: str, limit: float) -> bool:
    """Whether all of them together are as the scheme says, and no one number explains them.

    Small weights, as depthwise ones, leave much open: together they do not.
    """
    drawn = [each for _, each in members]
    total = sum(each.seen for each in drawn)
    error = limit / math.sqrt(2 * total)
    off = sum(d.seen * math.log(d.std / s.wrong[scheme]) for s, d in members) / total
    is_sharp = all(d.family == "uniform" for d in drawn) or error < _ERROR
    return is_sharp and abs(off) < error + _ROUNDING and not is_round(*drawn)


def _symptom(
    evidence: Evidence,
    scheme: str,
    members: _Members,
    how: str,
    severity: Severity | None = None,
) -> Symptom:
    first, drawn = members[0]
    names = tuple(each.weight.name for each, _ in members)
    taken, fans = torch_fans(first.weight.shape), first.fans
    wrong, right = first.wrong[scheme], schemes(fans)[scheme]
    return Symptom(
        names,
        f"std {number_text(drawn.std)}: {scheme} with {_text(taken)}, {how}",
        f"std {number_text(right)}, with {_text(fans)}: this one is {times_text(wrong / right)}",
        _again(evidence, names, initializer_of(scheme, drawn.family), first.thirds),
        {"std": drawn.std, "expected_std": right, "factor": wrong / right},
        severity,
    )


def _again(evidence: Evidence, names: Sequence[str], initializer: str, thirds: int | None) -> str:
    """A call; a loop where no module states the parts."""
    if thirds is None:
        return draw_again(evidence, names, initializer)
    function, _, arguments = initializer.removesuffix(")").partition("(")
    filled = f"fanin.init.{function}_(part{', ' if arguments else ''}{arguments})"
    thirds_of = [f"*{expression(name)}.data.chunk(3, dim={thirds})" for name in names]
    return f"for part in [{', '.join(thirds_of)}]: {filled}"


def _is_torchs(suspect: _Suspect, scheme: str) -> bool:
    return suspect.weight.kind is nn.MultiheadAttention and scheme == "xavier, gain 1"


def _drawn(weight: Weight, limit: float, *, sharpest: float) -> Drawn | None:
    if weight.site is None:  # axes that were guessed
        return None
    if weight.is_lookup or not is_trained(weight) or not is_random(weight, weight.numbers):
        return None
    return drawn_with(weight.numbers, weight.tensor.dtype, deviations=limit, sharpest=sharpest)


def _own(weight: Weight, right: Iterable[float]) -> tuple[float, ...]:
    """What explains a weight, with what torch's constructor of its module draws."""
    default = default_std(weight)
    return tuple(right) if default is None else (*right, default)


def _of(known: Mapping[str, float], *marks: str) -> dict[str, float]:
    return {text: std for text, std in known.items() if any(mark in text for mark in marks)}


def _without(known: Mapping[str, float], mode: str) -> list[float]:
    return [std for text, std in known.items() if mode not in text]


def _text(fans: Fans) -> str:
    return f"fan_in {fans.fan_in:.6g} and fan_out {fans.fan_out:.6g}"


LAYOUT_CHECKS = (
    Check(
        "FAN204",
        "swapped-fans",
        "warning",
        "a weight stored (in, out) was scaled as if it were (out, in)",
        "torch.nn.init reads the fans off the shape, and here dim 0 holds the inputs: the outputs "
        "are off by sqrt(in / out).",
        _swapped,
        is_statistical=True,
    ),
    Check(
        "FAN205",
        "ignored-groups",
        "warning",
        "a grouped convolution was scaled as if it had one group",
        "An input of a grouped convolution reaches the outputs of its own group alone: fan_out "
        "counted over all of them is too large, and the weights are too small.",
        _ungrouped,
        is_statistical=True,
    ),
    Check(
        "FAN206",
        "packed-as-one",
        "warning",
        "parts packed in one weight were scaled as one matrix",
        "Queries, keys and values, or gates, are layers of their own that lie side by side: their "
        "outputs do not add up, and fan_out counted over all of them makes the weights too small.",
        _packed,
        is_statistical=True,
    ),
)
