"""Which dtype a tensor gets when a model is converted to one."""

from __future__ import annotations

import torch

__all__ = ["converted_dtype"]


def converted_dtype(present: torch.dtype, asked: torch.dtype | None) -> torch.dtype:
    """The dtype that is asked for, for numbers that it can stand for; else the present one.

    Floating-point tensors follow any request, complex ones only one for complex numbers:
    ``model.to(torch.bfloat16)`` drops the imaginary part of rotary frequencies.

    Example:
        >>> [converted_dtype(each, torch.float16) for each in (torch.float32, torch.int64)]
        [torch.float16, torch.int64]
        >>> converted_dtype(torch.complex64, torch.float16)
        torch.complex64
    """
    if asked is None:
        return present
    follows = present.is_floating_point or (present.is_complex and asked.is_complex)
    return asked if follows else present
