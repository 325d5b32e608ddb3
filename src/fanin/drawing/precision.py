"""Matrix products in the precision that orthogonal fills promise."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext

import torch

__all__ = ["exact_products"]


@contextmanager
def exact_products(device: torch.device) -> Iterator[None]:
    """Products of float32 on this device without TF32, whose errors are a thousand times larger.

    That setting is torch's, for the whole process. What it was comes back afterwards; what followed
    torch's setting for all products follows it again. Autocast is off meanwhile: in its narrow
    dtypes some of the operations do not even exist.
    """
    with _without_autocast(device), _without_tf32(device):
        yield


def _without_autocast(device: torch.device) -> AbstractContextManager[object]:
    if not torch.amp.is_autocast_available(device.type):
        return nullcontext()
    return torch.autocast(device.type, enabled=False)


@contextmanager
def _without_tf32(device: torch.device) -> Iterator[None]:
    if device.type != "cuda":
        yield
        return
    settings = torch.backends.cuda.matmul
    # Once the newer name was set, torch refuses to read the older one.
    is_newer = hasattr(settings, "fp32_precision")
    name, exact = ("fp32_precision", "ieee") if is_newer else ("allow_tf32", False)
    before = getattr(settings, name)
    setattr(settings, name, exact)
    try:
        yield
    finally:
        if is_newer:
            settings.fp32_precision = "none"  # whatever is set for all products
        if getattr(settings, name) != before:
            setattr(settings, name, before)
