from __future__ import annotations

import pytest
import torch

from fanin.errors import UnknownNameError
from fanin.geometry import Region
from fanin.stream import laws, native
from fanin.stream.narrow import FORMATS
from fanin.stream.native import _CODES as CODES

CANARY = 77


def test_every_dtype_has_a_code_of_its_own() -> None:
    assert set(CODES) == {torch.float32, torch.float64, *FORMATS}
    assert sorted(CODES.values()) == list(range(len(CODES)))


def test_builds_end_with_the_baseline() -> None:
    assert native.builds()[-1] == "baseline"
    assert native.active_build() in native.builds()


def test_use_chooses_a_build(use_build) -> None:
    for build in native.builds():
        use_build(build)
        assert native.active_build() == build


def test_an_unknown_build_is_refused_and_changes_nothing() -> None:
    before = native.active_build()
    with pytest.raises(UnknownNameError, match=r"Got 'avx3'. .*Known: .*baseline"):
        native.use("avx3")
    assert native.active_build() == before


@pytest.mark.parametrize("dtype", CODES, ids=lambda dtype: str(dtype)[6:])
@pytest.mark.parametrize("count", [0, 1, 15, 63, 64, 65, 255, 256, 257, 16383, 16384, 16385])
def test_flat_fills_write_what_they_should_and_no_more(count: int, dtype: torch.dtype) -> None:
    law = laws.uniform_law(0.0, 1.0, dtype)
    whole = torch.empty(20000, dtype=dtype)
    native.fill(law, 5, Region.whole((20000,)), whole)
    memory = torch.full(((count + 8) * dtype.itemsize,), CANARY, dtype=torch.uint8)
    native.fill_flat(law, 5, memory.data_ptr(), count)
    size = count * dtype.itemsize
    assert torch.equal(memory[:size], whole.view(torch.uint8)[:size])
    assert (memory[size:] == CANARY).all()


@pytest.mark.parametrize("start", [0, 1, 63, 64, 100])
@pytest.mark.parametrize("count", [0, 1, 63, 64, 65, 200])
def test_runs_and_bits_write_no_more_than_they_should(start: int, count: int) -> None:
    law = laws.normal_law(0.0, 1.0, torch.float16)
    numbers = torch.full((count + 8,), float(CANARY), dtype=torch.float16)
    region = Region((1000,), (((start, start + count),),))
    native.fill(law, 5, region, numbers[: region.numel])
    assert (numbers[count:] == CANARY).all()
    words = torch.full((count + 8,), CANARY, dtype=torch.int32)
    native.bits(5, 0, start, words[:count])
    assert (words[count:] == CANARY).all()


def test_a_scalar_region() -> None:
    law = laws.normal_law(0.0, 1.0, torch.float32)
    scalar, row = torch.empty(()), torch.empty(1)
    native.fill(law, 5, Region.whole(()), scalar)
    native.fill(law, 5, Region.whole((1,)), row)
    assert scalar == row[0]


def test_an_address_that_is_no_number() -> None:
    law = laws.normal_law(0.0, 1.0, torch.float32)
    with pytest.raises(TypeError, match="incompatible function arguments"):
        native.fill_flat(law, -1, torch.empty(4).data_ptr(), 4)
