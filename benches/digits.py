"""Thirty layers without norms, trained on scikit-learn's digits from `auto` and from the default.

    python benches/digits.py [--seeds 5] [--epochs 12] [--plot docs/pictures/digits.png]

1,797 pictures of 8 by 8 pixels, of which 1,400 are for training; stochastic gradient descent with
momentum 0.9 and the learning rate, of three for each start, that is best over the first two seeds:
no start is given one that suits the other.
"""

from __future__ import annotations

import argparse
import statistics
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import torch
from sklearn.datasets import load_digits
from torch import Tensor, nn
from torch.nn import functional as F

import fanin
from fanin import zoo
from fanin.report import Column, Table
from presentation import machine

_ACTIVATIONS = ("tanh", "relu", "gelu", "silu", "selu")
_RATES = (0.001, 0.003, 0.01)
_STARTS = ("torch_default", "auto")
_TRAINING = 1400
_TRIED = 2  # seeds for each learning rate


@dataclass(frozen=True)
class Run:
    """Accuracy on the pictures that were held back, after each epoch, for every seed."""

    rate: float
    curves: tuple[tuple[float, ...], ...]

    @property
    def median(self) -> float:
        """At the end, over seeds."""
        return statistics.median(curve[-1] for curve in self.curves)


def main() -> None:
    """Train, print the table, draw the curves."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--epochs", type=int, default=12)
    parser.add_argument("--depth", type=int, default=30)
    parser.add_argument("--only", default="", help="part of an activation's name")
    parser.add_argument("--plot", type=Path)
    options = parser.parse_args()
    torch.set_num_threads(1)  # layers of 128 units: a second thread waits more than it computes
    print("\n".join(f"{name}: {value}" for name, value in machine().items()), flush=True)
    runs: dict[str, dict[str, Run]] = {}
    for activation in _ACTIVATIONS:
        if options.only in activation:
            runs[activation] = {start: _best(activation, start, options) for start in _STARTS}
    print(f"\n{_table(runs, options)}")
    if options.plot is not None:
        _draw(runs, options.plot)


def _best(activation: str, start: str, options: argparse.Namespace) -> Run:
    """With the rate that is best over the first seeds."""

    def run(rate: float, seeds: range) -> Run:
        return Run(rate, tuple(_trained(activation, start, rate, s, options) for s in seeds))

    tried = (run(rate, range(min(_TRIED, options.seeds))) for rate in _RATES)
    chosen = max(tried, key=lambda each: each.median)
    rest = run(chosen.rate, range(len(chosen.curves), options.seeds))
    return Run(chosen.rate, (*chosen.curves, *rest.curves))


def _trained(
    activation: str, start: str, rate: float, seed: int, options: argparse.Namespace
) -> tuple[float, ...]:
    inputs, labels = _digits()
    model = zoo.mlp(depth=options.depth, width=128, activation=activation, in_features=64)
    fanin.initialize(model, start, seed=seed, **_traced(start, inputs))
    optimizer = torch.optim.SGD(model.parameters(), lr=rate, momentum=0.9)
    order = torch.Generator().manual_seed(seed)
    curve = [_accuracy(model)]
    for _ in range(options.epochs):
        for batch in torch.randperm(_TRAINING, generator=order).split(64):
            loss = F.cross_entropy(model(inputs[batch]), labels[batch])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        curve.append(_accuracy(model))
    return tuple(curve)


def _traced(start: str, inputs: Tensor) -> Mapping[str, Tensor]:
    return {"example_inputs": inputs[:64]} if start == "auto" else {}


@torch.no_grad()
def _accuracy(model: nn.Module) -> float:
    inputs, labels = _digits()
    chosen = model(inputs[_TRAINING:]).argmax(1)
    return float((chosen == labels[_TRAINING:]).float().mean())


@cache
def _digits() -> tuple[Tensor, Tensor]:
    """All pictures in a fixed random order, of mean 0 and std 1 over those for training."""
    pictures, labels = load_digits(return_X_y=True)
    order = torch.randperm(len(labels), generator=torch.Generator().manual_seed(0))
    x = torch.tensor(pictures, dtype=torch.float32)[order]
    training = x[:_TRAINING]
    return (x - training.mean()) / training.std(), torch.tensor(labels)[order]


def _table(runs: Mapping[str, Mapping[str, Run]], options: argparse.Namespace) -> Table:
    rows = []
    for activation, of_starts in runs.items():
        for start, run in of_starts.items():
            ends = sorted(curve[-1] for curve in run.curves)
            rows.append((activation, start, f"{run.rate:g}", f"{run.median:.1%}", f"{ends[0]:.1%}"))
    columns = (Column("activation"), Column("start"), Column("learning rate", "right"))
    ends = (Column("accuracy", "right"), Column("worst seed", "right"))
    title = f"{options.depth} layers of 128 units, {options.epochs} epochs, {options.seeds} seeds"
    return Table((*columns, *ends), tuple(rows), title=title)


def _draw(runs: Mapping[str, Mapping[str, Run]], path: Path) -> None:
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(
        1, len(runs), figsize=(2.6 * len(runs), 2.8), sharey=True, layout="constrained"
    )
    for axis, (activation, of_starts) in zip(axes, runs.items(), strict=True):
        for start, color in zip(_STARTS, ("tab:gray", "tab:blue"), strict=True):
            for i, curve in enumerate(of_starts[start].curves):
                label = f"{start}, lr {of_starts[start].rate:g}" if i == 0 else None
                axis.plot(curve, color=color, linewidth=1, alpha=0.8, label=label)
        axis.set(title=activation, xlabel="epoch", ylim=(0, 1))
        axis.legend(fontsize=6, loc="center right", frameon=False)
    axes[0].set_ylabel("accuracy on held-back digits")
    figure.savefig(path, dpi=160)


if __name__ == "__main__":
    main()
