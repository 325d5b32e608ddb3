"""FAN306: transposed convolutions that cover their output unevenly."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any, TypeAlias

from torch import nn

from fanin.auditing.code import expression
from fanin.auditing.evidence import Evidence
from fanin.auditing.finding import Check, Symptom

__all__ = ["CHECKERBOARD_CHECKS"]

_Sides: TypeAlias = tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...]]

_TRANSPOSED = (nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)


def _uneven(evidence: Evidence) -> Iterator[Symptom]:
    found: dict[_Sides, list[str]] = {}
    for name, module in evidence.modules.items():
        if isinstance(module, _TRANSPOSED):
            sides: _Sides = (module.kernel_size, module.stride, module.dilation)
            if any(low != high for low, high in _cover(*sides)):
                found.setdefault(sides, []).append(name)
    for sides, names in found.items():
        kernel, stride, _ = sides
        cover = _cover(*sides)
        low, high = (math.prod(ends) for ends in zip(*cover, strict=True))
        better = tuple(-(-size // step) * step for size, step in zip(kernel, stride, strict=True))
        yield Symptom(
            tuple(names),
            f"kernel {kernel}, stride {stride}: an output sums {low} to {high} taps of each channel"
            + (", some none" if low == 0 else f", its std varies ×{math.sqrt(high / low):.2g}"),
            f"a kernel that strides divide: {better}",
            _replaced(names[0], evidence.modules[names[0]], better),
            {"fewest": low, "most": high},
            "warning" if low == 0 else None,
        )


def _replaced(name: str, layer: Any, kernel: tuple[int, ...]) -> str:
    """A layer with another kernel and outputs of the same size."""
    if max(layer.dilation) > 1:
        return f"# resize before a plain convolution instead of {expression(name)}"
    padding, output_padding = [], []
    for size, old, pad, extra in zip(
        kernel, layer.kernel_size, layer.padding, layer.output_padding, strict=True
    ):
        surplus = size - (old + extra - 2 * pad)  # 2·padding - output_padding of the new layer
        padding.append(max(-(-surplus // 2), 0))
        output_padding.append(2 * padding[-1] - surplus)
    options = f"stride={layer.stride}, padding={tuple(padding)}"
    options += f", output_padding={tuple(output_padding)}" if any(output_padding) else ""
    options += f", groups={layer.groups}" if layer.groups > 1 else ""
    options += ", bias=False" if layer.bias is None else ""
    kind = f"torch.nn.ConvTranspose{len(kernel)}d"
    channels = f"{layer.in_channels}, {layer.out_channels}"
    return f"{expression(name)} = {kind}({channels}, {kernel}, {options})"


def _cover(
    kernel: tuple[int, ...], stride: tuple[int, ...], dilation: tuple[int, ...]
) -> tuple[tuple[int, int], ...]:
    """The fewest and the most taps that meet in an output, along each dim."""
    met = [
        [sum(tap * wide % step == place for tap in range(size)) for place in range(step)]
        for size, step, wide in zip(kernel, stride, dilation, strict=True)
    ]
    return tuple((min(each), max(each)) for each in met)


CHECKERBOARD_CHECKS = (
    Check(
        "FAN306",
        "checkerboard",
        "note",
        "the kernel of a transposed convolution is no multiple of its stride",
        "Neighbouring outputs sum different numbers of taps: a checkerboard, from the first step.",
        _uneven,
    ),
)
