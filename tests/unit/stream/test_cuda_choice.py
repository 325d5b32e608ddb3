"""When tensors on a GPU are drawn there, and what is said when they are not."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from types import SimpleNamespace

import pytest
import torch
import triton

from fanin import stream
from fanin.stream.cuda import availability

GPU = torch.device("cuda", 0)


@pytest.fixture
def pretend(monkeypatch: pytest.MonkeyPatch) -> Iterator[pytest.MonkeyPatch]:
    """As if this machine had one recent GPU, and nothing had been asked yet."""
    caches = [availability.reason, availability._is_recent]
    for cache in caches:
        cache.cache_clear()
    monkeypatch.delenv("FANIN_ENGINE", raising=False)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda index: (9, 0))
    monkeypatch.setattr(triton.runtime.driver, "_active", SimpleNamespace(get_current_target=int))
    yield monkeypatch
    for cache in caches:
        cache.cache_clear()


def cuda_engine() -> stream.Engine:
    return next(engine for engine in stream.engines() if engine.name == "cuda")


def test_a_recent_gpu_is_drawn_on(pretend) -> None:
    assert cuda_engine().active
    assert cuda_engine().why == (
        "Triton kernels for CUDA devices; tensors on other devices are drawn on the CPU and copied"
    )
    assert stream.draws_on(GPU)
    assert stream.draws_on(torch.device("cpu"))
    assert not stream.draws_on(torch.device("mps"))


@pytest.mark.parametrize(
    ("change", "why"),
    [
        (lambda p: p.setattr(torch.cuda, "is_available", lambda: False), "torch sees no CUDA"),
        (lambda p: p.setitem(sys.modules, "triton", None), "Triton is not installed"),
        (
            lambda p: p.setitem(sys.modules, "triton", SimpleNamespace(__version__="3.6.0+git1")),
            "Triton 3.6.0+git1 is installed, and 3.7 or newer needed",
        ),
        (
            lambda p: p.setattr(torch.cuda, "get_device_capability", lambda index: (7, 5)),
            "no device has compute capability 8.0",
        ),
        (
            lambda p: p.setattr(triton.runtime.driver, "_active", SimpleNamespace()),
            "Triton cannot launch kernels here: it compiles a part of itself, in C (",
        ),
        (lambda p: p.setenv("FANIN_ENGINE", "reference"), "FANIN_ENGINE asks for reference"),
    ],
    ids=["no device", "no Triton", "an old Triton", "an old device", "no compiler", "on request"],
)
def test_why_not(change, why: str, pretend) -> None:
    change(pretend)
    assert not cuda_engine().active
    assert cuda_engine().why.startswith(why)
    assert cuda_engine().why.endswith("; tensors off the CPU are drawn on it and copied")
    assert not stream.draws_on(GPU)


def test_importing_and_drawing_on_the_cpu_leave_triton_alone() -> None:
    script = (
        "import sys, torch, fanin\n"
        "before = 'triton' in sys.modules\n"
        "fanin.init.normal_(torch.empty(3)); fanin.stream.engines()\n"
        "print(before, 'triton' in sys.modules)"
    )
    ran = subprocess.run(
        [sys.executable, "-c", script],
        env={**os.environ, "CUDA_VISIBLE_DEVICES": ""},  # asked of a device, it takes triton
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    assert ran.stdout.split() == ["False", "False"]
