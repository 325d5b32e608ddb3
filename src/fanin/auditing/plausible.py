"""Which weights finer checks look at: those no basic check has found broken."""

from __future__ import annotations

from fanin.auditing.numbers import Numbers
from fanin.auditing.weights import Weight

__all__ = ["is_trained", "is_written", "varies"]


def varies(numbers: Numbers) -> bool:
    """Whether a tensor has finite entries that differ."""
    return numbers.count > 1 and not numbers.not_finite and not numbers.is_constant


def is_written(weight: Weight) -> bool:
    """Whether nothing says that the memory of a weight was never written."""
    traces = weight.traces
    return traces is None or not traces.is_certain


def is_trained(weight: Weight) -> bool:
    """Whether an optimizer would change it: a frozen one is a filter or a copy that is meant.

    All of a checkpoint are, which does not say.
    """
    site = weight.site
    if site is None:
        return True
    if site.through is not None:
        return any(original.requires_grad for _, original in site.through.originals)
    return site.tensor.requires_grad
