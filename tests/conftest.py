"""Process-wide settings that tests change and that must come back."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator

import pytest
import torch

from fanin.stream import native


def pytest_configure() -> None:
    """One thread for each of several workers: two teams of threads that spin cost both dearly."""
    if "PYTEST_XDIST_WORKER" in os.environ:
        torch.set_num_threads(1)
        os.environ["OMP_NUM_THREADS"] = "1"  # for the commands that tests start


@pytest.fixture
def use_build() -> Iterator[Callable[[str], None]]:
    """Choose a build of the native engine until the test ends."""
    before = native.active_build()
    yield native.use
    native.use(before)


@pytest.fixture
def use_threads() -> Iterator[Callable[[int], None]]:
    """Choose torch's number of threads until the test ends."""
    before = torch.get_num_threads()
    yield torch.set_num_threads
    torch.set_num_threads(before)


@pytest.fixture
def flush_denormal() -> Iterator[Callable[[bool], bool]]:
    """Set torch's flushing of subnormal numbers until the test ends."""
    yield torch.set_flush_denormal
    torch.set_flush_denormal(False)
