"""FAN203: torch's own default, in a net too deep for it."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

from fanin.auditing.chains import Link, chains
from fanin.auditing.evidence import Evidence
from fanin.auditing.finding import Check, Symptom
from fanin.auditing.provenance import default_std, drawn_with
from fanin.auditing.remedy import draw_again
from fanin.report import number_text, times_text

__all__ = ["DEPTH_CHECKS", "is_default_chain"]

_LOST = 1e-3
"""Share of a signal that is left: with ReLU between, the default leaves it after 9 layers."""


def _default_deep(evidence: Evidence) -> Iterator[Symptom]:
    for links in chains(evidence):
        if not is_default_chain(evidence, links):
            continue
        left = math.prod(link.bounds[1] for link in links)
        if left >= _LOST:
            continue
        names = tuple(link.weight.name for link in links)
        each = left ** (1 / len(links))
        after = links[0].after
        gain = "kaiming_normal()" if after == "ReLU" else 'kaiming_normal(nonlinearity="linear")'
        yield Symptom(
            names,
            f"{len(links)} layers in a row are U(±1/sqrt(fan_in)), with {after} between: "
            f"{times_text(each)} a layer, {number_text(left)} of an input is left",
            f"{times_text(1.0)} a layer: a std of gain / sqrt(fan_in), which is sqrt(6) times as "
            "large for ReLU",
            draw_again(evidence, names, gain),
            {"layers": len(links), "factor": each, "left": left},
        )


def is_default_chain(evidence: Evidence, links: Sequence[Link]) -> bool:
    """Whether weights of a chain are those that torch's constructors draw, but for one or two."""
    limit = evidence.budget.deviations(len(evidence.weights))
    default = sum(_is_default(link, limit) for link in links)
    return default >= 3 and default >= len(links) - 2


def _is_default(link: Link, limit: float) -> bool:
    weight = link.weight
    std = default_std(weight)
    drawn = drawn_with(weight.numbers, weight.tensor.dtype, deviations=limit)
    if std is None:
        return False
    if drawn is None:  # too few entries to tell
        reach = max(abs(weight.numbers.low), abs(weight.numbers.high))
        return 0.5 * math.sqrt(3) * std < reach <= 1.01 * math.sqrt(3) * std
    return drawn.family == "uniform" and drawn.fits(std)


DEPTH_CHECKS = (
    Check(
        "FAN203",
        "torch-default-deep",
        "warning",
        "torch's default weights in a deep net without norms or skips",
        "The default's variance is 1 / (3 fan_in), a sixth of what ReLU needs: outputs of a deep "
        "net come to depend on its biases alone, and gradients of its first layers vanish.",
        _default_deep,
        is_statistical=True,
    ),
)
