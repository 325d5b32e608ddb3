"""Equal bits: every engine, build, thread count, partition and memory layout, for every law.

`LAWS` × `DTYPES` is the table; a new law or dtype adds a row and joins every test below.
"""

from __future__ import annotations

import math
import subprocess
import sys

import pytest
import torch
from torch import Tensor

from fanin import fills
from fanin.drawing import draw
from fanin.geometry import Region
from fanin.stream import Key, laws, native, reference
from fanin.stream.narrow import FORMATS, narrow

KEY = Key(2024, "blocks.0.attn.q.weight")
DTYPES = [torch.float32, torch.float64, *FORMATS]
COMPLEX = [torch.complex64, torch.complex128]
LAWS = {
    "uniform": lambda dtype: laws.uniform_law(-0.25, 0.75, dtype),
    "uniform off zero": lambda dtype: laws.uniform_law(1.0, 2.0, dtype),
    "normal": lambda dtype: laws.normal_law(0.0, 1.0, dtype),
    "normal shifted": lambda dtype: laws.normal_law(0.5, 2.0, dtype),
    "normal into subnormals": lambda dtype: laws.normal_law(
        0.0, torch.finfo(dtype).smallest_normal / 3, dtype
    ),
    "normal into saturation": lambda dtype: laws.normal_law(0.0, torch.finfo(dtype).max / 4, dtype),
    "truncated": lambda dtype: laws.truncated_law(0.0, 0.02, -0.04, 0.04, dtype),
    "one-sided": lambda dtype: laws.truncated_law(0.0, 1.0, 0.0, math.inf, dtype),
    "upper tail": lambda dtype: laws.truncated_law(0.0, 1.0, 5.0, 6.0, dtype),
    "lower tail": lambda dtype: laws.truncated_law(0.0, 1.0, -math.inf, -11.0, dtype),
    "slice": lambda dtype: laws.truncated_law(0.0, 1.0, 0.5, 0.625, dtype),
}
FILLS = [
    fills.Uniform(-0.25, 0.75),
    fills.Normal(0.5, 2.0),
    fills.TruncNormal(0.0, 1.0, -2.0, 2.0),
]
FURTHEST = 2**63 - 1  # size of the largest dim there is
# Where the index passes 32 bits, where its block number does (2³⁴), and the end.
STARTS = [0, 37, 2**32 - 1000, 2**34 - 1000, 2**38 - 1000, FURTHEST - 5000]

each_dtype = pytest.mark.parametrize("dtype", DTYPES, ids=lambda dtype: str(dtype)[6:])
each_law = pytest.mark.parametrize("law", LAWS.values(), ids=list(LAWS))
each_engine = pytest.mark.parametrize("engine", [reference, native], ids=["reference", "native"])


def filled(engine, law: laws.Law, region: Region) -> Tensor:
    out = torch.empty(region.local_shape, dtype=law.dtype)
    engine.fill(law, KEY.value, region, out)
    return out


def row(start: int, count: int) -> Region:
    """``count`` neighbours in the largest dim there is."""
    return Region((FURTHEST,), (((start, start + count),),))


def same_bits(a: Tensor, b: Tensor) -> bool:
    a, b = a.resolve_conj().contiguous(), b.resolve_conj().contiguous()
    return a.dtype == b.dtype and torch.equal(a.view(torch.uint8), b.view(torch.uint8))


@each_dtype
@each_law
def test_native_builds_equal_the_reference(law, dtype, use_build) -> None:
    for start in STARTS:
        region = row(start, 4999)
        expected = filled(reference, law(dtype), region)
        for build in native.builds():
            use_build(build)
            assert same_bits(filled(native, law(dtype), region), expected), (build, start)


@pytest.mark.parametrize("build", native.builds())
def test_builds_read_the_words_that_bits_shows(build: str, use_build) -> None:
    """A uniform float64 shows its 53 bits: the word, then the top of the purpose-1 word."""
    use_build(build)
    for start in STARTS:
        high, low = torch.empty(2, 1000, dtype=torch.int32)
        native.bits(KEY.value, 0, start, high)
        native.bits(KEY.value, 1, start, low)
        drawn = filled(native, laws.uniform_law(0.0, 1.0, torch.float64), row(start, 1000))
        words = [word.view(torch.uint32).long() for word in (high, low)]
        assert torch.equal((drawn * 2.0**53).long(), (words[0] << 21) | (words[1] >> 11))


