"""The kernels compiled ahead of time for real GPUs: every operation of floats rounds on its own.

No GPU takes part. In PTX a multiply, add, division or square root says how it rounds: ``.rn`` is
IEEE, and an assembler never fuses what says so. In machine code only divisions and square roots
contain fused multiply-adds: each is a sequence of fixed length, and each kernel that has any holds
one subroutine for the operands that the sequence does not serve. Probes of one and two divisions
or roots a thread tell the lengths, so that all fused operations of a kernel are counted for; and
for each multiply and add of the PTX there is an instruction of its own.
"""

from __future__ import annotations

import re
import subprocess
import tempfile
from collections import Counter
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
import triton
import triton.language as tl
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource

from cuda_cases import LAWS
from fanin.errors import EngineError
from fanin.stream.cuda.kernels import draw_group, draw_places, draw_runs
from fanin.stream.cuda.launching import require_unfused
from fanin.stream.cuda.numbers import numbers

DISASSEMBLER = Path(triton.__file__).parent / "backends" / "nvidia" / "bin" / "nvdisasm"
POINTERS = {torch.float32: "*fp32", torch.float64: "*fp64", torch.int16: "*i16", torch.uint8: "*u8"}
SHAPES = {
    draw_runs: {"OUTER": 0, "BLOCKS": 512},
    draw_places: {"DIMS": 2, "SMALL": True, "PLACES": 512},
    draw_group: {"BLOCKS": 128},
}
FLOAT32, FLOAT64, BFLOAT16 = torch.float32, torch.float64, torch.bfloat16
CASES = [
    *((90, draw_runs, law, dtype) for law in ("uniform", "normal", "truncated", "one-sided")
      for dtype in (FLOAT32, FLOAT64, BFLOAT16)),
    (90, draw_runs, "normal", torch.float8_e4m3fn),
    *((90, kernel, "normal", dtype) for kernel in (draw_places, draw_group)
      for dtype in (FLOAT32, FLOAT64)),
    *((arch, draw_runs, law, dtype) for arch in (80, 100)
      for law, dtype in (("uniform", FLOAT32), ("normal", BFLOAT16), ("normal", FLOAT64),
                         ("one-sided", FLOAT32), ("truncated", FLOAT64))),
]  # fmt: skip


