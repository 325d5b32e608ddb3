"""The kernels as Triton compiles them, executed on the CPU, against the reference, bit by bit.

All of a launch takes part: its arguments, as Triton specializes and a driver packs them, the
number of programs, and the PTX, instruction by instruction (`ptx.executing`). The assembler and
the card are left out; the machine code is looked at in `test_cuda_compiled`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator

import pytest
import torch
from ptx.device import Device, device
from ptx.parsing import PtxError
from torch import Tensor
from triton.runtime import JITFunction

from cuda_cases import DTYPES, FURTHEST, KEY, LAWS, LAYOUTS, REGIONS, STARTS, row
from fanin.geometry import Region
from fanin.stream import reference
from fanin.stream.cuda import launching
from fanin.stream.laws import Law

KERNELS = [each for each in vars(launching).values() if isinstance(each, JITFunction)]
FLOAT32, FLOAT64, BFLOAT16 = torch.float32, torch.float64, torch.bfloat16

Asked = tuple[Law, int, Region, Tensor]

WRONG: dict[str, tuple[str, str | Callable[[re.Match[str]], str]]] = {
    "the last bit of constants": (
        r"(\.rn\.f32.*0f\w{7})(\w)",
        lambda found: f"{found[1]}{int(found[2], 16) ^ 1:X}",
    ),
    "the sign of words": (r"cvt\.rn\.f32\.u32", "cvt.rn.f32.s32"),
    "the sign of angles": (r"cvt\.rn\.f32\.s32", "cvt.rn.f32.u32"),
    "the sign of products": (r"mul\.wide\.u32", "mul.wide.s32"),
    "the bits of rounds": (r"xor\.b32", "or.b32"),
    "the order of arguments": (r"_param_1\b(?!,)", "_param_2"),
    "one program for all": (r"%ctaid\.x", "0"),
}

each_law = pytest.mark.parametrize("law", LAWS.values(), ids=list(LAWS))
each_other_arch = pytest.mark.parametrize("arch", [80, 100])


@pytest.fixture(scope="module", autouse=True)
def compiled_here(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TRITON_CACHE_DIR", str(tmp_path_factory.mktemp("triton")))
        patch.setattr(launching, "_checked", set())
        yield


@pytest.fixture(scope="module")
def hopper(compiled_here) -> Iterator[Device]:
    with device(90, KERNELS) as made:
        yield made


@each_law
def test_every_law_and_dtype(law, hopper) -> None:
    for dtype in DTYPES:
        assert is_right(asked(law(dtype), row(67, 1500)))
    for dtype in (FLOAT32, FLOAT64):
        assert is_right(asked(law(dtype), REGIONS["every third column"]))


@pytest.mark.parametrize("count", [1500, 20], ids=["runs", "places"])
@pytest.mark.parametrize("start", STARTS)
def test_far_indices(start: int, count: int, hopper) -> None:
    region = row(min(start, FURTHEST - count), count)
    for name, dtype in (("normal", FLOAT32), ("uniform", FLOAT64)):
        assert is_right(asked(LAWS[name](dtype), region))


def test_addresses_that_are_not_round(hopper) -> None:
    """Stores of several elements at once would not be at their places."""
    for name, dtype in (("normal", FLOAT32), ("uniform", BFLOAT16)):
        for count in (1500, 20):
            assert is_right(asked(LAWS[name](dtype), row(64, count), before=61))


@pytest.mark.parametrize("region", REGIONS.values(), ids=list(REGIONS))
def test_every_region(region: Region, hopper) -> None:
    for dtype in (BFLOAT16, FLOAT64):
        assert is_right(asked(LAWS["uniform"](dtype), region))


@pytest.mark.parametrize("layout", LAYOUTS.values(), ids=list(LAYOUTS))
def test_every_layout(layout, hopper) -> None:
    law = LAWS["normal"](FLOAT32)
    for name in ("no dims", "whole", "columns", "blocks apart", "many dims"):
        region = REGIONS[name]
        assert is_right((law, KEY, region, layout(region.local_shape, law.dtype)))


def test_a_group_of_tensors(hopper) -> None:
    """Unlike ones: each law and dtype is a launch of its own."""
    kinds = [
        *(("uniform", FLOAT64), ("uniform", torch.float8_e5m2), ("normal", FLOAT32)),
        *(("normal", BFLOAT16), ("one-sided", FLOAT32)),
    ]
    hopper.launched.clear()
    assert is_right_together([LAWS[name](dtype) for name, dtype in kinds], hopper)
    assert hopper.launched == ["draw_group"] * len(kinds)


def test_numbers_of_a_group_are_each_tensors_own(hopper) -> None:
    """Laws that differ in their numbers only are one launch."""
    hopper.launched.clear()
    names = ("normal", "normal into subnormals", "normal into saturation")
    assert is_right_together([LAWS[name](FLOAT32) for name in names], hopper)
    assert hopper.launched == ["draw_group"]


@each_other_arch
def test_other_architectures(arch: int) -> None:
    with device(arch, KERNELS) as card:
        for name, dtype in (
            *(("normal", FLOAT32), ("normal", FLOAT64), ("one-sided", FLOAT32)),
            *(("uniform", BFLOAT16), ("uniform", torch.float8_e4m3fn)),
        ):
            assert is_right(asked(LAWS[name](dtype), row(2**38 - 100, 1500)))
        assert is_right(asked(LAWS["uniform"](FLOAT64), REGIONS["blocks apart"]))
        assert is_right(asked(LAWS["normal"](FLOAT32), REGIONS["every third column"]))
        assert is_right_together([LAWS["uniform"](FLOAT32)], card)


@pytest.mark.parametrize(("pattern", "wrong"), WRONG.values(), ids=list(WRONG))
def test_what_is_wrong_changes_memory(pattern, wrong) -> None:
    """The test of the tests."""
    with device(90, KERNELS, edited(pattern, wrong)):
        assert not is_right(asked(LAWS["normal"](FLOAT32), row(67, 4000)))


@pytest.mark.parametrize(
    ("pattern", "wrong", "why"),
    [
        (r"sqrt\.rn", "sqrt.approx", r"not known: sqrt\.approx\.f32"),
        (r"add\.rn", "add.rn.ftz", r"not known: add\.rn\.ftz\.f32"),
        (r"mul\.rn", "mul", r"not known: mul\.f32"),
        (r"@%p\d+ st\b", "st", "no tensor's"),
        (r"(st\.global\S* \[ \S+ \+ )0", r"\g<1>1048576", "no tensor's"),
        (r"(st\.global\S* \[ \S+ \+ )0", r"\g<1>2", "no multiple"),
        (r"\.param \.u64 draw_runs_param_4\b", ".param .u32 draw_runs_param_4", "other sizes"),
    ],
    ids=["approximate", "flushed", "not rounded", "no mask", "outside", "unaligned", "a parameter"],
)
def test_what_is_refused(pattern: str, wrong: str, why: str) -> None:
    with device(90, KERNELS, edited(pattern, wrong)), pytest.raises(PtxError, match=why):
        is_right(asked(LAWS["normal"](FLOAT32), row(67, 1500)))


def test_fusion_would_be_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    """A kernel that may be fused is refused: plain multiplies leave open how they round.

    Even if each of those rounds, the multiply-adds that the compiler made change bits.
    """
    real = JITFunction.run

    def fused(self: JITFunction, *arguments: object, **keywords: object) -> object:
        return real(self, *arguments, **{**keywords, "enable_fp_fusion": True})

    monkeypatch.setattr(JITFunction, "run", fused)
    monkeypatch.setattr(launching, "require_unfused", lambda compiled: None)
    case = asked(LAWS["normal"](FLOAT32), row(67, 1500))
    with device(90, KERNELS), pytest.raises(PtxError, match=r"not known: (mul|add|sub)\.f32"):
        is_right(case)
    with device(90, KERNELS, edited(r"\b(mul|add|sub)\.f32", r"\1.rn.f32")) as card:
        assert not is_right(case)
    assert card.launched == ["draw_runs"]


def asked(law: Law, region: Region, *, before: int = 64) -> Asked:
    """A tensor inside of a larger one, whose other elements no kernel may write."""
    size = region.numel
    memory = torch.full((size + 128,), 0.25).to(law.dtype)
    return law, KEY, region, memory[before : before + size].view(region.local_shape)


def is_right(case: Asked) -> bool:
    """Whether memory is after a fill what the reference makes of it."""
    law, key, region, out = case
    expected = expectation(case)
    launching.fill(law, key, region, out)
    return torch.equal(memory_of(out), expected)


def is_right_together(laws: list[Law], card: Device) -> bool:
    """The same for a few tensors of each law and dtype, drawn together."""
    cases = [asked(law, Region.whole((size,)), before=3 * i)
             for i, law in enumerate(laws) for size in (3, 600, 0)]  # fmt: skip
    cases = [(law, (KEY + 2**61 * i) % 2**64, *rest) for i, (law, _, *rest) in enumerate(cases)]
    expected = [expectation(case) for case in cases]
    card.lent = [out for *_, out in cases]
    launching.fill_together((law, key, out) for law, key, _, out in cases)
    return all(
        torch.equal(memory_of(case[-1]), memory)
        for case, memory in zip(cases, expected, strict=True)
    )


def expectation(case: Asked) -> Tensor:
    """What the memory of a tensor should become, all of its storage."""
    law, key, region, out = case
    drawn = torch.empty(region.local_shape, dtype=law.dtype)
    reference.fill(law, key, region, drawn)
    twin = torch.empty(0, dtype=law.dtype).set_(
        out.untyped_storage().clone(), out.storage_offset(), out.shape, out.stride()
    )
    return memory_of(twin.copy_(drawn))


def memory_of(tensor: Tensor) -> Tensor:
    return torch.empty(0, dtype=torch.uint8).set_(tensor.untyped_storage())


def edited(pattern: str, replacement: str | Callable[[re.Match[str]], str]) -> Callable[[str], str]:
    """Replace what matches in the text of a kernel; something must."""

    def edit(text: str) -> str:
        text, count = re.subn(pattern, replacement, text)
        assert count, pattern
        return text

    return edit
