"""Random generators that a pass through a model may use, left as they were."""

from __future__ import annotations

import random
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch

__all__ = ["generators_kept"]


@contextmanager
def generators_kept() -> Iterator[None]:
    """Afterwards the generators of torch (CPU, CUDA), Python and NumPy are where they were."""
    cuda: Any = torch.cuda
    devices = list(range(cuda.device_count())) if cuda.is_initialized() else []
    state = random.getstate()
    numpy: Any = sys.modules.get("numpy")  # nobody has drawn from a library not yet imported
    numpy_state = numpy.random.get_state() if numpy is not None else None
    try:
        with torch.random.fork_rng(devices=devices):
            yield
    finally:
        random.setstate(state)
        if numpy is not None:
            numpy.random.set_state(numpy_state)
