"""Statistics of one tensor in float64, a piece at a time: no copy of it is made."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from fanin.planning.describe import dtype_text
from fanin.probing.rows import Histogram, Statistics

__all__ = ["histogram", "is_measurable", "is_transformed", "measure", "not_finite", "std_and_rms"]

# Elements converted to float64 at a time. On the CPU half a mebibyte for each thread, which its
# caches hold; elsewhere few launches matter more.
_PIECE = 1 << 16
_PIECE_OF_DEVICE = 1 << 22

_SAMPLE = 4096  # entries behind a histogram
_BINS = 32
_NEAR_BOUND = 0.01  # of the range: where a bounded function counts as saturated

# Squares of float64 stay normal numbers between these; no other dtype leaves them.
_SMALLEST, _LARGEST = 1e-140, 1e140

# Where the mean dwarfs the std, squares about zero cancel: they keep 53 bits, of which this
# ratio of variance to mean square takes 20.
_CANCELS = 2.0**-20


def is_measurable(tensor: Tensor) -> bool:
    """Whether a tensor has entries to measure: floating or complex, dense, with memory.

    One that `torch.func.vmap` or its kin pass around has none that can be read.
    """
    is_number = tensor.is_floating_point() or tensor.is_complex()
    is_dense = tensor.layout == torch.strided and not tensor.is_nested
    return is_number and is_dense and not tensor.is_meta and not is_transformed(tensor)


def is_transformed(tensor: Tensor) -> bool:
    """Whether it exists only inside a transform of `torch.func`."""
    functorch: Any = torch._C._functorch
    return bool(functorch.is_functorch_wrapped_tensor(tensor))


def measure(tensor: Tensor, *, bounds: tuple[float, float] | None = None) -> Statistics:
    """The statistics of a tensor, to float64 accuracy whatever its dtype.

    ``std`` is that of the entries themselves (divisor n). Entries that are not finite are counted
    and left out of everything else. Complex entries count as two numbers each. A tensor without
    entries has zeros throughout.

    Args:
        tensor: any dense tensor of numbers; neither its strides nor its dtype cost a copy.
        bounds: of the function that made it; ``saturated`` is the share of entries within 1 % of
            ``high - low`` from either.

    Example:
        >>> found = measure(torch.tensor([3.0, -4.0, 0.0, torch.inf]))
        >>> found.abs_max, round(found.rms, 3), found.infs
        (4.0, 2.887, 1)
    """
    with torch.no_grad(), torch._C.DisableTorchFunction():
        return _measured(tensor.detach(), bounds)


def std_and_rms(tensor: Tensor) -> tuple[float, float]:
    """Those two of `measure`, at half its cost; both nan or inf where an entry is."""
    with torch.no_grad(), torch._C.DisableTorchFunction():
        values = _numbers(tensor.detach())
        count = values.numel()
        if not count:
            return 0.0, 0.0
        sums = [torch.stack([piece.sum(), piece.dot(piece)]) for piece in _pieces(values)]
        total, square = (torch.stack(sums).sum(0) if len(sums) > 1 else sums[0]).tolist()
        if _SMALLEST**2 < square / count < _LARGEST**2:
            mean = total / count
            variance = square / count - mean * mean
            if variance > _CANCELS * mean * mean:
                return math.sqrt(variance), math.sqrt(square / count)
            return _apart(values, mean, count)[1], math.sqrt(square / count)
        found = _measured(tensor.detach(), None)
    if found.is_finite:
        return found.std, found.rms
    odd = math.nan if found.nans else math.inf
    return odd, odd


def histogram(tensor: Tensor) -> Histogram | None:
    """Of a sample of at most 4096 entries, in 32 bins; None where none is finite."""
    with torch.no_grad(), torch._C.DisableTorchFunction():
        return _histogram(_numbers(tensor.detach()))


def not_finite(tensor: Tensor) -> tuple[int, int]:
    """How many NaN and how many infinities a tensor has."""
    with torch.no_grad(), torch._C.DisableTorchFunction():
        values = _numbers(tensor.detach())
        sums = [piece.sum() for piece in _pieces(values)]
        if not sums or torch.stack(sums).isfinite().all():
            return 0, 0
        totals = _totals(values, None)
    return totals.nans, totals.infs


def _measured(tensor: Tensor, bounds: tuple[float, float] | None) -> Statistics:
    shape, dtype = tuple(tensor.shape), dtype_text(tensor.dtype)
    values = _numbers(tensor)
    if values.numel() <= _PIECE:  # one conversion for all that follows
        values = values.reshape(-1).to(values.device if _has_float64(values) else "cpu").double()
    totals = _totals(values, bounds)
    found = Statistics(
        shape,
        dtype,
        mean=0.0,
        std=0.0,
        rms=0.0,
        abs_max=max(abs(totals.low), abs(totals.high)),
        zeros=totals.zeros / max(totals.count, 1),
        saturated=totals.saturated / max(totals.count, 1) if bounds is not None else None,
        nans=totals.nans,
        infs=totals.infs,
    )
    if not totals.count:
        return found
    mean, std = _moments(values, totals, found.abs_max)
    rms = min(math.hypot(mean, std), found.abs_max)
    return replace(found, mean=mean, std=std, rms=rms, histogram=_histogram(values))


@dataclass(slots=True)
class _Totals:
    """Sums over the finite entries of a tensor, and what the others are."""

    count: int = 0
    total: float = 0.0
    square: float = 0.0
    low: float = 0.0
    high: float = 0.0
    zeros: int = 0
    saturated: int = 0
    nans: int = 0
    infs: int = 0


def _totals(values: Tensor, bounds: tuple[float, float] | None) -> _Totals:
    """One pass; a second one only where an entry is not finite."""
    totals = _Totals()
    if not values.numel():
        return totals
    found = _combined([_sums(piece, bounds) for piece in _pieces(values)])
    # A sum of finite float64 numbers may overflow too; the extremes say which it is.
    if not math.isfinite(found[2]) or not math.isfinite(found[3]):
        kept = []
        for piece in _pieces(values):
            finite = piece[piece.isfinite()]
            nans = int(piece.isnan().sum())
            totals.nans += nans
            totals.infs += piece.numel() - finite.numel() - nans
            if finite.numel():
                kept.append(_sums(finite, bounds))
        if not kept:
            return totals
        found = _combined(kept)
    totals.count = values.numel() - totals.nans - totals.infs
    totals.total, totals.square, totals.low, totals.high = found[:4]
    totals.zeros, totals.saturated = int(found[4]), int(found[5]) if bounds is not None else 0
    return totals


def _sums(piece: Tensor, bounds: tuple[float, float] | None) -> Tensor:
    """Sum, sum of squares, minimum, maximum, how many are zero; with bounds, how many saturated."""
    mask = torch.empty_like(piece)  # numbers 0 and 1: to count booleans takes several times as long
    zeros = torch.eq(piece, 0.0, out=mask).sum()
    sums = [piece.sum(), piece.dot(piece), *torch.aminmax(piece), zeros]
    if bounds is not None:
        margin = _NEAR_BOUND * (bounds[1] - bounds[0])
        saturated = torch.le(piece, bounds[0] + margin, out=mask).sum()
        sums.append(saturated + torch.ge(piece, bounds[1] - margin, out=mask).sum())
    return torch.stack(sums)


def _combined(sums: list[Tensor]) -> list[float]:
    """Those of all pieces; one look at the device."""
    if len(sums) == 1:
        only: list[float] = sums[0].tolist()
        return only
    table = torch.stack(sums).cpu()
    added: list[float] = table.sum(0).tolist()
    return [*added[:2], float(table[:, 2].amin()), float(table[:, 3].amax()), *added[4:]]


def _moments(values: Tensor, totals: _Totals, abs_max: float) -> tuple[float, float]:
    """Mean and std; another pass where squares about zero would lose them."""
    if totals.low == totals.high:
        return totals.low, 0.0
    if abs_max < _SMALLEST or abs_max > _LARGEST:
        exponent = max(-1000, min(math.frexp(abs_max)[1], 1000))  # its power is a number too
        mean, std = _about(values, 0.0, totals.count, exponent)
        return math.ldexp(mean, exponent), math.ldexp(std, exponent)
    mean = totals.total / totals.count
    variance = totals.square / totals.count - mean * mean
    if variance > _CANCELS * mean * mean:
        return mean, math.sqrt(variance)
    return _apart(values, mean, totals.count)


def _apart(values: Tensor, mean: float, count: int) -> tuple[float, float]:
    """Mean and std where the mean dwarfs the std; exact where all entries are one number."""
    first = float(values[(0,) * values.dim()])
    centre = first if math.isclose(first, mean, rel_tol=1e-12) else mean
    off, std = _about(values, centre, count)
    return centre + off, std


def _about(values: Tensor, centre: float, count: int, exponent: int = 0) -> tuple[float, float]:
    """Mean and std of the finite entries minus a centre, over a power of two."""
    total = square = 0.0
    for piece in _pieces(values):
        piece = piece[piece.isfinite()]
        piece = torch.ldexp(piece, torch.full_like(piece, -exponent)) if exponent else piece
        piece = piece - centre
        total += float(piece.sum())
        square += float(piece.dot(piece))
    mean = total / count
    return mean, math.sqrt(max(square / count - mean * mean, 0.0))


def _histogram(values: Tensor) -> Histogram | None:
    """Of entries at equal distances: an odd one, which meets every column of a matrix."""
    step = -(-values.numel() // _SAMPLE) | 1
    sample = _every(values, step).to("cpu").double()
    if not sample.numel():
        return None
    low, high = (float(end) for end in torch.aminmax(sample))
    if not math.isfinite(high - low):  # nor may all entries be
        sample = sample[sample.isfinite()]
        if not sample.numel():
            return None
        low, high = (float(end) for end in torch.aminmax(sample))
    if low == high:  # one value: bins around it
        reach = abs(low) / 2 or 0.5
        low, high = low - reach, high + reach
    if not low < high or not math.isfinite(high - low):
        return None
    counts = torch.histc(sample, _BINS, low, high).tolist()
    return Histogram(low, high, tuple(map(int, counts)))


def _every(values: Tensor, step: int) -> Tensor:
    """The first entry and every ``step``-th after it, in logical order."""
    if step == 1 or values.is_contiguous():
        return values.reshape(-1)[::step]
    places = torch.arange(0, values.numel(), step, device=values.device)
    if values.dtype.itemsize == 1:  # float8, which cannot be indexed
        return torch.take(values.view(torch.uint8), places).view(values.dtype)
    return torch.take(values, places)


def _numbers(tensor: Tensor) -> Tensor:
    """The same entries as real numbers, as they are in memory."""
    if tensor.is_complex():
        tensor = torch.view_as_real(tensor.resolve_conj())
    return tensor.resolve_neg()


def _pieces(values: Tensor) -> Iterator[Tensor]:
    """All entries, in float64, a flat piece at a time; order does not matter."""
    on_cpu = values.device.type == "cpu" or not _has_float64(values)
    limit = _PIECE * torch.get_num_threads() if on_cpu else _PIECE_OF_DEVICE
    device = torch.device("cpu") if on_cpu else values.device
    if values.dtype == torch.float64 and values.dim() == 1 and values.numel() <= limit:
        if values.numel():
            yield values  # as it is
        return
    buffer = torch.empty(min(values.numel(), limit), dtype=torch.float64, device=device)
    for part in _parts(_in_memory_order(values), limit):
        piece = buffer[: part.numel()]
        piece.view(part.shape).copy_(part)
        yield piece


def _has_float64(values: Tensor) -> bool:
    return values.device.type != "mps"


def _in_memory_order(values: Tensor) -> Tensor:
    """A view whose dims go from far to near, flat where its memory is."""
    if values.is_contiguous():
        return values.view(-1)
    order = sorted(range(values.dim()), key=lambda dim: -values.stride()[dim])
    ordered = values.permute(order)
    return ordered.view(-1) if ordered.is_contiguous() else ordered


def _parts(values: Tensor, limit: int) -> Iterator[Tensor]:
    """Views of at most ``limit`` elements that together are the tensor."""
    if values.numel() <= limit:
        yield values
        return
    row = values.numel() // values.shape[0]
    if row <= limit:
        yield from torch.split(values, limit // row)
        return
    for index in range(values.shape[0]):
        yield from _parts(values[index], limit)
