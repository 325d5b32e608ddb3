"""The kernels: the stream's numbers into memory, run by run, place by place, tensor by tensor.

Every argument that is no pointer is int64, and the constants of a law are the bits of floats.
"""

from __future__ import annotations

import triton
import triton.language as tl

from fanin.stream.cuda.laws import normal_pair, place, truncated, uniform
from fanin.stream.cuda.narrowing import narrow
from fanin.stream.cuda.philox import index_block, index_word, philox
from fanin.stream.laws import NORMAL, UNIFORM
from fanin.stream.philox import LOW_HALVES, VALUES

__all__ = ["GROUP_COLUMNS", "draw_group", "draw_places", "draw_runs"]

# What `draw_group` is told of each tensor: address, key, count, first program, the law's numbers.
GROUP_COLUMNS = 13

_UNIFORM, _NORMAL = tl.constexpr(UNIFORM), tl.constexpr(NORMAL)
_VALUES, _LOW_HALVES = tl.constexpr(VALUES), tl.constexpr(LOW_HALVES)
_COLUMNS = tl.constexpr(GROUP_COLUMNS)

# Sizes, steps and bits differ from call to call, and tensors start anywhere: a kernel must not be
# compiled anew for each.
_jit = triton.jit(
    do_not_specialize_on_alignment=["out"],
    do_not_specialize=[
        *("key", "first", "length", "count", "programs"),
        *(f"{what}_{dim}" for dim in range(1, 5) for what in ("size", "index", "memory")),
        *("last", "some", "shift", "scale", "lowest", "highest", "lower", "upper", "mass"),
    ],
)


@_jit
def draw_runs(
    out, key: tl.int64, first: tl.int64, length: tl.int64, programs: tl.int64,
    size_1: tl.int64, index_1: tl.int64, memory_1: tl.int64,
    size_2: tl.int64, index_2: tl.int64, memory_2: tl.int64,
    size_3: tl.int64, index_3: tl.int64, memory_3: tl.int64,
    last: tl.int64, some: tl.int64, shift: tl.int64, scale: tl.int64, lowest: tl.int64,
    highest: tl.int64, lower: tl.int64, upper: tl.int64, mass: tl.int64,
    OUTER: tl.constexpr, BLOCKS: tl.constexpr,
    KIND: tl.constexpr, TAIL: tl.constexpr, CLAMPED: tl.constexpr, WIDE: tl.constexpr,
    WIDTH: tl.constexpr, MANTISSA: tl.constexpr, BIAS: tl.constexpr, LARGEST: tl.constexpr,
    SIGNED_ZERO: tl.constexpr,
):  # fmt: skip
    """Runs of ``length`` neighbours, each by ``programs`` programs of ``BLOCKS`` blocks.

    The first run starts at index ``first`` and at ``out``; ``OUTER`` sizes and steps, innermost
    first, say where the others do.
    """
    program = tl.program_id(0)
    run, piece = program, program.to(tl.int64)
    if OUTER > 0:
        # There are less than 2³¹ programs, so runs are counted in 32 bits.
        apiece = tl.cast(programs, tl.int32)
        run, piece = program // apiece, (program % apiece).to(tl.int64)
    index, memory = tl.cast(first, tl.int64), tl.cast(0, tl.int64)
    if OUTER > 0:
        run, index, memory = _unfold(run, size_1, index_1, memory_1, index, memory)
    if OUTER > 1:
        run, index, memory = _unfold(run, size_2, index_2, memory_2, index, memory)
    if OUTER > 2:
        run, index, memory = _unfold(run, size_3, index_3, memory_3, index, memory)
    at = piece * (4 * BLOCKS) - (index & 63)
    _draw_blocks(
        out + (memory + at), ((index >> 6) << 4) + piece * BLOCKS, key, at, length,
        last, some, shift, scale, lowest, highest, lower, upper, mass,
        BLOCKS, KIND, TAIL, CLAMPED, WIDE, WIDTH, MANTISSA, BIAS, LARGEST, SIGNED_ZERO,
    )  # fmt: skip


