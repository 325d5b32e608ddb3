"""How kernels are launched: types, options, number of programs; the GPU is one in name only."""

from __future__ import annotations

from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest
import torch
import triton
from triton.backends.compiler import GPUTarget
from triton.runtime import JITFunction

from cuda_cases import KEY, LAWS, REGIONS, row
from fanin.errors import EngineError
from fanin.geometry import Region
from fanin.stream.cuda import launching
from fanin.stream.cuda.kernels import draw_group, draw_places, draw_runs
from fanin.stream.cuda.numbers import numbers
from fanin.stream.laws import normal_law, truncated_law, uniform_law


class NamedDriver:
    """What Triton asks of a driver to compile, and nothing that would launch."""

    def get_current_target(self) -> GPUTarget:
        return GPUTarget("cuda", 90, 32)

    def get_current_device(self) -> int:
        return 0

    def get_current_stream(self, device: int) -> int:
        return 0


Launch = tuple[Any, int, dict[str, Any]]


@pytest.fixture
def launches(monkeypatch: pytest.MonkeyPatch, tmp_path) -> Iterator[list[Launch]]:
    """Kernel, programs and keywords of each launch, which compiles and goes no further."""
    seen: list[Launch] = []
    real = JITFunction.run

    def run(self: Any, *arguments: Any, grid: Any, warmup: bool, **keywords: Any) -> Any:
        if not warmup:
            seen.append((self, grid[0], keywords))
        return real(self, *arguments, grid=grid, warmup=True, **keywords)

    monkeypatch.setenv("TRITON_CACHE_DIR", str(tmp_path))
    monkeypatch.setattr(JITFunction, "run", run)
    monkeypatch.setattr(launching, "_checked", set())
    before = triton.runtime.driver._active
    triton.runtime.driver.set_active(NamedDriver())
    for kernel in (draw_runs, draw_places, draw_group):
        kernel.device_caches.clear()
    yield seen
    triton.runtime.driver.set_active(before)
    for kernel in (draw_runs, draw_places, draw_group):
        kernel.device_caches.clear()


def fill(region: Region, law: str = "normal", dtype: torch.dtype = torch.float32) -> None:
    launching.fill(LAWS[law](dtype), KEY, region, torch.empty(region.local_shape, dtype=dtype))


def test_a_tensor_is_one_launch(launches) -> None:
    for name in ("whole", "rows", "columns", "narrow columns", "every other row"):
        fill(REGIONS[name])
        assert len(launches) == 1, name
        launches.clear()


def test_five_dims_are_a_launch_for_each_place_in_the_outermost(launches) -> None:
    fill(REGIONS["many dims"])
    assert len(launches) == 3


def test_unequal_runs_are_a_launch_for_each_stretch(launches) -> None:
    fill(REGIONS["unequal runs"])
    assert len(launches) == 2 * 2  # rows (0, 2) | (4, 5), (6, 7); columns 100, 100 | 199


def test_programs_cover_the_blocks(launches) -> None:
    """A program has 512 blocks, 2048 elements; granules of 64 that a run touches count whole."""
    for start, count, programs in [(0, 2048, 1), (0, 2049, 2), (63, 2048, 2), (64, 2048, 1)]:
        fill(row(start, count))
        kernel, number, _ = launches.pop()
        assert (kernel, number) == (draw_runs, programs), (start, count)


def test_few_neighbours_are_drawn_one_by_one(launches) -> None:
    fill(REGIONS["narrow columns"])
    assert [kernel for kernel, *_ in launches] == [draw_places]


def test_a_group_is_a_launch_for_each_law_and_dtype(launches) -> None:
    tensors = [torch.empty(size, dtype=dtype) for dtype in (torch.float32, torch.float64)
               for size in (5, 700, 0)]  # fmt: skip
    launching.fill_together((normal_law(i, 0.5, t.dtype), i, t) for i, t in enumerate(tensors))
    assert [(kernel, programs) for kernel, programs, _ in launches] == [(draw_group, 3)] * 2


def test_fusion_is_off_and_asserted(launches, monkeypatch) -> None:
    checked = []
    monkeypatch.setattr(launching, "require_unfused", checked.append)
    fill(REGIONS["whole"])
    fill(REGIONS["whole"])
    assert [keywords["enable_fp_fusion"] for *_, keywords in launches] == [False, False]
    assert [compiled.metadata.enable_fp_fusion for compiled in checked] == [False]


def test_a_kernel_that_may_be_fused_is_not_launched(launches, monkeypatch) -> None:
    fused = SimpleNamespace(metadata=SimpleNamespace(enable_fp_fusion=True, name="draw_runs"))
    monkeypatch.setattr(JITFunction, "warmup", lambda *_, **__: fused)
    for _ in range(2):
        with pytest.raises(EngineError, match=r"enable_fp_fusion=False.* FANIN_ENGINE=native"):
            fill(REGIONS["whole"])
    assert launches == []


def test_numbers_are_no_reason_to_compile_again(launches) -> None:
    """1, multiples of 16 and numbers beyond 32 bits are what Triton would specialize for."""
    for start, count, std in [(1, 65, 1.0), (16, 128, 0.5), (2**40, 4096, 1e-30), (3, 67, 1e30)]:
        law = normal_law(0.0, std, torch.float32)
        launching.fill(law, start, row(start, count), torch.empty(count))
    (cache, *_), *others = draw_runs.device_caches.values()
    assert (len(cache), others) == (1, [])


def test_the_first_call_of_a_kernel_is_refused_in_a_capture(monkeypatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_current_stream_capturing", lambda: True)
    launching._require_no_capture(torch.empty(3))
    with pytest.raises(EngineError, match=r"the first call of a kernel loads it.* draw a tensor"):
        launching._require_no_capture(SimpleNamespace(is_cuda=True))


def test_every_number_is_an_int64() -> None:
    for kernel in (draw_runs, draw_places):
        types = {p.annotation_type for p in kernel.params if not p.is_constexpr and p.name != "out"}
        assert types == {"i64"}


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=["float32", "float64"])
def test_work_that_a_law_does_not_need_is_left_out(dtype: torch.dtype) -> None:
    def parts(law) -> tuple[bool, bool]:
        return numbers(law).meta["TAIL"], numbers(law).meta["CLAMPED"]

    assert parts(normal_law(0.0, 1.0, dtype)) == (False, False)
    assert parts(uniform_law(0.0, 1.0, dtype)) == (False, True)
    assert parts(truncated_law(0.0, 1.0, -2.0, 2.0, dtype)) == (False, True)
    assert parts(truncated_law(0.0, 1.0, -2.1, 2.0, dtype)) == (True, True)
