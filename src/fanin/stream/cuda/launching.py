"""Launching: which kernel draws a walk, and with how many programs.

Nothing here waits for the device: numbers travel as arguments of the launch, and the table of a
group through memory that the device reads by itself.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from contextlib import nullcontext
from typing import Any

import torch
from torch import Tensor
from triton.runtime import JITFunction

from fanin.errors import EngineError
from fanin.geometry.region import Region
from fanin.stream.cuda.kernels import draw_group, draw_places, draw_runs
from fanin.stream.cuda.numbers import Numbers, numbers, signed
from fanin.stream.cuda.walks import Step, Walk, walks
from fanin.stream.laws import Law

__all__ = ["fill", "fill_together", "require_unfused"]

_RUN = 64  # neighbours that repay the programs of a run; fewer are drawn one by one
_LONG_RUN = 4096
_PLACES = 512  # elements that a program of `draw_places` writes
_GROUP_BLOCKS = 128
_NO_STEP = Step(1, 0, 0)

_checked: set[tuple[object, ...]] = set()  # kernels as compiled, which are known to be unfused


def fill(law: Law, key: int, region: Region, out: Tensor) -> None:
    """Write a region of the stream into ``out``, of the law's dtype and any strides, on a GPU."""
    form = numbers(law)
    memory = out.detach().view(form.memory)
    for walk in walks(region, out.stride()):
        if walk.steps and walk.steps[-1][1:] == (1, 1) and walk.steps[-1].size >= _RUN:
            for part in walk.shorter(4):
                _draw_runs(form, key, part, memory)
        else:
            for part in walk.by_memory().shorter(4):
                _draw_places(form, key, part, memory)


def fill_together(fills: Iterable[tuple[Law, int, Tensor]]) -> None:
    """Write (law, key, tensor) for each of many small contiguous tensors, in a launch for each law.

    Laws that differ in their numbers only are launched together.
    """
    groups: dict[tuple[object, ...], list[tuple[Numbers, int, Tensor]]] = {}
    for law, key, out in fills:
        form = numbers(law)
        if out.numel():
            like = (out.device, *form.meta.values())
            groups.setdefault(like, []).append((form, key, out))
    for group in groups.values():
        _draw_group(group)


def require_unfused(compiled: Any) -> None:
    """Refuse a kernel in which the compiler may have fused a product and a sum.

    Raises:
        EngineError: for it; its numbers would be others than the stream's.
    """
    if compiled.metadata.enable_fp_fusion is not False:
        raise EngineError(
            "cuda engine: kernels are compiled with enable_fp_fusion=False, since a fused "
            f"multiply-add changes bits. Got {compiled.metadata.enable_fp_fusion!r} for "
            f"{compiled.metadata.name}. Use a release of Triton that heeds the option, or set "
            "FANIN_ENGINE=native to draw on the CPU."
        )


def _draw_runs(form: Numbers, key: int, walk: Walk, memory: Tensor) -> None:
    *outer, run = walk.steps
    outer.reverse()
    runs = walk.count // run.size
    blocks, warps = (512, 4) if runs == 1 or run.size >= _LONG_RUN else (128, 1)
    before = 63 if any(step.in_stream % 64 for step in outer) else walk.first % 64
    granules = -(-(before + run.size) // 64)
    programs = -(-16 * granules // blocks)
    _launch(
        draw_runs,
        programs * runs,
        (
            *(_at(memory, walk.memory), signed(key), walk.first, run.size, programs),
            *_flat(outer, 3),
            *form.arguments,
        ),
        {"OUTER": len(outer), "BLOCKS": blocks, **form.meta},
        warps,
        memory,
    )


def _draw_places(form: Numbers, key: int, walk: Walk, memory: Tensor) -> None:
    steps = walk.steps[::-1] or (_NO_STEP,)
    count = walk.count
    _launch(
        draw_places,
        -(-count // _PLACES),
        (
            *(_at(memory, walk.memory), signed(key), walk.first, count),
            *_flat(steps, 4),
            *form.arguments,
        ),
        {"DIMS": len(steps), "SMALL": count < 2**31 - _PLACES, "PLACES": _PLACES, **form.meta},
        4,
        memory,
    )


def _draw_group(group: list[tuple[Numbers, int, Tensor]]) -> None:
    rows: list[list[int]] = []
    row_of_program: list[int] = []
    for form, key, out in group:
        first = len(row_of_program)
        row_of_program += [len(rows)] * -(-out.numel() // (4 * _GROUP_BLOCKS))
        rows.append([out.data_ptr(), signed(key), out.numel(), first, *form.arguments])
    like = group[0][2]
    _launch(
        draw_group,
        len(row_of_program),
        (_sent(rows, like, torch.int64), _sent(row_of_program, like, torch.int32)),
        {"BLOCKS": _GROUP_BLOCKS, **group[0][0].meta},
        1,
        like,
    )


def _sent(table: list[Any], like: Tensor, dtype: torch.dtype) -> Tensor:
    """A table on the device of ``like``; from pinned memory the copy needs nobody to wait."""
    here = torch.tensor(table, dtype=dtype, device="cpu", pin_memory=like.is_cuda)
    return here.to(like.device, non_blocking=True)


def _launch(
    kernel: Any,
    programs: int,
    arguments: tuple[Any, ...],
    meta: Mapping[str, int | bool],
    warps: int,
    out: Tensor,
) -> None:
    options = {**meta, "num_warps": warps, "enable_fp_fusion": False}
    with torch.cuda.device(out.device) if out.is_cuda else nullcontext():
        compiled_as = (kernel, out.device, *meta.values())
        if compiled_as not in _checked:
            _require_no_capture(out)
            if isinstance(kernel, JITFunction):  # else Triton interprets, and rounds as NumPy does
                require_unfused(kernel.warmup(*arguments, grid=(programs,), **options))
            _checked.add(compiled_as)
        kernel[(programs,)](*arguments, **options)


def _require_no_capture(out: Tensor) -> None:
    """Refuse the first call of a kernel, which loads it, where CUDA would break off the capture."""
    if out.is_cuda and torch.cuda.is_current_stream_capturing():
        raise EngineError(
            "cuda engine: the first call of a kernel loads it, which a capture does not allow. Got "
            "that call while a CUDA graph is captured. Before the capture, draw a tensor of this "
            "shape, dtype and distribution by itself: fanin.init.normal_(torch.empty_like(t))."
        )


def _at(memory: Tensor, offset: int) -> Tensor:
    """What starts so many elements further on."""
    return memory.as_strided((1,), (1,), memory.storage_offset() + offset) if offset else memory


def _flat(steps: list[Step] | tuple[Step, ...], dims: int) -> tuple[int, ...]:
    """Sizes and steps of so many dims."""
    padded = (*steps, *[_NO_STEP] * (dims - len(steps)))
    return tuple(number for step in padded for number in step)