@_jit
def draw_places(
    out, key: tl.int64, first: tl.int64, count: tl.int64,
    size_1: tl.int64, index_1: tl.int64, memory_1: tl.int64,
    size_2: tl.int64, index_2: tl.int64, memory_2: tl.int64,
    size_3: tl.int64, index_3: tl.int64, memory_3: tl.int64,
    size_4: tl.int64, index_4: tl.int64, memory_4: tl.int64,
    last: tl.int64, some: tl.int64, shift: tl.int64, scale: tl.int64, lowest: tl.int64,
    highest: tl.int64, lower: tl.int64, upper: tl.int64, mass: tl.int64,
    DIMS: tl.constexpr, SMALL: tl.constexpr, PLACES: tl.constexpr,
    KIND: tl.constexpr, TAIL: tl.constexpr, CLAMPED: tl.constexpr, WIDE: tl.constexpr,
    WIDTH: tl.constexpr, MANTISSA: tl.constexpr, BIAS: tl.constexpr, LARGEST: tl.constexpr,
    SIGNED_ZERO: tl.constexpr,
):  # fmt: skip
    """``count`` places anywhere: each element's block is drawn for it alone.

    ``DIMS`` sizes and steps, innermost first, say which index each place holds and where in memory
    it is. ``SMALL``: there are less than 2³¹ places.
    """
    rest = tl.program_id(0).to(tl.int64) * PLACES + tl.arange(0, PLACES)
    inside = rest < tl.cast(count, tl.int64)
    if SMALL:
        rest = rest.to(tl.int32)
    index, memory = tl.cast(first, tl.int64), tl.cast(0, tl.int64)
    rest, index, memory = _unfold(rest, size_1, index_1, memory_1, index, memory)
    if DIMS > 1:
        rest, index, memory = _unfold(rest, size_2, index_2, memory_2, index, memory)
    if DIMS > 2:
        rest, index, memory = _unfold(rest, size_3, index_3, memory_3, index, memory)
    if DIMS > 3:
        rest, index, memory = _unfold(rest, size_4, index_4, memory_4, index, memory)
    block, wide_key = index_block(index), tl.cast(key, tl.int64)
    w0, w1, w2, w3 = philox(block, wide_key, _VALUES)
    l0, l1, l2, l3 = w0, w1, w2, w3
    if WIDE:
        l0, l1, l2, l3 = philox(block, wide_key, _LOW_HALVES)
    if KIND == _NORMAL:
        even = (index & 32) == 0
        cosine, sine = normal_pair(
            tl.where(even, w0, w2), tl.where(even, w1, w3),
            tl.where(even, l0, l2), tl.where(even, l1, l3), WIDE,
        )  # fmt: skip
        standard = tl.where((index & 16) == 0, cosine, sine)
    else:
        standard = _one(
            index_word(index, w0, w1, w2, w3), index_word(index, l0, l1, l2, l3),
            last, some, lower, upper, mass, KIND, TAIL, WIDE,
        )  # fmt: skip
    value = place(standard, shift, scale, lowest, highest, KIND, CLAMPED, WIDE)
    if WIDTH < 32:
        value = narrow(value, MANTISSA, BIAS, LARGEST, WIDTH, SIGNED_ZERO)
    tl.store(out + memory, value, mask=inside)


@triton.jit
def draw_group(
    table, row_of_program,
    BLOCKS: tl.constexpr,
    KIND: tl.constexpr, TAIL: tl.constexpr, CLAMPED: tl.constexpr, WIDE: tl.constexpr,
    WIDTH: tl.constexpr, MANTISSA: tl.constexpr, BIAS: tl.constexpr, LARGEST: tl.constexpr,
    SIGNED_ZERO: tl.constexpr,
):  # fmt: skip
    """Whole tensors, a row of ``table`` each; a program draws ``BLOCKS`` blocks of one of them."""
    program = tl.program_id(0)
    row = table + tl.load(row_of_program + program).to(tl.int64) * _COLUMNS
    address, key, count, first = tl.load(row), tl.load(row + 1), tl.load(row + 2), tl.load(row + 3)
    if WIDE:
        out = address.to(tl.pointer_type(tl.float64))
    elif WIDTH == 32:
        out = address.to(tl.pointer_type(tl.float32))
    elif WIDTH == 16:
        out = address.to(tl.pointer_type(tl.int16))
    else:
        out = address.to(tl.pointer_type(tl.uint8))
    piece = program.to(tl.int64) - first
    at = piece * (4 * BLOCKS)
    _draw_blocks(
        out + at, piece * BLOCKS, key, at, count,
        tl.load(row + 4), tl.load(row + 5), tl.load(row + 6), tl.load(row + 7), tl.load(row + 8),
        tl.load(row + 9), tl.load(row + 10), tl.load(row + 11), tl.load(row + 12),
        BLOCKS, KIND, TAIL, CLAMPED, WIDE, WIDTH, MANTISSA, BIAS, LARGEST, SIGNED_ZERO,
    )  # fmt: skip


