"""FAN101-FAN104: values that no weight should start with."""

from __future__ import annotations

from collections.abc import Iterator

from fanin.auditing.checks.zeros import zero_weights
from fanin.auditing.code import expression
from fanin.auditing.evidence import Evidence
from fanin.auditing.finding import Check, Symptom
from fanin.auditing.matrices import matrices
from fanin.auditing.plausible import is_trained, is_written
from fanin.auditing.remedy import redraw, redraw_all
from fanin.auditing.unwritten import Traces
from fanin.auditing.weights import Weight
from fanin.report import number_text

__all__ = ["VALUE_CHECKS"]


def _not_finite(evidence: Evidence) -> Iterator[Symptom]:
    found = [each for each in evidence.weights if each.numbers.not_finite and is_written(each)]
    if not found:
        return
    first = found[0]
    nan = int(first.tensor.isnan().sum())
    infinite = first.numbers.not_finite - nan
    kinds = [f"{nan} NaN"] * bool(nan) + [f"{infinite} infinite"] * bool(infinite)
    names = tuple(weight.name for weight in found)
    yield Symptom(
        names,
        f"{' and '.join(kinds)} of {first.numbers.count} entries",
        "finite entries",
        redraw_all(found),
        {"nan": nan, "infinite": infinite, "count": first.numbers.count},
    )


def _unwritten(evidence: Evidence) -> Iterator[Symptom]:
    found: dict[str, list[tuple[Weight, Traces]]] = {}
    for weight in evidence.weights:
        traces = weight.traces
        if traces is not None:
            is_constant = weight.numbers.is_constant
            kind = "filled" if is_constant else "left" if traces.is_certain else "unsure"
            found.setdefault(kind, []).append((weight, traces))
    for kind, places in found.items():
        (first, traces), names = places[0], tuple(weight.name for weight, _ in places)
        is_sure = kind != "unsure"
        yield Symptom(
            names,
            traces.observed
            + ("" if is_sure else ": leftovers of memory, or weights that decay took to 0"),
            "values that were drawn" if is_sure else "no entry so small in a fresh weight",
            redraw_all([weight for weight, _ in places]),
            {"entries": traces.count, "largest": max(-first.numbers.low, first.numbers.high)},
            None if is_sure else "note",
        )


def _constant(evidence: Evidence) -> Iterator[Symptom]:
    found: dict[float, list[tuple[str, int]]] = {}
    for weight in evidence.weights:
        if not is_trained(weight) or not is_written(weight):
            continue
        for matrix in matrices(weight):
            numbers = matrix.numbers
            has_units = matrix.counts[1] > 1
            if has_units and numbers.is_constant and not numbers.is_zero:
                found.setdefault(numbers.low, []).append((matrix.name, numbers.count))
        if weight.is_lookup and weight.numbers.is_constant and not weight.numbers.is_zero:
            found.setdefault(weight.numbers.low, []).append((weight.name, weight.numbers.count))
    for value, places in found.items():
        name, count = places[0]
        whole = name.partition("[")[0]
        is_one = len(places) == 1
        yield Symptom(
            tuple(name for name, _ in places),
            f"all {count} entries are {number_text(value)}",
            "random entries",
            f"fanin.init.kaiming_normal_({expression(whole)})"
            if is_one and whole == name
            else redraw(name for name, _ in places),
            {"value": value, "count": count},
        )


VALUE_CHECKS = (
    Check(
        "FAN101",
        "non-finite-weight",
        "error",
        "a parameter has entries that are NaN or infinite",
        "One such entry makes every output, and after one step every weight, NaN.",
        _not_finite,
    ),
    Check(
        "FAN102",
        "unwritten-memory",
        "error",
        "a parameter holds what its memory held before, or a placeholder",
        "Nobody initialised it: what the model computes depends on what ran before.",
        _unwritten,
    ),
    Check(
        "FAN103",
        "zero-weight",
        "warning",
        "all entries of a weight are 0",
        "Nothing passes a zero weight, forwards or backwards, until a gradient has moved it.",
        zero_weights,
    ),
    Check(
        "FAN104",
        "constant-weight",
        "error",
        "all entries of a weight are one number",
        "Units that start equal get equal gradients and stay equal: the layer has one unit.",
        _constant,
    ),
)
