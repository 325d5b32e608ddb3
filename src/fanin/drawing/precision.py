"""Matrix products in the precision that orthogonal fills promise."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext

import torch

__all__ = ["exact_products"]

# Of threads that change the setting: another one would take the change for what the user set.
_turns = threading.RLock()


@contextmanager
def exact_products(device: torch.device) -> Iterator[None]:
    """Products of float32 on this device without TF32 or bfloat16, whose errors are far larger.

    That setting is torch's, for the whole process. What it was comes back afterwards; what followed
    torch's setting for all products follows it again. Autocast is off meanwhile: in its narrow
    dtypes some of the operations do not even exist.
    """
    with _without_autocast(device), _in_float32(device):
        yield


def _without_autocast(device: torch.device) -> AbstractContextManager[object]:
    if not torch.amp.is_autocast_available(device.type):
        return nullcontext()
    return torch.autocast(device.type, enabled=False)


@contextmanager
def _in_float32(device: torch.device) -> Iterator[None]:
    backend = {"cpu": torch.backends.mkldnn, "cuda": torch.backends.cuda}.get(device.type)
    if backend is None:
        yield
        return
    settings = backend.matmul
    with _turns:
        before = settings.fp32_precision
        if before not in ("none", "ieee"):
            settings.fp32_precision = "ieee"
            try:
                yield
            finally:
                settings.fp32_precision = "none"  # whatever is set for all products
                if settings.fp32_precision != before:
                    settings.fp32_precision = before
            return
    yield  # exact already: no thread waits for another