@triton.jit
def _draw_blocks(
    out, first_block, key, at, length,
    last, some, shift, scale, lowest, highest, lower, upper, mass,
    BLOCKS: tl.constexpr,
    KIND: tl.constexpr, TAIL: tl.constexpr, CLAMPED: tl.constexpr, WIDE: tl.constexpr,
    WIDTH: tl.constexpr, MANTISSA: tl.constexpr, BIAS: tl.constexpr, LARGEST: tl.constexpr,
    SIGNED_ZERO: tl.constexpr,
):  # fmt: skip
    """The elements of ``BLOCKS`` blocks that fall into a run.

    ``out`` is where the first element of the first block is, and ``at`` how far that is from the
    start of the run, whose end is at ``length``. The four words of block ``b`` are those of element
    ``64·(b // 16) + b % 16`` and of the 16th, 32nd and 48th after it: neighbouring lanes write to
    neighbouring places.
    """
    lane = tl.arange(0, BLOCKS)
    block, wide_key = first_block + lane, tl.cast(key, tl.int64)
    w0, w1, w2, w3 = philox(block, wide_key, _VALUES)
    l0, l1, l2, l3 = w0, w1, w2, w3
    if WIDE:
        l0, l1, l2, l3 = philox(block, wide_key, _LOW_HALVES)
    if KIND == _NORMAL:
        z0, z1 = normal_pair(w0, w1, l0, l1, WIDE)
        z2, z3 = normal_pair(w2, w3, l2, l3, WIDE)
    else:
        z0 = _one(w0, l0, last, some, lower, upper, mass, KIND, TAIL, WIDE)
        z1 = _one(w1, l1, last, some, lower, upper, mass, KIND, TAIL, WIDE)
        z2 = _one(w2, l2, last, some, lower, upper, mass, KIND, TAIL, WIDE)
        z3 = _one(w3, l3, last, some, lower, upper, mass, KIND, TAIL, WIDE)
    v0 = place(z0, shift, scale, lowest, highest, KIND, CLAMPED, WIDE)
    v1 = place(z1, shift, scale, lowest, highest, KIND, CLAMPED, WIDE)
    v2 = place(z2, shift, scale, lowest, highest, KIND, CLAMPED, WIDE)
    v3 = place(z3, shift, scale, lowest, highest, KIND, CLAMPED, WIDE)
    if WIDTH < 32:
        v0 = narrow(v0, MANTISSA, BIAS, LARGEST, WIDTH, SIGNED_ZERO)
        v1 = narrow(v1, MANTISSA, BIAS, LARGEST, WIDTH, SIGNED_ZERO)
        v2 = narrow(v2, MANTISSA, BIAS, LARGEST, WIDTH, SIGNED_ZERO)
        v3 = narrow(v3, MANTISSA, BIAS, LARGEST, WIDTH, SIGNED_ZERO)
    here = (lane // 16) * 64 + lane % 16
    end = tl.minimum(tl.cast(length, tl.int64) - at, 4 * BLOCKS).to(tl.int32)
    begin = tl.minimum(tl.maximum(-at, 0), 4 * BLOCKS).to(tl.int32)
    if (begin == 0) & (end == 4 * BLOCKS):  # not at an edge: nobody asks where an element is
        tl.store(out + here, v0)
        tl.store(out + here + 16, v1)
        tl.store(out + here + 32, v2)
        tl.store(out + here + 48, v3)
    else:
        tl.store(out + here, v0, mask=(here >= begin) & (here < end))
        here += 16
        tl.store(out + here, v1, mask=(here >= begin) & (here < end))
        here += 16
        tl.store(out + here, v2, mask=(here >= begin) & (here < end))
        here += 16
        tl.store(out + here, v3, mask=(here >= begin) & (here < end))


@triton.jit
def _one(
    high, low, last, some, lower, upper, mass,
    KIND: tl.constexpr, TAIL: tl.constexpr, WIDE: tl.constexpr,
):  # fmt: skip
    """``u`` or ``z`` of an element that needs no other's words."""
    if KIND == _UNIFORM:
        return uniform(high, low, WIDE)
    else:
        return truncated(high, low, last, some, lower, upper, mass, TAIL, WIDE)


@triton.jit
def _unfold(rest, size, index_step, memory_step, index, memory):
    """One dim of a place counted row by row: what is left to count, and index and memory so far."""
    within = (rest % size.to(rest.dtype)).to(tl.int64)
    rest = rest // size.to(rest.dtype)
    return rest, index + within * index_step, memory + within * memory_step
