"""The executor of PTX itself: answers worked out by hand, and what it must refuse."""

from __future__ import annotations

import struct

import pytest
import torch
from ptx.executing import Memory, execute
from ptx.operations import operation
from ptx.parsing import BITS, PtxError, parse

ANSWERS = {
    # integers
    "add.s32 0x7FFFFFFF, 1": 0x80000000,
    "sub.u16 0, 1": 0xFFFF,
    "sub.s64 0, 1": 2**64 - 1,
    "mul.lo.s32 0x10001, 0x10001": 0x20001,
    "mul.wide.u32 -766435501, 0xFFFFFFFF": 0xD2511F53 * 0xFFFFFFFF,
    "mul.wide.s32 -1, 2": 2**64 - 2,
    "mul.wide.u16 0xFFFF, 0xFFFF": 0xFFFE0001,
    "mad.lo.s32 -1, 3, 5": 2,
    "mad.wide.u32 0xFFFFFFFF, 0xFFFFFFFF, 0xFFFFFFFF": 0xFFFFFFFF00000000,
    "div.s32 -7, 2": 2**32 - 3,
    "rem.s32 -7, 2": 2**32 - 1,
    "div.u32 -7, 2": 0x7FFFFFFC,
    "rem.s64 7, -2": 1,
    "min.s32 -1, 1": 2**32 - 1,
    "min.u32 -1, 1": 1,
    "max.s64 -1, 1": 1,
    "neg.s32 1": 2**32 - 1,
    "abs.s32 -5": 5,
    # bits
    "and.b32 12, 10": 8,
    "or.b64 12, 10": 14,
    "xor.b16 12, 10": 6,
    "not.b32 0": 2**32 - 1,
    "and.pred 1, 0": 0,
    "not.pred 0": 1,
    "shl.b32 1, 31": 2**31,
    "shl.b32 1, 32": 0,
    "shr.u32 0x80000000, 31": 1,
    "shr.u32 0x80000000, 32": 0,
    "shr.b64 0x8000000000000000, 64": 0,
    "shr.s32 0x80000000, 31": 2**32 - 1,
    "shr.s32 0x80000000, 40": 2**32 - 1,
    "bfe.u32 0xABCD1234, 8, 8": 0x12,
    "bfe.u32 0xABCD1234, 28, 8": 0xA,
    "bfe.u32 0xABCD1234, 0, 0": 0,
    "bfe.u64 0xABCD123400000000, 40, 32": 0xABCD12,
    # floats: ties to even, subnormals kept
    "add.rn.f32 0f3F800000, 0f33800000": 0x3F800000,
    "add.rn.f32 0f3F800001, 0f33800000": 0x3F800002,
    "sub.rn.f32 0f00800000, 0f00000001": 0x007FFFFF,
    "mul.rn.f32 0f00000001, 0f3F000000": 0,
    "mul.rn.f32 0f00000003, 0f3F000000": 2,
    "div.rn.f32 0f3F800000, 0f40400000": 0x3EAAAAAB,
    "div.rn.f32 0f00800000, 0f40000000": 0x00400000,
    "div.rn.f32 0f00000003, 0f40000000": 2,
    "div.rn.f64 0d3FF0000000000000, 0d4008000000000000": 0x3FD5555555555555,
    "sqrt.rn.f32 0f40000000": 0x3FB504F3,
    "sqrt.rn.f32 0f00000001": 0x1A3504F3,
    "sqrt.rn.f64 0d4000000000000000": 0x3FF6A09E667F3BCD,
    # (1 + 2⁻¹²)² is between two float32, and 2⁻⁶⁰ more or less decides: float64 has no room for it.
    "fma.rn.f32 0f3F800800, 0f3F800800, 0f21800000": 0x3F801001,
    "fma.rn.f32 0f3F800800, 0f3F800800, 0fA1800000": 0x3F801000,
    "fma.rn.f32 0f3F800800, 0f3F800800, 0f00000000": 0x3F801000,
    "add.rn.f32x2 0x400000003F800000, 0x3F8000003F800000": 0x4040000040000000,
    "mul.rn.f32x2 0x400000003F800000, 0x4040000000000001": 0x40C0000000000001,
    "min.f32 0f00000000, 0f80000000": 0x80000000,
    "max.f32 0f80000000, 0f00000000": 0,
    "min.f32 0f7FC00000, 0f3F800000": 0x3F800000,
    "max.f32 0f3F800000, 0f7FC00000": 0x3F800000,
    "neg.f32 0f00000000": 0x80000000,
    "abs.f64 0d8000000000000000": 0,
    # comparisons and choices
    "setp.lt.s32 -1, 0": 1,
    "setp.lt.u32 -1, 0": 0,
    "setp.ne.b64 1, 2": 1,
    "setp.ne.f32 0f7FC00000, 0f3F800000": 0,
    "setp.eq.f32 0f80000000, 0f00000000": 1,
    "selp.b32 5, 6, 1": 5,
    "selp.f32 0f00000005, 0f00000006, 0": 6,
    "mov.b32 0f3F800000": 0x3F800000,
    # conversions
    "cvt.u16.u32 0x12345": 0x2345,
    "cvt.s64.s32 -1": 2**64 - 1,
    "cvt.u64.u32 -1": 2**32 - 1,
    "cvt.u32.u64 0x123456789": 0x23456789,
    "cvt.s32.s8 0xFF": 2**32 - 1,
    "cvt.rn.f32.u32 0xFFFFFFFF": 0x4F800000,
    "cvt.rn.f32.s32 -1": 0xBF800000,
    "cvt.rn.f32.u32 0x01000001": 0x4B800000,
    "cvt.rn.f32.u32 0x01000003": 0x4B800002,
    "cvt.rn.f32.u64 0x8000008000000000": 0x5F000000,
    "cvt.rn.f32.u64 0x8000008000000001": 0x5F000001,
    "cvt.rn.f64.s64 -1": 0xBFF0000000000000,
    "cvt.rn.f64.u64 0xFFFFFFFFFFFFFFFF": 0x43F0000000000000,
}

