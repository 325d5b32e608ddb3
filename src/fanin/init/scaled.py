"""Scaled by the fans that torch reads off a shape: xavier and kaiming."""

from __future__ import annotations

import math
import warnings

from torch import Generator, Tensor
from torch.overrides import handle_torch_function, has_torch_function_unary

from fanin.drawing.targets import check_whole
from fanin.errors import LayoutError, UnknownNameError, one_of
from fanin.gains import calculate_gain
from fanin.init.checks import NumberError, number
from fanin.init.writing import write_elementwise

__all__ = [
    "_calculate_correct_fan",
    "_calculate_fan_in_and_fan_out",
    "kaiming_normal_",
    "kaiming_uniform_",
    "xavier_normal_",
    "xavier_uniform_",
]


def xavier_uniform_(
    tensor: Tensor, gain: float = 1.0, generator: Generator | None = None
) -> Tensor:
    """Fill with numbers uniform on ``±gain·√(6 / (fan_in + fan_out))``, in place.

    Args:
        tensor: two or more dims, ``(out, in, *kernel)``.
        gain: multiplies the std; zero or more.
        generator: where the 64 bits of the key come from (default: torch's on the CPU).

    Returns:
        ``tensor``.

    Raises:
        LayoutError: fewer than two dims.
        ArgumentError: a negative gain (also a RuntimeError).

    Example:
        >>> import torch
        >>> bool((xavier_uniform_(torch.empty(4, 2)).abs() <= 1).all())
        True

    Source: Glorot and Bengio 2010, AISTATS, eq. 16.
    """
    if has_torch_function_unary(tensor):
        return handle_torch_function(
            xavier_uniform_, (tensor,), tensor=tensor, gain=gain, generator=generator
        )
    return _write_uniform(tensor, _xavier_std(tensor, gain), generator)


def xavier_normal_(tensor: Tensor, gain: float = 1.0, generator: Generator | None = None) -> Tensor:
    """Fill with normal numbers of std ``gain·√(2 / (fan_in + fan_out))``, in place.

    Arguments, errors and source are those of `xavier_uniform_` (eq. 12).

    Returns:
        ``tensor``.

    Example:
        >>> import torch
        >>> bool((xavier_normal_(torch.empty(4, 2), gain=0.0) == 0).all())
        True
    """
    if has_torch_function_unary(tensor):
        return handle_torch_function(
            xavier_normal_, (tensor,), tensor=tensor, gain=gain, generator=generator
        )
    return _write_normal(tensor, _xavier_std(tensor, gain), generator)


def kaiming_uniform_(
    tensor: Tensor,
    a: float = 0,
    mode: str = "fan_in",
    nonlinearity: str = "leaky_relu",
    generator: Generator | None = None,
) -> Tensor:
    """Fill with numbers uniform on ``±gain·√(3 / fan)``, in place.

    Args:
        tensor: two or more dims, ``(out, in, *kernel)``.
        a: the negative slope of leaky_relu; not a scale (``a=√5`` makes the gain ``√(1/3)``).
        mode: ``"fan_in"`` keeps the forward variance, ``"fan_out"`` the backward one.
        nonlinearity: a name that `calculate_gain` knows.
        generator: where the 64 bits of the key come from (default: torch's on the CPU).

    Returns:
        ``tensor``.

    Raises:
        LayoutError: fewer than two dims.
        UnknownNameError: no such mode or nonlinearity.
        ArgumentError: a slope that is no number.

    Example:
        >>> import torch
        >>> w = kaiming_uniform_(torch.empty(2, 6), nonlinearity="relu")
        >>> bool((w.abs() <= 1).all())
        True

    Source: He et al. 2015, arXiv:1502.01852, eq. 10 and 14.
    """
    if has_torch_function_unary(tensor):
        return handle_torch_function(
            kaiming_uniform_,
            (tensor,),
            tensor=tensor,
            a=a,
            mode=mode,
            nonlinearity=nonlinearity,
            generator=generator,
        )
    if 0 in tensor.shape:
        check_whole("kaiming_uniform_", tensor)
        warnings.warn(_NOTHING_TO_FILL, stacklevel=2)
        return tensor
    return _write_uniform(tensor, _kaiming_std(tensor, a, mode, nonlinearity), generator)


def kaiming_normal_(
    tensor: Tensor,
    a: float = 0,
    mode: str = "fan_in",
    nonlinearity: str = "leaky_relu",
    generator: Generator | None = None,
) -> Tensor:
    """Fill with normal numbers of std ``gain / √fan``, in place.

    Arguments, errors and source are those of `kaiming_uniform_`.

    Returns:
        ``tensor``.

    Example:
        >>> import torch
        >>> w = torch.empty(4, 2)
        >>> kaiming_normal_(w) is w
        True
    """
    if has_torch_function_unary(tensor):
        return handle_torch_function(
            kaiming_normal_,
            (tensor,),
            tensor=tensor,
            a=a,
            mode=mode,
            nonlinearity=nonlinearity,
            generator=generator,
        )
    if 0 in tensor.shape:
        check_whole("kaiming_normal_", tensor)
        warnings.warn(_NOTHING_TO_FILL, stacklevel=2)
        return tensor
    return _write_normal(tensor, _kaiming_std(tensor, a, mode, nonlinearity), generator)


def _calculate_fan_in_and_fan_out(tensor: Tensor) -> tuple[int, int]:
    """Torch's fans: the shape read as ``(out, in, *kernel)``, whatever module it belongs to."""
    if tensor.dim() < 2:
        check_whole("init", tensor)
        raise LayoutError(
            "init: fan in and fan out need two or more dims, (out, in, *kernel). "
            f"Got shape {tuple(tensor.shape)}. Fill it with zeros_, ones_ or normal_."
        )
    num_out, num_in, *kernel = tensor.shape
    taps = math.prod(kernel)
    return num_in * taps, num_out * taps


def _calculate_correct_fan(tensor: Tensor, mode: str) -> int:
    """The fan that ``mode`` names, in any case of letters."""
    fans = dict(zip(_MODES, _calculate_fan_in_and_fan_out(tensor), strict=True))
    name = mode.lower()
    if name not in fans:
        raise UnknownNameError(f"init: mode names a fan. Got {mode!r}. {one_of(name, _MODES)}")
    return fans[name]


_MODES = ("fan_in", "fan_out")
_NOTHING_TO_FILL = "Initializing zero-element tensors is a no-op: the tensor holds nothing to fill"


def _xavier_std(tensor: Tensor, gain: float) -> float:
    fans = sum(_calculate_fan_in_and_fan_out(tensor))
    return gain * math.sqrt(2.0 / max(fans, 1))  # no fans, as in (0, 0): nothing to fill


def _kaiming_std(tensor: Tensor, a: float, mode: str, nonlinearity: str) -> float:
    fan = _calculate_correct_fan(tensor, mode)
    return calculate_gain(nonlinearity, a) / math.sqrt(fan)


def _write_uniform(tensor: Tensor, std: float, generator: Generator | None) -> Tensor:
    bound = math.sqrt(3.0) * _checked(std)
    return write_elementwise(tensor, "scaled_uniform", (bound,), generator)


def _write_normal(tensor: Tensor, std: float, generator: Generator | None) -> Tensor:
    return write_elementwise(tensor, "scaled_normal", (_checked(std),), generator)


def _checked(std: float) -> float:
    std = number(std)
    if not 0 <= std < math.inf:
        raise NumberError(f"init: a std is finite, zero or more. Got {std}. Check the gain.")
    return std
