"""What MetaInit, GradInit and LSUV make of deep networks with weights off by a factor a layer.

    python benches/learned_scales.py [--seeds 3] [--depth 30] [--width 64] [--updates 100]

The data are the 8×8 digits of scikit-learn. Each network is calibrated on 96 of them and then
trained on 1200 by SGD with momentum, at each of several rates; what counts is the loss on the 1200
at the best rate. 2.30 is the loss of guessing.
"""

from __future__ import annotations

import argparse
import copy
import importlib
import math
import statistics
import time
from collections.abc import Callable
from itertools import pairwise
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

import fanin
from fanin.calibration import CalibrationError, GradInit
from fanin.report import Column, Table
from presentation import machine

RATES = (0.003, 0.01, 0.03, 0.1)
FACTORS = {
    "×0.5": (0.5, False),
    "×1.5": (1.5, False),
    "×2^N(0, 1)": (2.0, True),
    "×1": (1.0, False),
}
FUNCTIONS: dict[str, Callable[[], nn.Module]] = {"relu": nn.ReLU, "tanh": nn.Tanh}

Way = Callable[[nn.Module, Tensor, Tensor], object]
WAYS: dict[str, Way] = {
    "as it is": lambda model, x, y: None,
    "lsuv": lambda model, x, y: fanin.calibrate(model, x, "lsuv", orthogonal=False),
    "metainit": lambda model, x, y: fanin.calibrate(model, x, "metainit"),
    "metainit, cross entropy": lambda model, x, y: fanin.calibrate(
        model, x, "metainit", loss=F.cross_entropy, targets=y
    ),
    "gradinit, sgd": lambda model, x, y: fanin.calibrate(
        model, x, "gradinit", loss=F.cross_entropy, targets=y
    ),
    "gradinit, adam": lambda model, x, y: fanin.calibrate(
        model, x, GradInit("adam"), loss=F.cross_entropy, targets=y
    ),
}


def main() -> None:
    options = _options()
    x, y = _digits()
    columns = (Column("net"), *(Column(name, "right") for name in WAYS))
    rows = []
    seconds: dict[str, list[float]] = {name: [] for name in WAYS}
    for function in FUNCTIONS:
        for label in FACTORS:
            if options.only in f"{function} {label}":
                rows.append(_row(function, label, x, y, options, seconds))
    print("\n".join(f"{name}: {value}" for name, value in machine().items()))
    print(
        f"depth {options.depth}, width {options.width}, {options.seeds} seeds, {options.updates} "
        f"updates; losses: median over the seeds\n"
    )
    medians = (f"{statistics.median(seconds[name]):.1f} s" for name in WAYS)
    print(Table(columns, (*rows, ("time of the call", *medians))))


def _row(
    function: str,
    label: str,
    x: Tensor,
    y: Tensor,
    options: argparse.Namespace,
    seconds: dict[str, list[float]],
) -> tuple[str, ...]:
    cells = []
    for name, way in WAYS.items():
        losses = []
        for seed in range(options.seeds):
            model = _net(function, label, options, seed)
            begin = time.perf_counter()
            try:
                way(model, x[:96], y[:96])
            except CalibrationError:
                losses.append(math.inf)
                continue
            seconds[name].append(time.perf_counter() - begin)
            losses.append(min(_trained(model, x, y, rate, options) for rate in RATES))
        cells.append(f"{statistics.median(losses):.2f}")
    return (f"{function} {label}", *cells)


def _net(function: str, label: str, options: argparse.Namespace, seed: int) -> nn.Module:
    generator = torch.Generator().manual_seed(seed)
    factor, is_mixed = FACTORS[label]
    sizes = [64, *[options.width] * (options.depth - 1), 10]
    layers: list[nn.Module] = []
    for fan_in, fan_out in pairwise(sizes):
        layer = nn.Linear(fan_in, fan_out)
        gain = nn.init.calculate_gain("relu") if function == "relu" else 1.0
        scale = factor ** float(torch.randn((), generator=generator)) if is_mixed else factor
        with torch.no_grad():
            drawn = torch.randn(layer.weight.shape, generator=generator)
            layer.weight.copy_(drawn * scale * gain / math.sqrt(fan_in))
            layer.bias.zero_()
        layers += [layer, FUNCTIONS[function]()]
    return nn.Sequential(*layers[:-1])


def _trained(
    model: nn.Module, x: Tensor, y: Tensor, rate: float, options: argparse.Namespace
) -> float:
    """The loss after training a copy."""
    model = copy.deepcopy(model)
    optimizer = torch.optim.SGD(model.parameters(), lr=rate, momentum=0.9)
    batches = torch.Generator().manual_seed(1)
    for _ in range(options.updates):
        rows = torch.randint(len(x), (64,), generator=batches)
        optimizer.zero_grad()
        torch.autograd.backward(F.cross_entropy(model(x[rows]), y[rows]))
        optimizer.step()
    with torch.no_grad():
        loss = float(F.cross_entropy(model(x), y))
    return loss if math.isfinite(loss) else math.inf


def _digits() -> tuple[Tensor, Tensor]:
    data: Any = importlib.import_module("sklearn.datasets").load_digits()
    x = torch.tensor(data.data[:1200], dtype=torch.float32)
    return (x - x.mean()) / x.std(), torch.tensor(data.target[:1200])


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--depth", type=int, default=30)
    parser.add_argument("--width", type=int, default=64)
    parser.add_argument("--updates", type=int, default=100)
    parser.add_argument("--only", default="")
    return parser.parse_args()


if __name__ == "__main__":
    main()