MODULE = """
.version 8.7
.target sm_90a
.visible .entry probe(
	.param .u64 .ptr .global .align 1 probe_param_0, // out
	.param .u32 probe_param_1
)
.reqntid 4
{
	.reg .pred 	%p<9>;
	.reg .b16 	%rs<9>;
	.reg .b32 	%r<9>;
	.reg .b64 	%rd<9>;
	.loc	1 90 20
	ld.param.b64 	%rd8, [probe_param_0];
	mov.u32 	%r8, %tid.x;
	mad.wide.u32 	%rd7, %r8, 8, %rd8;
	BODY
	ret;
}
"""


@pytest.mark.parametrize("instruction", ANSWERS)
def test_known_answers(instruction: str) -> None:
    opcode, sources = instruction.split(" ", 1)
    width = BITS[operation(opcode).result]
    register = {1: "%p1", 16: "%rs1", 32: "%r1", 64: "%rd1"}[width]
    stored = f"st.global.b{width} [%rd7], {register};"
    if width == 1:
        stored = "selp.b64 %rd1, 1, 0, %p1; st.global.b64 [%rd7], %rd1;"
    memory = ran(f"{opcode} {register}, {sources}; {stored}")
    assert {word % 2**64 for word in memory.tolist()} == {ANSWERS[instruction]}


def test_threads_that_part_meet_again() -> None:
    """Thread t goes round t times, 2 leaves in between, and the others go on together."""
    memory = ran("""
        mov.b64 %rd1, 0;
        mov.b32 %r1, 0;
    $L__again:
        setp.ge.s32 %p1, %r1, %r8;
        @%p1 bra $L__out;
        add.s32 %r1, %r1, 1;
        cvt.u64.u32 %rd2, %r1;
        add.s64 %rd1, %rd1, %rd2;
        bra.uni $L__again;
    $L__out:
        setp.eq.s32 %p2, %r8, 2;
        @%p2 ret;
        @!%p2 st.global.b64 [ %rd7 + 0 ], { %rd1 };
    """)
    assert memory.tolist() == [0, 1, 0, 6]


def test_programs_know_their_number() -> None:
    """Four threads of each of three programs, each at a place of its own."""
    out = torch.zeros(12, dtype=torch.int32)
    body = """
        mov.u32 %r1, %ctaid.x;
        mov.u32 %r2, %nctaid.x;
        mov.u32 %r3, %ntid.x;
        mad.lo.s32 %r4, %r1, %r3, %r8;
        mad.wide.s32 %rd1, %r4, 4, %rd8;
        mad.lo.s32 %r5, %r2, 100, %r4;
        st.global.b32 [%rd1], %r5;
    """
    launched(body, out, programs=3)
    assert out.tolist() == [300 + place for place in range(12)]


