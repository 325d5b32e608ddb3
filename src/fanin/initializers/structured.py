"""Structured contents: they need the parameter's axes, and follow them wherever they are stored."""

from __future__ import annotations

from fanin.errors import ArgumentError, LayoutError
from fanin.fills import DeltaOrthogonal, Dirac, Eye, Fill, Orthogonal, Rearranged, Sparse
from fanin.geometry import Layout
from fanin.initializers.initializer import Initializer, check_numbers, register

__all__ = ["delta_orthogonal", "dirac", "eye", "orthogonal", "sparse"]


def eye(*, gain: float = 1.0) -> Initializer:
    """The identity map times ``gain``: a linear layer hands its first inputs through.

    Args:
        gain: the value on the diagonal.

    Returns:
        A description for matrices.

    Raises:
        LayoutError: when resolved for a parameter that is no matrix.

    Example:
        >>> eye().resolve(Layout.linear(4, 3))
        Eye(gain=1.0)
    """
    check_numbers("eye", gain=gain)
    return Initializer("eye", (("gain", gain),))


def dirac(*, groups: int | None = None) -> Initializer:
    """A convolution that hands its input channels through, group by group.

    Args:
        groups: of the convolution; by default those of the layout.

    Returns:
        A description for kernels with one to three spatial dims.

    Raises:
        LayoutError: when resolved for a parameter that is no such kernel.

    Example:
        >>> dirac().resolve(Layout.conv(8, 8, 3, 3, groups=2))
        Dirac(groups=2)
    """
    if groups is not None and not (type(groups) is int and groups > 0):
        raise ArgumentError(f"dirac: groups is a positive integer. Got {groups!r}.")
    return Initializer("dirac", (("groups", groups),))


def orthogonal(*, gain: float = 1.0) -> Initializer:
    """A random matrix with orthonormal rows or columns, times ``gain``, uniform among all of them.

    The matrix is (out, in · kernel), one for each group, expert or other batch index. The std of
    an entry is ``gain / sqrt(max(out, in · kernel))``.

    Args:
        gain: multiplies the matrix; the gain of the nonlinearity that follows.

    Returns:
        A description for weights with in and out axes.

    Raises:
        LayoutError: when resolved for a parameter without these axes.

    Example:
        >>> orthogonal(gain=2.0).resolve(Layout.linear(4, 3))
        Orthogonal(gain=2.0, batch_dims=0, row_dims=1)

    Source: Saxe, McClelland and Ganguli 2013, arXiv:1312.6120; Mezzadri 2006, math-ph/0609050.
    """
    check_numbers("orthogonal", gain=gain)
    return Initializer("orthogonal", (("gain", gain),))


def delta_orthogonal(*, gain: float = 1.0) -> Initializer:
    """A convolution kernel that is orthogonal at its centre tap and zero elsewhere.

    With as many output as input channels or more, the layer keeps every norm.

    Args:
        gain: multiplies the matrix.

    Returns:
        A description for kernels, with at least as many output as input channels.

    Raises:
        LayoutError: when resolved for a parameter that is no kernel, or when drawn for one with
            fewer output than input channels.

    Example:
        >>> delta_orthogonal().resolve(Layout.conv(8, 4, 3, 3))
        DeltaOrthogonal(gain=1.0, batch_dims=0)

    Source: Xiao et al. 2018, arXiv:1806.05393, algorithm 2.
    """
    check_numbers("delta_orthogonal", gain=gain)
    return Initializer("delta_orthogonal", (("gain", gain),))


def sparse(sparsity: float, *, std: float = 0.01) -> Initializer:
    """Normal, with the same number of zero inputs at every output unit.

    ``ceil(sparsity · fan_in)`` inputs of each unit, chosen at random, are zero.

    Args:
        sparsity: the share of zeros, in [0, 1].
        std: of the entries that are not zeroed.

    Returns:
        A description for matrices.

    Raises:
        ArgumentError: a share outside [0, 1], or a negative std.
        LayoutError: when resolved for a parameter that is no matrix.

    Example:
        >>> sparse(0.9).resolve(Layout.linear(64, 100)).num_zeros(100)
        90

    Source: Martens 2010, Deep learning via Hessian-free optimization, ICML, section 5.
    """
    check_numbers("sparse", sparsity=sparsity, std=std)
    Sparse(sparsity, std)
    return Initializer("sparse", (("sparsity", sparsity), ("std", std)))


def _eye(layout: Layout, gain: float) -> Fill:
    _check_matrix(layout)
    return Eye(gain)  # the transpose of the identity is the identity


def _dirac(layout: Layout, groups: int | None) -> Fill:
    axes = {*layout.in_axes, *layout.out_axes}
    if not 3 <= len(layout.shape) <= 5 or axes != {0, 1} or layout.batch_axes:
        raise LayoutError(
            f"a kernel has out and in channels first, then one to three spatial dims. Got "
            f"{layout!r}. Use eye() for a matrix, or another initializer."
        )
    return Dirac(layout.groups if groups is None else groups)


def _orthogonal(layout: Layout, gain: float) -> Fill:
    view = layout.matrix
    return _rearranged(layout, Orthogonal(gain, view.num_batch, view.num_out))


def _delta_orthogonal(layout: Layout, gain: float) -> Fill:
    view = layout.matrix
    if not layout.kernel_axes or (view.num_out, view.num_in) != (1, 1):
        raise LayoutError(
            f"a convolution's kernel has spatial dims. Got {layout!r}. Use "
            "orthogonal() for a weight without them."
        )
    out_channels = layout.shape[layout.out_axes[0]] // (
        layout.groups if 0 in layout.out_axes else 1
    )
    in_channels = layout.shape[layout.in_axes[0]] // (layout.groups if 0 in layout.in_axes else 1)
    if in_channels > out_channels:
        raise LayoutError(
            f"a norm is kept by at least as many output as input channels. Got {out_channels} and "
            f"{in_channels} for {layout!r}. Use orthogonal() instead."
        )
    return _rearranged(layout, DeltaOrthogonal(gain, view.num_batch))


def _sparse(layout: Layout, sparsity: float, std: float) -> Fill:
    _check_matrix(layout)
    return Sparse(sparsity, std, dim=layout.matrix.dims[1])


def _check_matrix(layout: Layout) -> None:
    if len(layout.shape) != 2 or layout.groups > 1 or not layout.in_axes or not layout.out_axes:
        raise LayoutError(
            f"a matrix has one in and one out axis. Got {layout!r}. "
            "Match it with another initializer."
        )


def _rearranged(layout: Layout, fill: Fill) -> Fill:
    view = layout.matrix
    return fill if view.is_stored else Rearranged(fill, view.dims, view.groups)


register(eye, _eye)
register(dirac, _dirac)
register(orthogonal, _orthogonal)
register(delta_orthogonal, _delta_orthogonal)
register(sparse, _sparse)
