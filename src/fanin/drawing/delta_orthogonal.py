"""Delta-orthogonal kernels: an orthogonal matrix at the centre tap, zeros elsewhere."""

from __future__ import annotations

from torch import Tensor

from fanin.drawing.orthogonal import compute_dtype, draw_orthogonal
from fanin.drawing.structured import centre_tap
from fanin.errors import LayoutError
from fanin.fills import DeltaOrthogonal, Orthogonal
from fanin.geometry import Region
from fanin.stream import Key

__all__ = ["draw_delta_orthogonal"]


def draw_delta_orthogonal(fill: DeltaOrthogonal, key: Key, region: Region, out: Tensor) -> None:
    """Fill ``out`` with the region's part of a kernel that preserves the norm of its input.

    The centre tap (``size // 2``) is the `Orthogonal` matrix (out, in) of this key, one for each
    batch index, in the index space of those matrices; a region without the centre tap draws
    nothing.

    Raises:
        ArgumentError: for a gain that is not finite in the arithmetic.
        DtypeError: when the tensor holds no random numbers.
        LayoutError: when the tensor is no kernel, or has more input than output channels.

    Source: Xiao et al. 2018, arXiv:1806.05393.
    """
    first_kernel_dim = fill.batch_dims + 2
    shape = region.shape[fill.batch_dims :]
    if len(shape) < 3:
        raise LayoutError(
            f"delta_orthogonal: a kernel is (out, in, *k) with three or more dims. Got shape "
            f"{shape} after {fill.batch_dims} batch dims. For a matrix use orthogonal()."
        )
    if shape[1] > shape[0]:
        raise LayoutError(
            f"delta_orthogonal: a norm can only be kept by at least as many output as input "
            f"channels. Got {shape[0]} from {shape[1]} for shape {shape}. Use orthogonal(), or "
            "widen the layer."
        )
    compute_dtype(out.dtype, fill.gain)  # refuses before anything is written
    out.zero_()
    tap = centre_tap(region, out, first_kernel_dim)
    if tap is not None:
        matrices = Region(region.shape[:first_kernel_dim], region.runs[:first_kernel_dim])
        draw_orthogonal(Orthogonal(fill.gain, fill.batch_dims), key, matrices, tap)