def test_bits_and_choices_of_both_engines_are_equal() -> None:
    for start in [*STARTS, 2**63 - 2000]:
        words = torch.empty(2, 1999, dtype=torch.int32)
        for engine, out in zip((reference, native), words, strict=True):
            engine.bits(KEY.value, 0, start, out)
        assert torch.equal(words[0], words[1]), start
    for first, length, k in [(0, 7, 7), (5, 100, 30), (2**40, 1001, 1), (9, 5, 0)]:
        places = torch.empty(2, 50, k, dtype=torch.int64)
        for engine, out in zip((reference, native), places, strict=True):
            engine.choose(KEY.value, first, length, out)
        assert torch.equal(places[0], places[1]), (first, length, k)


@each_dtype
@each_law
def test_threads_do_not_matter(law, dtype, use_threads) -> None:
    """The size makes five shares of unequal length, with cuts inside blocks and rows."""
    region = Region((1100, 1000), (((3, 400), (500, 800)), ((0, 999),)))
    use_threads(1)
    expected = filled(native, law(dtype), region)
    for threads in (2, 3, 5):
        use_threads(threads)
        assert same_bits(filled(native, law(dtype), region), expected), threads


def test_threads_do_not_matter_to_the_reference(use_threads) -> None:
    region = Region.whole((300_001,))
    use_threads(1)
    expected = filled(reference, LAWS["normal"](torch.float32), region)
    use_threads(4)
    assert same_bits(filled(reference, LAWS["normal"](torch.float32), region), expected)


@each_engine
@each_dtype
@each_law
def test_a_region_holds_its_part_of_the_whole(law, dtype, engine) -> None:
    shape = (6, 22, 35)
    whole = filled(engine, law(dtype), Region.whole(shape))
    parts = [
        (slice(2, 4), slice(None), slice(None)),
        (slice(None), slice(5, 17), slice(3, 30)),
        (slice(5, 6), slice(21, 22), slice(34, 35)),
        (slice(0, 6, 2), slice(1, 22, 3), slice(None, None, 4)),
    ]
    for part in parts:
        assert same_bits(filled(engine, law(dtype), Region.block(shape, part)), whole[part])


@pytest.mark.parametrize("fill", FILLS, ids=lambda fill: fill.name)
@pytest.mark.parametrize("dtype", [*DTYPES, *COMPLEX], ids=lambda dtype: str(dtype)[6:])
def test_memory_layouts_do_not_matter(fill: fills.Fill, dtype: torch.dtype) -> None:
    shape = (4, 6, 5, 8)
    region = Region.whole(shape)
    expected = torch.empty(shape, dtype=dtype)
    draw(fill, KEY, region, expected)
    layouts = {
        "channels_last": torch.empty(4, 5, 8, 6, dtype=dtype).permute(0, 3, 1, 2),
        "transposed": torch.empty(8, 5, 6, 4, dtype=dtype).permute(3, 2, 1, 0),
        "strided": torch.empty(8, 6, 5, 24, dtype=dtype)[::2, :, :, 1::3],
        "offset": torch.empty(961, dtype=dtype)[1:].view(shape),
        "parameter": torch.nn.Parameter(torch.empty(shape, dtype=dtype)),
    }
    if dtype.is_complex:
        layouts["conjugated"] = torch.empty(shape, dtype=dtype).conj()
    if dtype in (torch.float32, torch.float64):
        layouts["negated"] = torch.empty(shape, dtype=dtype.to_complex()).conj().imag
    for layout, out in layouts.items():
        draw(fill, KEY, region, out)
        assert same_bits(out.detach().resolve_neg(), expected), layout


@pytest.mark.parametrize("fill", FILLS, ids=lambda fill: fill.name)
@pytest.mark.parametrize("dtype", COMPLEX, ids=lambda dtype: str(dtype)[6:])
def test_complex_parts_are_real_elements(fill: fills.Fill, dtype: torch.dtype) -> None:
    """Parts are the real elements 2i and 2i + 1, of a law with 1/√2 of the spread."""
    out = torch.empty(9, 11, dtype=dtype)
    draw(fill, KEY, Region.whole((9, 11)), out)
    real = dtype.to_real()
    half = fills.derived(math.sqrt(0.5))
    law = {
        "uniform": lambda: laws.uniform_law(0.25 - half / 2, 0.25 + half / 2, real),
        "normal": lambda: laws.normal_law(0.5, 2 * half, real),
        "trunc_normal": lambda: laws.truncated_law(0.0, half, -2.0, 2.0, real),
    }[fill.name]()
    for engine in (reference, native):
        assert same_bits(torch.view_as_real(out), filled(engine, law, Region.whole((9, 11, 2))))


