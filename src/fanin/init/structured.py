"""Elements that depend on each other or on their place: identities, orthogonal, sparse."""

from __future__ import annotations

from math import inf

import torch
from torch import Generator, Tensor
from torch.overrides import handle_torch_function, has_torch_function_unary

from fanin.drawing.targets import check_whole
from fanin.errors import ArgumentError, LayoutError
from fanin.fills import Dirac, Eye
from fanin.geometry import is_dtensor
from fanin.init.checks import NumberError, number
from fanin.init.writing import write, write_orthogonal, write_structure

__all__ = ["dirac_", "eye_", "orthogonal_", "sparse_"]


def eye_(tensor: Tensor) -> Tensor:
    """Fill a matrix with the identity, in place; what lies beyond the square is zero.

    Args:
        tensor: two dims, any dtype.

    Returns:
        ``tensor``.

    Raises:
        LayoutError: other than two dims.

    Example:
        >>> eye_(torch.empty(2, 3)).tolist()
        [[1.0, 0.0, 0.0], [0.0, 1.0, 0.0]]
    """
    if has_torch_function_unary(tensor):
        return handle_torch_function(eye_, (tensor,), tensor=tensor)
    _need_dims("eye_", tensor, (2,))
    if is_dtensor(tensor):
        write_structure(tensor, "eye_", Eye())
        return tensor
    with torch.no_grad():
        tensor.zero_().diagonal().fill_(1)
    return tensor


def dirac_(tensor: Tensor, groups: int = 1) -> Tensor:
    """Fill a convolution kernel so that it hands its input through, in place.

    Output channel ``d`` of each group has a one at input channel ``d``, tap ``size // 2``. An
    even kernel therefore shifts, and a grouped transposed convolution has other axes than this.

    Args:
        tensor: ``(out, in / groups, *kernel)``, one to three kernel dims, any dtype.
        groups: divides the output channels.

    Returns:
        ``tensor``.

    Raises:
        LayoutError: other than three to five dims, or groups that do not divide the channels.
        ArgumentError: fewer than one group.

    Example:
        >>> dirac_(torch.empty(2, 2, 3))[1].tolist()
        [[0.0, 0.0, 0.0], [0.0, 1.0, 0.0]]
    """
    if has_torch_function_unary(tensor):
        return handle_torch_function(dirac_, (tensor,), tensor=tensor, groups=groups)
    _need_dims("dirac_", tensor, (3, 4, 5))
    if groups < 1:
        raise ArgumentError(f"dirac_: groups is one or more. Got {groups}.")
    num_out, _, *kernel = tensor.shape
    if num_out % groups:
        raise LayoutError(
            f"dirac_: dim 0 must be divisible by groups. Got shape {tuple(tensor.shape)} for "
            f"groups={groups}. Pass the groups of the convolution."
        )
    if is_dtensor(tensor):
        write_structure(tensor, "dirac_", Dirac(groups))
        return tensor
    with torch.no_grad():
        tensor.zero_()
        if tensor.numel():
            channels = tensor.view(groups, num_out // groups, *tensor.shape[1:])
            for size in kernel:
                channels = channels.select(3, size // 2)
            channels.diagonal(dim1=1, dim2=2).fill_(1)
    return tensor


def orthogonal_(tensor: Tensor, gain: float = 1, generator: Generator | None = None) -> Tensor:
    """Fill with a Haar-distributed semi-orthogonal matrix times ``gain``, in place.

    Args:
        tensor: two or more dims, read as the matrix ``(shape[0], prod(shape[1:]))``: rows are
            orthonormal when it is wide, columns when it is tall.
        gain: multiplies the matrix.
        generator: where the 64 bits of the key come from (default: torch's on the CPU).

    Returns:
        ``tensor``.

    Raises:
        LayoutError: fewer than two dims.
        ArgumentError: ``gain`` is not finite in the arithmetic (also a RuntimeError).
        DtypeError: for integers (also a NotImplementedError).

    Example:
        >>> w = orthogonal_(torch.empty(3, 5))
        >>> torch.allclose(w @ w.T, torch.eye(3), atol=1e-5)
        True

    Source: Saxe, McClelland and Ganguli 2013, arXiv:1312.6120.
    """
    if has_torch_function_unary(tensor):
        return handle_torch_function(
            orthogonal_, (tensor,), tensor=tensor, gain=gain, generator=generator
        )
    if tensor.dim() < 2:
        check_whole("orthogonal_", tensor)
        raise LayoutError(
            f"orthogonal_: a matrix has two or more dims. Got shape {tuple(tensor.shape)}. "
            "Fill it with zeros_, ones_ or normal_."
        )
    return write_orthogonal(tensor, number(gain), generator)


def sparse_(
    tensor: Tensor, sparsity: float, std: float = 0.01, generator: Generator | None = None
) -> Tensor:
    """Fill a matrix with normal numbers and zero a share of each column, in place.

    ``ceil(sparsity · rows)`` entries of every column are zero, a uniformly drawn set of them. The
    description `fanin.initializers.sparse` zeroes entries of each row instead: inputs of one
    output unit.

    Args:
        tensor: two dims.
        sparsity: the share of zeros, in [0, 1].
        std: of what is not zero.
        generator: where the 64 bits of the key come from (default: torch's on the CPU).

    Returns:
        ``tensor``.

    Raises:
        LayoutError: other than two dims.
        ArgumentError: ``std < 0`` (also a RuntimeError), or sparsity outside [0, 1].
        DtypeError: for integers (also a NotImplementedError).

    Example:
        >>> (sparse_(torch.empty(10, 3), sparsity=0.25) == 0).sum(0).tolist()
        [3, 3, 3]

    Source: Martens 2010, ICML, section 5.
    """
    if has_torch_function_unary(tensor):
        return handle_torch_function(
            sparse_, (tensor,), tensor=tensor, sparsity=sparsity, std=std, generator=generator
        )
    _need_dims("sparse_", tensor, (2,))
    sparsity, std = number(sparsity), number(std)
    if not 0 <= sparsity <= 1:
        raise ArgumentError(f"sparse_: sparsity is the share of zeros, in [0, 1]. Got {sparsity}.")
    if not 0 <= std < inf:
        raise NumberError(f"sparse_: std is finite, zero or more. Got std={std}.")
    return write(tensor, "sparse", (sparsity, std), generator)


def _need_dims(name: str, tensor: Tensor, allowed: tuple[int, ...]) -> None:
    if tensor.dim() not in allowed:
        check_whole(name, tensor)
        dims = " or ".join(map(str, allowed))
        raise LayoutError(
            f"{name}: only tensors with {dims} dims. Got shape {tuple(tensor.shape)}. "
            "Reshape a view of it, or use another function."
        )