def test_registers_come_apart_and_together() -> None:
    memory = ran("""
        mov.b64 {%r1, %r2}, 0x1122334455667788;
        mov.b64 {_, %r3}, 0x1122334455667788;
        mov.b32 {%rs1, %rs2}, %r1;
        mov.b32 %r4, {%rs2, %rs1};
        xor.b32 %r5, %r2, %r3;
        add.s32 %r5, %r5, %r4;
        mov.b64 %rd1, {%r5, %r2};
        st.global.b64 [%rd7], %rd1;
    """)
    assert set(memory.tolist()) == {0x1122334477885566}


def test_vectors_and_narrow_numbers() -> None:
    out = torch.tensor([-2, 3, 0, 0, 0, 0, 0, 0], dtype=torch.int32)
    body = """
        setp.ne.s32 %p1, %r8, 0;
        @%p1 ret;
        ld.global.v2.b32 {%r1, %r2}, [%rd8];
        ld.global.s8 %r3, [%rd8];
        ld.global.u8 %r4, [%rd8+1];
        st.global.v4.b32 [%rd8+16], {%r2, %r1, %r3, %r4};
        st.global.b8 [%rd8+8], 0x1FF;
    """
    launched(body, out)
    assert out.tolist() == [-2, 3, 255, 0, 3, -2, -2, 255]


def test_parameters_are_as_wide_as_the_kernel_says() -> None:
    memory = ran("""
        ld.param.v2.b16 {%rs1, %rs2}, [probe_param_1];
        mov.b32 %r1, {%rs1, %rs2};
        ld.param.b32 %r2, [probe_param_1];
        and.b32 %r1, %r1, %r2;
        cvt.s64.s32 %rd1, %r1;
        st.global.b64 [%rd7], %rd1;
    """)
    assert set(memory.tolist()) == {-5}
    out = torch.zeros(1)
    with pytest.raises(PtxError, match="parameters of probe: other sizes"):
        execute(parse(MODULE.replace("BODY", "")), 1, [bytes(8)], Memory([out]))


@pytest.mark.parametrize(
    ("body", "why"),
    [
        ("ex2.approx.f32 %r1, %r2;", r"not known: ex2\.approx\.f32"),
        ("add.f32 %r1, %r2, %r3;", r"not known: add\.f32"),
        ("add.s32 %r1, %r8, %r2;", "%r2 is read before it is written"),
        ("add.s32 %r1, %r8;", r"another number of operands: add\.s32 %r1, %r8"),
        ("st.global.b64 [%rd7+8], 0;", "8 bytes at 0x.* are no tensor's"),
        ("st.global.b64 [%rd7+-8], 0;", "8 bytes at 0x.* are no tensor's"),
        ("ld.global.b64 %rd1, [0];", "8 bytes at 0x0 are no tensor's"),
        ("st.global.b32 [%rd7+2], 0;", "an address of 4 bytes is no multiple of 4"),
        ("st.global.v2.b64 [%rd7], {%rd7, %rd8};", "an address of 16 bytes is no multiple"),
        ("st.global.b32 [%rd8], %r8;", "one place is written twice"),
        ("st.global.b32 [%rd7], 1; st.global.b32 [%rd7], 2;", "one place is written twice"),
        ("$L__again: bra.uni $L__again;", "no end after"),
        ("call.uni f;", "without functions"),
    ],
)
def test_what_is_refused(body: str, why: str) -> None:
    with pytest.raises(PtxError, match=why):
        ran(body)


def ran(body: str) -> torch.Tensor:
    """Eight bytes of each of four threads, which it finds at ``%rd7``."""
    out = torch.zeros(4, dtype=torch.int64)
    launched(body, out)
    return out


def launched(body: str, out: torch.Tensor, *, programs: int = 1) -> None:
    parameters = [struct.pack("<Q", out.data_ptr()), struct.pack("<i", -5)]
    execute(parse(MODULE.replace("BODY", body)), programs, parameters, Memory([out]))
