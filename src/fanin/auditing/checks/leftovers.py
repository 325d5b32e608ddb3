"""FAN108, FAN109: parameters without memory, buffers without meaning."""

from __future__ import annotations

import math
from collections.abc import Iterator

from torch.nn.modules.batchnorm import _NormBase
from torch.nn.parameter import is_lazy

from fanin.auditing.code import expression
from fanin.auditing.evidence import Evidence
from fanin.auditing.finding import Check, Severity, Symptom
from fanin.auditing.unwritten import traces_of
from fanin.auditing.weights import Weight
from fanin.report import number_text

__all__ = ["LEFTOVER_CHECKS"]

_VARIANCE = 1e8
"""A variance above it, of activations beyond 10,000, comes from no data that was normalised."""


def _without_memory(evidence: Evidence) -> Iterator[Symptom]:
    lazy = tuple(name for name in evidence.without_memory if _is_lazy(evidence, name))
    meta = tuple(name for name in evidence.without_memory if name not in lazy)
    if meta:
        yield Symptom(
            meta,
            f"{len(meta)} tensors on the meta device",
            "memory, and values in it",
            "fanin.initialize(model, recipe)",
            {"tensors": len(meta)},
        )
    if lazy:
        yield Symptom(
            lazy,
            f"{len(lazy)} lazy parameters without a shape",
            "shapes, from a first batch",
            "fanin.initialize(model, recipe, example_inputs=batch)",
            {"tensors": len(lazy)},
        )


def _is_lazy(evidence: Evidence, name: str) -> bool:
    module, _, attribute = name.rpartition(".")
    holder = evidence.modules.get(module)
    held = holder._parameters.get(attribute) if holder is not None else None
    return held is not None and is_lazy(held)


def _garbage(evidence: Evidence) -> Iterator[Symptom]:
    for buffer in evidence.buffers:
        found = _fault(buffer)
        if found is None:
            continue
        observed, expected, severity = found
        module = buffer.name.rpartition(".")[0]
        yield Symptom(
            (buffer.name,),
            observed,
            expected,
            f"{expression(module)}.reset_running_stats()"
            if _is_norm(buffer)
            else "# build the module again: fanin.deferred() defers parameters, and keeps buffers",
            {"low": buffer.numbers.low, "high": buffer.numbers.high},
            severity,
        )


def _fault(buffer: Weight) -> tuple[str, str, Severity | None] | None:
    """What is observed, what is expected, and how bad it is, where that is not an error."""
    numbers = buffer.numbers
    if not numbers.count:
        return None
    is_variance = _is_norm(buffer) and buffer.attribute == "running_var"
    traces = None if numbers.is_constant else traces_of(buffer.tensor, numbers)
    is_tiny = is_variance and traces is not None and numbers.low >= 0  # of channels that died
    if traces is not None and traces.is_certain and not is_tiny:
        return traces.observed, "values that were written", None
    if numbers.not_finite and not _masks(buffer):
        return f"{numbers.not_finite} of {numbers.count} entries are not finite", "numbers", None
    if not is_variance:
        return None
    if numbers.low < 0 or numbers.high > _VARIANCE:
        end = numbers.low if numbers.low < 0 else numbers.high
        return f"a variance of {number_text(end)}", "variances of activations, 1 at first", None
    if numbers.is_zero:
        return f"all of {numbers.count} variances are 0", "1 in a fresh module", None
    if numbers.low == 0:
        return "channels of variance 0", "variances above 0", "note"
    return None


def _is_norm(buffer: Weight) -> bool:
    """Whether it is a running statistic; in a checkpoint its name tells."""
    if buffer.site is None:
        return buffer.attribute in ("running_mean", "running_var")
    return isinstance(buffer.module, _NormBase)


def _masks(buffer: Weight) -> bool:
    """Whether all that is not finite is -inf, next to one number: a mask of scores."""
    numbers = buffer.numbers
    finite = numbers.sample
    is_one = not finite.numel() or bool((finite == finite[0]).all())
    return is_one and numbers.low == -math.inf and not bool(buffer.tensor.isnan().any())


LEFTOVER_CHECKS = (
    Check(
        "FAN108",
        "no-memory",
        "error",
        "a parameter or buffer has no memory yet: it is on the meta device, or lazy",
        "There is nothing to train, and to_empty() would leave whatever the memory held.",
        _without_memory,
    ),
    Check(
        "FAN109",
        "garbage-buffer",
        "error",
        "a buffer is not finite, was never written, or holds an impossible variance",
        "No optimizer ever corrects a buffer, and it is saved with every checkpoint.",
        _garbage,
    ),
)