@pytest.fixture(scope="module", autouse=True)
def cache_of_kernels(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TRITON_CACHE_DIR", str(tmp_path_factory.mktemp("triton")))
        yield


@pytest.mark.parametrize(
    ("arch", "kernel", "law", "dtype"),
    CASES,
    ids=[f"{arch}-{kernel.__name__}-{law}-{str(dtype)[6:]}" for arch, kernel, law, dtype in CASES],
)
def test_every_operation_rounds_on_its_own(arch, kernel, law, dtype) -> None:
    compiled = compile_law(kernel, law, dtype, arch)
    require_unfused(compiled)
    operations = float_operations(compiled)
    assert {"mul", "add"} <= {name for name, _ in operations}
    assert not {str(operation) for operation in operations if not is_rounded(*operation)}
    machine = machine_operations(compiled)
    assert hold_all(machine, operations)
    assert fused(machine) == expected_fused(operations, arch)


def test_fusion_would_be_seen() -> None:
    """The test of the tests: where the compiler may fuse, it does, and all checks tell."""
    compiled = compile_law(draw_runs, "normal", FLOAT32, 90, fused=True)
    operations, machine = float_operations(compiled), machine_operations(compiled)
    assert not all(is_rounded(*operation) for operation in operations)
    assert fused(machine) != expected_fused(operations, 90)
    assert not hold_all(machine, float_operations(compile_law(draw_runs, "normal", FLOAT32, 90)))
    with pytest.raises(EngineError, match=r"enable_fp_fusion=False.* Got True for draw_runs"):
        require_unfused(compiled)


@pytest.mark.parametrize(("law", "share"), [("uniform", 0.60), ("normal", 0.35)])
def test_arithmetic_leaves_the_memory_its_share(law: str, share: float) -> None:
    """Instructions an element, at most: what an H200 issues while it writes 4 bytes.

    No kernel loops, so the length of its code is more than a thread ever executes. 132
    multiprocessors issue for 128 lanes a cycle at 1.755 GHz, and memory takes 4.8 TB a second.
    """
    compiled = compile_law(draw_runs, law, FLOAT32, 90)
    code = instructions(compiled)
    assert not {name for name in code if name.startswith(("LDL", "STL", "LDS", "STS", "BAR"))}
    elements = 4 * SHAPES[draw_runs]["BLOCKS"] / (32 * compiled.metadata.num_warps)
    issued, written = 132 * 128 * 1.755e9, 4.8e12 / 4
    assert code.total() / elements <= issued / (share * written)


@pytest.mark.parametrize("arch", [80, 90, 100])
def test_the_probes_hold_sequences_and_a_subroutine(arch: int) -> None:
    for operation in ("div", "sqrt"):
        for width in (32, 64):
            each, once = sequence(operation, width, arch)
            assert each.total() > 0
            assert all(count >= 0 for count in once.values())


def is_rounded(name: str, modifiers: str) -> bool:
    """``.rn`` and nothing that says otherwise; a change of sign is exact."""
    words = modifiers.split(".")
    if name in ("neg", "abs", "setp", "selp", "mov", "st", "ld", "min", "max"):
        return "ftz" not in words
    return (
        name in ("add", "sub", "mul", "div", "sqrt", "cvt")
        and words[0] == "rn"
        and not ({"ftz", "sat", "approx", "full"} & set(words))
    )


def float_operations(compiled: Any) -> Counter[tuple[str, str]]:
    """How often each PTX instruction on floats occurs: its name, and what follows the name."""
    found = re.findall(
        r"^\s*(?:@!?%p\d+\s+)?([a-z]\w*)((?:\.\w+)*\.b?f(?:16|32|64)\w*(?:\.\w+)*)\s",
        compiled.asm["ptx"],
        re.MULTILINE,
    )
    return Counter((name, modifiers.removeprefix(".")) for name, modifiers in found)


def machine_operations(compiled: Any) -> Counter[str]:
    """How often each multiply, add and fused multiply-add of floats occurs in machine code.

    ``HFMA2`` of two zeros and a constant is how the assembler loads a constant.
    """
    counts: Counter[str] = Counter()
    found = re.findall(r"\b([FDH](?:FMA|MUL|ADD)2?)[.\w]* (.*);", machine_code(compiled))
    for name, operands in found:
        if "-RZ, RZ" not in operands:
            counts[name] += 1
    return counts


def instructions(compiled: Any) -> Counter[str]:
    """How often each machine instruction occurs; ``NOP`` fills up behind the last."""
    found = re.findall(r"\*/\s+(?:@!?U?P\d+ )?([A-Z][\w.]*)[^;]*;", machine_code(compiled))
    return Counter(name for name in found if name != "NOP")


def machine_code(compiled: Any) -> str:
    """One instruction a line, up to its semicolon."""
    with tempfile.NamedTemporaryFile(suffix=".cubin") as file:
        file.write(compiled.asm["cubin"])
        file.flush()
        command = [DISASSEMBLER, "--print-code", file.name]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout


def fused(operations: Counter[str]) -> Counter[str]:
    return Counter({name: count for name, count in operations.items() if "FMA" in name})


def hold_all(machine: Counter[str], ptx: Counter[tuple[str, str]]) -> bool:
    """Whether machine code has an instruction of its own for each multiply and each add of PTX."""
    for letter, width in (("F", 32), ("D", 64)):
        for name, words in (("MUL", ("mul",)), ("ADD", ("add", "sub"))):
            asked = sum(
                ptx[word, f"rn.f{width}"] + 2 * ptx[word, f"rn.f{width}x2"] for word in words
            )
            if machine[f"{letter}{name}"] + 2 * machine[f"{letter}{name}2"] < asked:
                return False
    return True


def expected_fused(operations: Counter[tuple[str, str]], arch: int) -> Counter[str]:
    """What the divisions and square roots of the PTX come to."""
    expected: Counter[str] = Counter()
    for operation in ("div", "sqrt"):
        for width in (32, 64):
            count = operations[operation, f"rn.f{width}"]
            if count:
                each, once = sequence(operation, width, arch)
                expected.update({name: count * number for name, number in each.items()})
                expected.update(once)
    return +expected


@cache
def sequence(operation: str, width: int, arch: int) -> tuple[Counter[str], Counter[str]]:
    """Fused operations of one division or root, and of the subroutine that a kernel holds once."""
    one, two = (
        fused(machine_operations(compile_probe(operation, width, count, arch))) for count in (1, 2)
    )
    each = Counter({name: two[name] - one[name] for name in two})
    return each, Counter({name: one[name] - each[name] for name in one})


@triton.jit
def quotients(a, b, wide: tl.constexpr, count: tl.constexpr):
    at = tl.arange(0, count)
    x, y = tl.load(a + at), tl.load(b + at)
    tl.store(a + at, x / y if wide else tl.div_rn(x, y))


@triton.jit
def roots(a, b, wide: tl.constexpr, count: tl.constexpr):
    at = tl.arange(0, count)
    x = tl.load(a + at)
    tl.store(b + at, tl.sqrt(x) if wide else tl.sqrt_rn(x))


def compile_probe(operation: str, width: int, count: int, arch: int) -> Any:
    """As many divisions or roots a thread, in one warp."""
    probe = {"div": quotients, "sqrt": roots}[operation]
    constants = {"wide": width == 64, "count": 32 * count}
    pointer = {"a": f"*fp{width}", "b": f"*fp{width}"}
    signature = {**pointer, **dict.fromkeys(constants, "constexpr")}
    source = ASTSource(fn=probe, signature=signature, constexprs=constants)
    options = {"enable_fp_fusion": False, "num_warps": 1}
    return triton.compile(source, target=GPUTarget("cuda", arch, 32), options=options)


def compile_law(
    kernel: Any, law: str, dtype: torch.dtype, arch: int, *, fused: bool = False
) -> Any:
    form = numbers(LAWS[law](dtype))
    constants = {**SHAPES[kernel], **form.meta}
    types = {"out": POINTERS[form.memory], "table": "*i64", "row_of_program": "*i32"}
    signature = {
        name: "constexpr" if name in constants else types.get(name, "i64")
        for name in kernel.arg_names
    }
    source = ASTSource(fn=kernel, signature=signature, constexprs=constants)
    options = {"enable_fp_fusion": fused, "num_warps": 1 if kernel is draw_group else 4}
    return triton.compile(source, target=GPUTarget("cuda", arch, 32), options=options)
