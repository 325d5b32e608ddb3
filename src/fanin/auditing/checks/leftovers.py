"""FAN108, FAN109: parameters without memory, buffers without meaning."""

from __future__ import annotations

import math
from collections.abc import Iterator

import torch
from torch import Tensor
from torch.nn.modules.batchnorm import _NormBase
from torch.nn.parameter import is_lazy

from fanin.auditing.code import expression
from fanin.auditing.evidence import Evidence
from fanin.auditing.finding import Check, Severity, Symptom
from fanin.auditing.numbers import numbers_of
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
    if not _is_norm(buffer) and _is_constant(buffer):
        return None  # a limit that is still open, as of observers: a smallest value of inf
    rest = _unmarked(buffer.tensor) if _has_marks(buffer) else buffer.tensor
    ordinary = numbers if rest is buffer.tensor else numbers_of(rest)
    traces = None if ordinary.is_constant else traces_of(rest, ordinary)
    is_tiny = is_variance and traces is not None and numbers.low >= 0  # of channels that died
    if traces is not None and traces.is_certain and not is_tiny:
        return traces.observed, "values that were written", None
    if numbers.not_finite and (_is_norm(buffer) or _has_nan(buffer.tensor)):
        return f"{numbers.not_finite} of {numbers.count} entries are not finite", "numbers", None
    if numbers.high == math.inf:
        return (
            "entries of inf beside numbers",
            "numbers, or -inf in what is added to scores",
            "note",
        )
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


def _is_constant(buffer: Weight) -> bool:
    """Whether all of it is one number, be it infinite."""
    numbers = buffer.numbers
    return numbers.count > 0 and numbers.low == numbers.high and not _has_nan(buffer.tensor)


_MARKS = (
    -math.inf,
    *(
        torch.finfo(each).min
        for each in (torch.float64, torch.float32, torch.bfloat16, torch.float16)
    ),
    *(-(10.0**k) for k in range(4, 39)),
)
"""What is added to scores of places that are masked: -inf, a dtype's smallest number, or a power of
ten."""


def _has_marks(buffer: Weight) -> bool:
    """Whether its smallest entry is one, as its dtype rounds it."""
    dtype = buffer.tensor.dtype if buffer.tensor.dtype.itemsize > 1 else torch.float32
    marks = torch.tensor(_MARKS, dtype=torch.float64).to(dtype)
    return bool((marks == torch.tensor(buffer.numbers.low, dtype=dtype)).any())


def _unmarked(tensor: Tensor) -> Tensor:
    """The entries above the mark of a mask: its zeros, or biases that were merged with it."""
    values = _wide(tensor)
    return tensor[values > values[~values.isnan()].min()]


def _has_nan(tensor: Tensor) -> bool:
    return bool(_wide(tensor).isnan().any())


def _wide(tensor: Tensor) -> Tensor:
    """float32 for dtypes of one byte, which cannot be compared."""
    return tensor.float() if tensor.dtype.itemsize < 2 else tensor


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