@pytest.mark.parametrize("dtype", FORMATS, ids=lambda dtype: str(dtype)[6:])
@each_law
def test_narrow_dtypes_are_float32_rounded(law, dtype: torch.dtype) -> None:
    """Rounding and clamping commute: bounds are values of the dtype, and rounding is monotone."""
    drawn = law(dtype)
    wide = laws.Law(
        drawn.kind,
        torch.float32,
        drawn.shift,
        drawn.scale,
        lower=drawn.lower,
        upper=drawn.upper,
        mass=drawn.mass,
        switch=drawn.switch,
    )
    rounded = narrow(filled(native, wide, Region.whole((20000,))), dtype).float()
    expected = rounded.clamp(drawn.lowest, drawn.highest)
    assert torch.equal(filled(native, drawn, Region.whole((20000,))).float(), expected)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_normals_are_torch_casts_of_float32(dtype: torch.dtype) -> None:
    region = Region.whole((100_000,))
    single = filled(native, LAWS["normal"](torch.float32), region)
    assert same_bits(filled(native, LAWS["normal"](dtype), region), single.to(dtype))


def test_float64_normal_is_float32_made_finer() -> None:
    """Median: the rounding of z itself. Most: half a unit next to u = 1 is √(2·2⁻²⁵) in r."""
    region = Region.whole((1_000_000,))
    single = filled(native, LAWS["normal"](torch.float32), region)
    double = filled(native, LAWS["normal"](torch.float64), region)
    difference = (single.double() - double).abs()
    assert difference.median() < 4e-8
    assert difference.max() < math.sqrt(2 * 2.0**-25) + 1e-6


@pytest.mark.parametrize("name", ["uniform", "truncated", "one-sided", "upper tail", "slice"])
def test_float64_is_float32_made_finer(name: str) -> None:
    region = Region.whole((300_000,))
    single = filled(native, LAWS[name](torch.float32), region).double()
    double = filled(native, LAWS[name](torch.float64), region)
    # One unit of the 24 or 32 bits, and a few roundings of the value. Next to a far bound the
    # 32 bits are coarse: |dz/du| = mass/φ(z) there is largest, and the value is a few units of u.
    assert (single - double).abs().median() < 1e-6
    assert (single - double).abs().max() < {"one-sided": 0.1}.get(name, 1e-5)


@each_engine
@pytest.mark.parametrize("name", ["normal into subnormals", "uniform", "lower tail"])
def test_flushing_subnormals_changes_no_bit(name: str, engine, flush_denormal) -> None:
    law, region = LAWS[name](torch.float32), Region.whole((70_000,))
    expected = filled(engine, law, region)
    assert flush_denormal(True)
    drawn = filled(engine, law, region)
    still_flushes = torch.tensor(2.0**-140) * 1.0 == 0
    flush_denormal(False)
    assert still_flushes
    assert same_bits(drawn, expected)


def run_script(script: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_pool_threads_that_flush_subnormals_change_no_bit() -> None:
    """Torch's pool threads keep the setting they were started under, whatever comes later."""
    script = """
import torch
torch.set_num_threads(4)
torch.set_flush_denormal(True)
torch.ones(1 << 20).mul_(2)
from fanin.geometry import Region
from fanin.stream import laws, native, reference
law, region = laws.normal_law(0.0, 1e-39, torch.float32), Region.whole((1 << 18,))
out = torch.empty(2, 1 << 18)
reference.fill(law, 1, region, out[0])
native.fill(law, 1, region, out[1])
print(torch.equal(out[0].view(torch.int32), out[1].view(torch.int32)))
"""
    assert run_script(script) == "True"


def test_fill_after_fork() -> None:
    """A child of a process that has drawn with threads draws, with threads, the same bits."""
    script = """
import os, torch
from fanin.geometry import Region
from fanin.stream import laws, native
torch.set_num_threads(4)
law, region = laws.normal_law(0.0, 1.0, torch.float32), Region.whole((1 << 20,))
before, after = torch.empty(1 << 20), torch.empty(1 << 20)
native.fill(law, 1, region, before)
child = os.fork()
if child == 0:
    native.fill(law, 1, region, after)
    # No torch operation here: its own pool does not survive a fork.
    same = before.numpy().tobytes() == after.numpy().tobytes()
    os._exit(0 if same else 1)
print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""
    assert run_script(script) == "0"
