"""What is measured, the ratio to reach, and the check that the work was done."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

__all__ = ["Case", "cases"]

_STATED_SIZE = 4096  # the ratios to reach are stated for this size
_SIX_SIGMA = 6.0  # false alarms: 2e-9 for each checked number


@dataclass(frozen=True)
class Case:
    """One call, made as ``torch.nn.init.function`` and as ``fanin.init.function``."""

    function: str
    shape: tuple[int, ...]
    check: Callable[[Tensor], None]
    dtype: torch.dtype = torch.float32
    arguments: Mapping[str, Any] = field(default_factory=dict)
    reach: Mapping[str, float] = field(default_factory=dict)  # build -> ratio, where one is stated
    calls: int = 1  # calls a timed run
    peer: str = ""  # what NumPy and JAX call it

    @property
    def name(self) -> str:
        """``normal_ 4096² bfloat16``."""
        square = len(self.shape) == 2 and self.shape[0] == self.shape[1]
        shape = f"{self.shape[0]}²" if square else "×".join(map(str, self.shape))
        dtype = "" if self.dtype == torch.float32 else f" {str(self.dtype).removeprefix('torch.')}"
        return f"{self.function} {shape}{dtype}"


def cases(size: int) -> tuple[Case, ...]:
    """Every case; matrices are ``size`` by ``size``, the sparse one half of it."""
    square, half = (size, size), (size // 2, size // 2)
    fan_std = math.sqrt(1 / size)
    bfloat16 = torch.bfloat16

    def reach(avx512: float, avx2: float) -> dict[str, float]:
        return {"avx512": avx512, "avx2": avx2} if size == _STATED_SIZE else {}

    return (
        Case("uniform_", square, _uniform(0, 1), reach=reach(8, 3), peer="uniform"),
        Case("normal_", square, _normal(1), reach=reach(6, 2.4), peer="normal"),
        Case("trunc_normal_", square, _truncated, reach=reach(50, 25), peer="truncated"),
        Case("normal_", square, _normal(1), bfloat16, reach=reach(8, 3)),
        Case("trunc_normal_", square, _truncated, bfloat16, reach=reach(25, 12)),
        Case("xavier_uniform_", square, _uniform(-math.sqrt(3 / size), math.sqrt(3 / size))),
        Case("kaiming_normal_", square, _normal(math.sqrt(2) * fan_std)),
        Case("orthogonal_", square, _orthogonal, reach=reach(1.7, 1.7)),
        Case("orthogonal_", (8, 8), _orthogonal, reach=reach(1 / 1.5, 1 / 1.5), calls=200),
        Case("orthogonal_", (64, 64), _orthogonal, reach=reach(1 / 1.5, 1 / 1.5), calls=50),
        Case("sparse_", half, _sparse, arguments={"sparsity": 0.1}, reach=reach(10, 10)),
        Case("uniform_", (64,), _bounded(0, 1), reach=reach(1 / 1.5, 1 / 1.5), calls=2000),
        Case("normal_", (64,), _bounded(-7, 7), reach=reach(1 / 1.5, 1 / 1.5), calls=2000),
    )


def _uniform(low: float, high: float) -> Callable[[Tensor], None]:
    def check(tensor: Tensor) -> None:
        values = tensor.double()
        _require("range", low <= float(values.min()) and float(values.max()) < high)
        _moments(values, (low + high) / 2, (high - low) / math.sqrt(12), kurtosis=1.8)
        _distribution(values, lambda x: (x - low) / (high - low))

    return check


def _normal(std: float) -> Callable[[Tensor], None]:
    def check(tensor: Tensor) -> None:
        values = tensor.double()
        _moments(values, 0.0, std, kurtosis=3.0)
        if tensor.dtype == torch.float32:  # the cdf is of values that were not rounded
            _distribution(values, lambda x: torch.special.ndtr(x / std))

    return check


def _truncated(tensor: Tensor) -> None:
    values = tensor.double()
    _require("range", float(values.abs().max()) <= 2)
    # Standard deviation and kurtosis of a standard normal cut at two.
    _moments(values, 0.0, 0.879626, kurtosis=2.365556)
    if tensor.dtype == torch.float32:
        outside = 0.5 * math.erfc(math.sqrt(2))
        _distribution(values, lambda x: (torch.special.ndtr(x) - outside) / (1 - 2 * outside))


def _orthogonal(tensor: Tensor) -> None:
    some = tensor[:, :: max(1, tensor.shape[1] // 64)].double()
    error = some.mT @ some - torch.eye(some.shape[1], dtype=some.dtype)
    _require("orthonormal columns", float(error.abs().max()) < 1e-5)
    _moments(tensor.double(), 0.0, 1 / math.sqrt(len(tensor)), kurtosis=3.0, slack=1e-3)


def _sparse(tensor: Tensor) -> None:
    zeros = (tensor == 0).sum(0)
    _require("zeros of each column", bool((zeros == math.ceil(0.1 * len(tensor))).all()))
    _moments(tensor[tensor != 0].double(), 0.0, 0.01, kurtosis=3.0)


def _bounded(low: float, high: float) -> Callable[[Tensor], None]:
    def check(tensor: Tensor) -> None:
        _require("range", low <= float(tensor.min()) < float(tensor.max()) <= high)

    return check


def _moments(
    values: Tensor, mean: float, std: float, *, kurtosis: float, slack: float = 0.0
) -> None:
    """Mean and std within six standard errors; bfloat16's rounding is far below them at 4096²."""
    count = values.numel()
    off_mean = abs(float(values.mean()) - mean) / (std / math.sqrt(count))
    off_std = abs(float(values.std()) / std - 1) - slack
    _require("mean", off_mean < _SIX_SIGMA)
    _require("std", off_std / (math.sqrt((kurtosis - 1) / count) / 2) < _SIX_SIGMA)


def _distribution(values: Tensor, cdf: Callable[[Tensor], Tensor]) -> None:
    """Kolmogorov-Smirnov on 2¹⁶ of the values, at a false alarm in 10⁹ (Massart's bound)."""
    flat = values.flatten()
    some = flat[:: max(1, len(flat) // 2**16)].sort().values
    expected = cdf(some)
    steps = torch.arange(len(some) + 1, dtype=torch.float64) / len(some)
    distance = torch.maximum((expected - steps[:-1]).abs(), (expected - steps[1:]).abs()).max()
    _require("distribution", float(distance) < math.sqrt(math.log(2e9) / (2 * len(some))))


def _require(what: str, holds: bool) -> None:
    if not holds:
        raise SystemExit(f"the timed call did not do its work: wrong {what}")
