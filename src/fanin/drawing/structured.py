"""Constants, identity matrices and kernels: numbers whose places follow from their indices."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from fanin.drawing.indices import beside
from fanin.errors import DtypeError, LayoutError
from fanin.fills import Constant, Dirac, Eye
from fanin.geometry import Region
from fanin.stream import Key
from fanin.stream.narrow import FORMATS, narrow

__all__ = ["centre_tap", "draw_constant", "draw_dirac", "draw_eye"]


def draw_constant(fill: Constant, key: Key, region: Region, out: Tensor) -> None:
    """Fill ``out`` with one value.

    Raises:
        DtypeError: when the dtype does not hold the value: 0.5 as an integer, 1e6 in float16.
    """
    _check_holds("constant", fill.value, out.dtype)
    out.fill_(fill.value)


def draw_eye(fill: Eye, key: Key, region: Region, out: Tensor) -> None:
    """Fill ``out`` with the region's part of ``gain`` times the identity matrix.

    Raises:
        LayoutError: when the tensor is no matrix.
        DtypeError: when an integer dtype does not hold the gain.
    """
    if len(region.shape) != 2:
        raise LayoutError(
            f"eye: the identity has exactly two dims. Got shape {region.shape}. "
            "For a convolution kernel use dirac()."
        )
    if not (out.is_floating_point() or out.is_complex()):  # those saturate, as drawn numbers do
        _check_holds("eye", fill.gain, out.dtype)
    out.zero_()
    if region.is_whole:
        out.diagonal().copy_(_scalar(fill.gain, out))
    else:
        _write_ones(out, region.indices(0), region, fill.gain)


def draw_dirac(fill: Dirac, key: Key, region: Region, out: Tensor) -> None:
    """Fill ``out`` with the region's part of a kernel that hands its input through.

    Output channel ``d`` of each group has a 1 at input channel ``d``, at tap ``size // 2``.

    Raises:
        LayoutError: when the tensor is no convolution kernel of that many groups.
    """
    shape = region.shape
    if not 3 <= len(shape) <= 5:
        raise LayoutError(
            f"dirac: a kernel is (out, in, *k) with three to five dims. Got shape {shape}. "
            "For a matrix use eye()."
        )
    if fill.groups < 1 or shape[0] % fill.groups:
        raise LayoutError(
            f"dirac: groups must divide the output channels. Got groups={fill.groups} for shape "
            f"{shape}. Pass the groups of the convolution."
        )
    out.zero_()
    tap = centre_tap(region, out)
    if tap is not None:
        # Channels of a tensor without any have no place to hold a 1: max() keeps `%` defined.
        per_group = max(1, shape[0] // fill.groups)
        _write_ones(tap, region.indices(0) % per_group, region, 1.0)


def centre_tap(region: Region, out: Tensor, first_kernel_dim: int = 2) -> Tensor | None:
    """The view of ``out`` (…, rows, columns) at tap ``size // 2``, if the region holds that tap."""
    for dim in range(first_kernel_dim, len(region.shape)):
        place = (region.indices(dim) == region.shape[dim] // 2).nonzero()
        if not len(place):
            return None
        out = out.select(first_kernel_dim, int(place[0, 0]))
    return out


def _write_ones(out: Tensor, wanted: Tensor, region: Region, value: float) -> None:
    """``value`` in each local row of ``out``, at the global column ``wanted`` of that row."""
    columns = region.shape[1]
    local = torch.full((columns,), -1, device="cpu")
    local[region.indices(1)] = torch.arange(region.local_shape[1], device="cpu")
    rows = (wanted < columns).nonzero()[:, 0]
    places = local[wanted[rows]]
    rows, places = rows[places >= 0], places[places >= 0]
    rows, places = (beside(which, out.device) for which in (rows, places))
    out[rows, places] = _scalar(value, out)


def _check_holds(name: str, value: float, dtype: torch.dtype) -> None:
    """Refuse a value beyond the range of a dtype, or between two integers; NaN and inf pass."""
    if dtype.is_floating_point or dtype.is_complex:
        holds = not math.isfinite(value) or abs(value) <= torch.finfo(dtype).max
    elif dtype == torch.bool:
        holds = value in (0, 1)
    else:
        info = torch.iinfo(dtype)
        holds = info.min <= value <= info.max and value == int(value)
    if not holds:
        raise DtypeError(
            f"{name}: the tensor's dtype must hold the value. Got {value} for "
            f"{str(dtype).removeprefix('torch.')}. Use a wider dtype or another value."
        )


def _scalar(value: float, out: Tensor) -> Tensor:
    """The number in the dtype of ``out``, rounded as drawn numbers are, made where it is needed."""
    if out.dtype in FORMATS:
        rounded = narrow(torch.tensor(value, dtype=torch.float32, device="cpu"), out.dtype)
        bits = torch.int16 if out.itemsize == 2 else torch.uint8
        return torch.full((), int(rounded.view(bits)), dtype=bits, device=out.device).view(
            out.dtype
        )
    return torch.full((), value, dtype=out.dtype, device=out.device)
