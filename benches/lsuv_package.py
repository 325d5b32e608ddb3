"""LSUV by fanin and by the `lsuv` package (pip install lsuv), on the same nets and batches.

    python benches/lsuv_package.py [--seeds 3] [--tolerance 0.05] [--only MLP]

Both draw orthogonal weights and then scale. What counts is measured afterwards by hooks of the
bench, in one pass in eval mode: the std of every layer's output at its first call, for all layers
with weights of two dims or more (attention is one). Times are those of the calls alone.
"""

from __future__ import annotations

import argparse
import copy
import importlib
import statistics
import time
import warnings
from collections.abc import Callable
from importlib.metadata import version
from typing import Any

import torch
from torch import Tensor, nn

import fanin
from fanin.probing.measuring.modules import watched
from fanin.report import Column, Table
from lsuv_nets import NETS
from presentation import machine


def main() -> None:
    options = _options()
    rows = [_row(name, options) for name in NETS if options.only in name]
    names = ("layers", "lsuv: within", "worst std", "time", "fanin: within", "worst std", "time")
    columns = (Column("net"), *(Column(name, "right") for name in names))
    print("\n".join(f"{name}: {value}" for name, value in machine().items()))
    print(f"lsuv {version('lsuv')}; {options.seeds} seeds, tolerance {options.tolerance:.0%}\n")
    print(Table(columns, tuple(rows)))


def by_package(model: nn.Module, batch: Tensor, tolerance: float, seed: int) -> None:
    torch.manual_seed(seed)
    package: Any = importlib.import_module("lsuv")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # layers that never fire
        package.lsuv_with_singlebatch(model, batch, std_tol=tolerance, verbose=False)


def by_fanin(model: nn.Module, batch: Tensor, tolerance: float, seed: int) -> None:
    fanin.calibrate(model, batch, tolerance=tolerance, seed=seed)


SIDES: tuple[Callable[[nn.Module, Tensor, float, int], None], ...] = (by_package, by_fanin)


def _row(name: str, options: argparse.Namespace) -> tuple[str, ...]:
    found: dict[str, list[float]] = {side.__name__: [] for side in SIDES}
    seconds: dict[str, list[float]] = {side.__name__: [] for side in SIDES}
    for seed in range(options.seeds):
        torch.manual_seed(seed)
        built, batch = NETS[name]()
        built.eval()
        for side in SIDES:
            model = copy.deepcopy(built)
            start = time.perf_counter()
            side(model, batch, options.tolerance, seed)
            seconds[side.__name__].append(time.perf_counter() - start)
            found[side.__name__] += _stds(model, batch)
    count = len(found["by_fanin"])
    cells = [str(count // options.seeds)]
    for side in SIDES:
        stds = found[side.__name__]
        within = sum(abs(std - 1) <= options.tolerance for std in stds)
        worst = max(stds, key=lambda std: abs(std - 1))
        cells += [f"{within} of {count}", f"{worst:.3g}"]
        cells += [f"{statistics.median(seconds[side.__name__]) * 1e3:.0f} ms"]
    return name, *cells


def _stds(model: nn.Module, batch: Tensor) -> list[float]:
    """Of each layer's first output, in a pass of our own."""
    found: dict[str, float] = {}

    def keep(name: str, output: Any) -> None:
        tensor = output[0] if isinstance(output, tuple) else output
        found.setdefault(name, float(tensor.double().std(correction=0)))

    for place in watched(model):
        if place.is_layer:
            place.module.register_forward_hook(
                lambda _, __, output, name=place.name: keep(name, output)
            )
    with torch.no_grad():
        model(batch)
    return list(found.values())


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="LSUV by fanin and by the lsuv package")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--tolerance", type=float, default=0.05)
    parser.add_argument("--only", default="", metavar="TEXT", help="nets whose name contains TEXT")
    return parser.parse_args()


if __name__ == "__main__":
    main()
