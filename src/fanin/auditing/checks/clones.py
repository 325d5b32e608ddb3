"""FAN105: random tensors that are equal without being tied."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import groupby

import torch
from torch import Tensor, nn

from fanin.auditing.evidence import Evidence
from fanin.auditing.finding import Check, Severity, Symptom
from fanin.auditing.plausible import is_trained, is_written, varies
from fanin.auditing.remedy import redraw
from fanin.auditing.weights import Weight

__all__ = ["CLONE_CHECKS"]

_ENTRIES = 16
"""Two draws of so many numbers are never equal: 16 of bfloat16's mantissas are 112 bits."""

_DISTINCT, _FEW = 0.5, 100
"""Random entries differ: half of them, or 100 where the dtype has no more."""

_ENDS = torch.tensor([0.05, 0.95])  # quantiles beyond which values are cut off
_SMOOTH = 0.7
"""Correlation of neighbours in tables of sines, ramps and filters; of n random entries 0 ± 1/√n."""


def _clones(evidence: Evidence) -> Iterator[Symptom]:
    for places, names in _by_module(_equal(evidence.weights)).items():
        if len(names) > 1:
            what = f"the same {len(names)} random tensors in {len(places)} modules"
        else:
            what = f"the same random entries in {len(places)} tensors"
        members = [name for clones in names for name in clones]
        modules = [f"{place}.**" for place in places]
        yield Symptom(
            places if len(names) > 1 else names[0],
            what,
            "entries of their own, or one tied parameter",
            redraw(modules if len(names) > 1 else members, "torch_default"),
            {"clones": len(places), "tensors": len(names)},
            _severity(evidence, members),
        )


def _severity(evidence: Evidence, members: Sequence[str]) -> Severity | None:
    """Torch's own stacks are built of copies, and people train them."""
    weights = [evidence.by_name[name] for name in members]
    kinds = (nn.TransformerEncoder, nn.TransformerDecoder)
    is_own = all(
        weight.site is not None and any(isinstance(each, kinds) for each in weight.site.parents)
        for weight in weights
    )
    are_vectors = all(max(weight.shape) == weight.numbers.count for weight in weights)
    return "note" if is_own or are_vectors else None


def _equal(weights: Sequence[Weight]) -> Iterator[tuple[str, ...]]:
    """Names of weights with the same random content, for each content."""
    alike: dict[object, list[Weight]] = {}
    for weight in weights:
        numbers = weight.numbers
        if numbers.count >= _ENTRIES and varies(numbers):
            key = (weight.shape, weight.tensor.dtype, numbers.low, numbers.high, numbers.mean)
            alike.setdefault(key, []).append(weight)
    for candidates in alike.values():
        while len(candidates) > 1:
            first, *others = candidates
            same = [first, *(other for other in others if _are_equal(first, other))]
            trained = [weight for weight in same if is_trained(weight)]
            # A frozen copy of a trained one is a target network, or a teacher.
            if len(trained) > 1 and is_written(first) and _is_random(first):
                yield tuple(weight.name for weight in trained)
            candidates = [other for other in others if other not in same]


def _are_equal(first: Weight, other: Weight) -> bool:
    if not torch.equal(first.numbers.sample, other.numbers.sample):
        return False
    return torch.equal(first.tensor, other.tensor.to(first.tensor.device))


def _is_random(weight: Weight) -> bool:
    """Whether nobody would compute these entries: neither few values nor a smooth function."""
    sample = weight.numbers.sample
    enough = min(_DISTINCT * sample.numel(), _FEW)
    if torch.unique(sample[: 4 * _FEW]).numel() < min(enough, 2 * _FEW):
        return False
    tensor = weight.tensor
    return not any(_is_smooth(tensor, dim) for dim, size in enumerate(tensor.shape) if size > 2)


def _is_smooth(tensor: Tensor, dim: int) -> bool:
    """Whether neighbours along a dim are alike, in a corner of the tensor."""
    for axis, size in enumerate(tensor.shape):
        tensor = tensor.narrow(axis, 0, min(size, 256 if axis == dim else 8))
    values = torch.view_as_real(tensor) if tensor.is_complex() else tensor
    values = values.to("cpu", torch.float64)
    # Ends of a curve that is steep there alone would outweigh all the rest.
    values = values.clamp(*torch.quantile(values.flatten(), _ENDS.to(values)).tolist())
    values = values - values.mean()
    variance = float(values.square().mean())
    lower, upper = (values.narrow(dim, start, values.shape[dim] - 1) for start in (0, 1))
    return variance == 0 or float((lower * upper).mean()) > _SMOOTH * variance


def _by_module(
    groups: Iterator[tuple[str, ...]],
) -> dict[tuple[str, ...], list[tuple[str, ...]]]:
    """Groups of equal tensors under the modules that are copies of each other."""
    found: dict[tuple[str, ...], list[tuple[str, ...]]] = {}
    for names in groups:
        found.setdefault(_places(names), []).append(names)
    return found


def _places(names: tuple[str, ...]) -> tuple[str, ...]:
    """The names down to the last component in which they differ, or all of them as they are."""
    paths = [name.split(".") for name in names]
    if len({len(path) for path in paths}) > 1:
        return names
    differing = [place for place, parts in enumerate(zip(*paths, strict=True)) if not _same(parts)]
    return tuple(".".join(path[: differing[-1] + 1]) for path in paths)


def _same(parts: tuple[str, ...]) -> bool:
    return len(list(groupby(parts))) == 1


CLONE_CHECKS = (
    Check(
        "FAN105",
        "cloned-weights",
        "warning",
        "random weights are equal without being tied",
        "Copies start as one layer: side by side they stay one, in a row they add no diversity.",
        _clones,
    ),
)
