"""What the cuda engine writes, against the CPU, bit by bit."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
from torch import Tensor

from cuda_cases import DTYPES, KEY, LAWS, LAYOUTS, REGIONS, STARTS, bits_of, row
from fanin import fills, stream
from fanin.drawing import draw
from fanin.geometry import Region
from fanin.stream import Key, laws

pytestmark = pytest.mark.gpu

DEVICE = "cuda"
NAMED = Key(0, "weight")

each_dtype = pytest.mark.parametrize("dtype", DTYPES, ids=lambda dtype: str(dtype)[6:])
each_law = pytest.mark.parametrize("law", LAWS.values(), ids=list(LAWS))
each_region = pytest.mark.parametrize("region", REGIONS.values(), ids=list(REGIONS))
each_layout = pytest.mark.parametrize("layout", LAYOUTS.values(), ids=list(LAYOUTS))


def on_cpu(law: laws.Law, region: Region) -> Tensor:
    out = torch.empty(region.local_shape, dtype=law.dtype)
    stream.fill(law, KEY, region, out)
    return out


def on_gpu(law: laws.Law, region: Region, out: Tensor | None = None) -> Tensor:
    if out is None:
        out = torch.empty(region.local_shape, dtype=law.dtype, device=DEVICE)
    stream.fill(law, KEY, region, out)
    return out


def same_bits(a: Tensor, b: Tensor) -> bool:
    return torch.equal(bits_of(a), bits_of(b))


def test_the_engine_is_active() -> None:
    assert {engine.name: engine.active for engine in stream.engines()}["cuda"]
    assert stream.draws_on(torch.device(DEVICE))


@each_dtype
@each_law
def test_whole_tensors(law, dtype) -> None:
    region = Region.whole((1023, 1025))
    assert same_bits(on_gpu(law(dtype), region), on_cpu(law(dtype), region))


@each_dtype
@each_law
def test_far_indices(law, dtype) -> None:
    for start in STARTS:
        for count in (250, 20):
            region = row(start, count)
            assert same_bits(on_gpu(law(dtype), region), on_cpu(law(dtype), region)), start


@each_dtype
@each_region
def test_regions(region, dtype) -> None:
    for name in ("uniform", "normal", "one-sided"):
        law = LAWS[name](dtype)
        assert same_bits(on_gpu(law, region), on_cpu(law, region)), name


@each_layout
@each_dtype
def test_layouts(layout, dtype) -> None:
    law = LAWS["normal"](dtype)
    for name in ("no dims", "whole", "columns", "blocks apart", "many dims"):
        region = REGIONS[name]
        like = layout(region.local_shape, dtype)
        out = torch.empty_strided(like.shape, like.stride(), dtype=dtype, device=DEVICE)
        assert same_bits(on_gpu(law, region, out), on_cpu(law, region)), name


def test_nothing_is_written_beside_a_tensor() -> None:
    for size in (1, 63, 64, 2047, 2048, 100_001):
        memory = torch.full((size + 256,), 9.0, device=DEVICE)
        on_gpu(LAWS["normal"](torch.float32), row(5, size), memory[128 : 128 + size])
        assert bool((memory[:128] == 9).all() & (memory[128 + size :] == 9).all()), size


@each_dtype
def test_tensors_that_start_anywhere(dtype) -> None:
    """Off the 16 bytes that memory is allocated at, and next to what others hold."""
    for law in (LAWS["uniform"](dtype), LAWS["normal"](dtype)):
        for start in (1, 3, 128):
            memory = torch.zeros(4000, dtype=dtype, device=DEVICE)
            before, out, behind = memory.split([start, 3000, 1000 - start])
            on_gpu(law, row(5, 3000), out)
            assert same_bits(out, on_cpu(law, row(5, 3000)))
            assert not bits_of(before).any()
            assert not bits_of(behind).any()


def test_more_than_2_to_the_31_places() -> None:
    """Every other element, by the kernel that goes from place to place."""
    law, count = LAWS["uniform"](torch.float8_e5m2), 2**31 + 100
    memory = torch.empty(2 * count, dtype=law.dtype, device=DEVICE)
    on_gpu(law, Region.whole((count,)), memory[::2])
    for start in (0, 2**31 - 500, count - 500):
        part = on_cpu(law, Region((count,), (((start, start + 500),),)))
        assert same_bits(memory[2 * start : 2 * start + 1000 : 2], part), start


def test_more_than_2_to_the_31_elements() -> None:
    law, count = LAWS["uniform"](torch.float8_e5m2), 2**31 + 100
    whole = on_gpu(law, Region.whole((count,)))
    for start in (0, 2**31 - 500, count - 500):
        part = on_cpu(law, Region((count,), (((start, start + 500),),)))
        assert same_bits(whole[start : start + 500], part), start


def test_tensors_drawn_together() -> None:
    tensors = [
        torch.empty(size, dtype=dtype, device=DEVICE) for dtype in DTYPES for size in (3, 1000, 0)
    ]
    together = [
        (laws.normal_law(0.1 * i, 1.5, t.dtype), 2**60 + i, t) for i, t in enumerate(tensors)
    ]
    stream.fill_together(together)
    for law, key, out in together:
        alone = torch.empty(out.shape, dtype=out.dtype)
        stream.fill(law, key, Region.whole(out.shape), alone)
        assert same_bits(out, alone)


PACKED = fills.Packed(
    0, (fills.Part("q", 0, 32, fills.Normal()), fills.Part("k", 32, 64, fills.Uniform()))
)
FILLS = {
    "uniform": (fills.Uniform(-1.0, 1.0), (64, 48)),
    "normal": (fills.Normal(0.1, 0.02), (64, 48)),
    "trunc_normal": (fills.TruncNormal(0.0, 1.0, -2.0, 2.0), (64, 48)),
    "constant": (fills.Constant(0.3), (64, 48)),
    "eye": (fills.Eye(0.3), (64, 48)),
    "dirac": (fills.Dirac(2), (8, 4, 3, 3)),
    "sparse": (fills.Sparse(0.3), (64, 48)),
    "mostly zero": (fills.Sparse(0.9), (64, 48)),
    "rearranged": (fills.Rearranged(fills.Normal(), (1, 0)), (64, 48)),
    "packed": (PACKED, (64, 48)),
    "mapped": (fills.Mapped(fills.Uniform(), torch.square), (64, 48)),
    "from_function": (fills.FromFunction(torch.nn.init.normal_), (64, 48)),
}
COMPLEX = [torch.complex64, torch.complex128]


@pytest.mark.parametrize("dtype", [*DTYPES, *COMPLEX], ids=lambda dtype: str(dtype)[6:])
@pytest.mark.parametrize("name", FILLS)
def test_fills(name: str, dtype: torch.dtype) -> None:
    """Whole, and a block of every other row."""
    fill, shape = FILLS[name]
    slices = [slice(1, shape[0], 2), slice(1, 3), *map(slice, shape[2:])]
    for region in (Region.whole(shape), Region.block(shape, slices)):
        here = torch.empty(region.local_shape, dtype=dtype)
        there = torch.empty(region.local_shape, dtype=dtype, device=DEVICE)
        draw(fill, NAMED, region, here)
        draw(fill, NAMED, region, there)
        assert same_bits(here, there)


def test_conjugated_and_strided_complex_tensors() -> None:
    region, fill = Region.whole((30, 20)), fills.Normal()
    here = torch.empty(30, 20, dtype=torch.complex64)
    draw(fill, NAMED, region, here)
    for there in (
        torch.empty(20, 30, dtype=torch.complex64, device=DEVICE).T,
        torch.empty(30, 20, dtype=torch.complex64, device=DEVICE).conj(),
        torch.empty(30, 40, dtype=torch.complex64, device=DEVICE)[:, ::2],
    ):
        draw(fill, NAMED, region, there)
        assert same_bits(here, there)


@pytest.fixture(params=["highest", "high"])
def precision(request: pytest.FixtureRequest) -> Iterator[None]:
    """Whether torch's products of float32 may use TF32."""
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision(request.param)
    yield
    torch.set_float32_matmul_precision(before)


@pytest.mark.parametrize("shape", [(256, 256), (300, 130), (130, 300), (1, 7), (2, 200, 100)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.complex64])
def test_orthogonal_to_its_tolerance(shape, dtype, precision) -> None:
    """Products differ between machines: 4e-6 · gain, whatever the user allows other products."""
    fill = fills.Orthogonal(1.0, batch_dims=len(shape) - 2)
    slices = [*map(slice, shape[:-1]), slice(0, shape[-1], 3)]
    for region in (Region.whole(shape), Region.block(shape, slices)):
        here = torch.empty(region.local_shape, dtype=dtype)
        there = torch.empty(region.local_shape, dtype=dtype, device=DEVICE)
        draw(fill, NAMED, region, here)
        draw(fill, NAMED, region, there)
        assert float((here - there.cpu()).abs().max()) <= 4e-6
