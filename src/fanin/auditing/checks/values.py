"""FAN101-FAN104: values that no weight should start with."""

from __future__ import annotations

from collections.abc import Iterator

from fanin.auditing.code import expression
from fanin.auditing.evidence import Evidence
from fanin.auditing.finding import Check, Symptom
from fanin.report import number_text

__all__ = ["VALUE_CHECKS"]


def _constant(evidence: Evidence) -> Iterator[Symptom]:
    for weight in evidence.weights:
        for name, layout, numbers in weight.pieces():
            has_units = layout is not None and bool(layout.in_axes and layout.out_axes)
            if has_units and numbers.count > 1 and numbers.is_constant and not numbers.is_zero:
                yield Symptom(
                    (name,),
                    f"all {numbers.count} entries are {number_text(numbers.low)}",
                    "random entries",
                    f"fanin.init.kaiming_normal_({expression(weight.name)})",
                    {"value": numbers.low, "count": numbers.count},
                )


VALUE_CHECKS = (
    Check(
        "FAN104",
        "constant-weight",
        "error",
        "all entries of a weight are one number",
        "Units that start equal get equal gradients and stay equal: the layer has one unit.",
        _constant,
    ),
)
