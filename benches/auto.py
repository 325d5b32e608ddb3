"""`auto` on architectures that nothing was tuned for: the std of every layer, predicted, measured.

    python benches/auto.py [--seeds 15] [--only transformer] [--threads 2]

A row of a net is one call of a module in it. What is compared is the median over seeds of the std
of its output with the median that `fanin.predict` states. Nets of a depth up to a 25th of their
width are promised 15 % (feed-forward) or 30 % (attention, recurrence) at every row; deeper ones
drift from draw to draw, and what counts is that 95 draws of 100 are inside the interval; they are
measured with a fifth of the seeds.
"""

from __future__ import annotations

import argparse
import math
import statistics
import warnings
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch

import fanin
from auto_nets import NETS, Net
from fanin.report import Column, Table
from presentation import machine

_SLACK = 1.03  # what the number of points that a probe looks at adds to an interval


@dataclass(frozen=True)
class Comparison:
    """A net's rows: measured over predicted, and shares of them.

    Args:
        ratios: for each row, of the std.
        inside: share of all single measurements inside the intervals.
        near: of rows with a predicted rms of 1, the share measured within [0.5, 2].
        gradients: the median ratio of the gradients' rms, which are for infinite width.
    """

    ratios: tuple[float, ...]
    inside: float
    near: float
    gradients: float

    @property
    def worst(self) -> float:
        """The ratio farthest from 1."""
        return max(self.ratios, key=lambda ratio: abs(math.log(ratio)))


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=15)
    parser.add_argument("--only", default="", help="part of an architecture's name")
    parser.add_argument("--threads", type=int, default=2)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    warnings.simplefilter("ignore")
    print("\n".join(f"{name}: {value}" for name, value in machine().items()), flush=True)
    rows = []
    for net in NETS:
        if options.only in net.name:
            count = options.seeds if net.within is not None else -(-options.seeds // 5)
            rows.append(_row(net, compared(net, range(count))))
    print(f"\n{Table(_COLUMNS, tuple(rows), caption=_CAPTION)}")


def compared(net: Net, seeds: Sequence[int]) -> Comparison:
    """Plan, predict, and measure with every seed."""
    model, inputs = net.build(), net.inputs()
    plan = fanin.plan(model, "auto", seed=0, example_inputs=inputs)
    prediction = fanin.predict(model, plan, inputs)
    measured: defaultdict[tuple[str, int], list[float]] = defaultdict(list)
    gradients: defaultdict[tuple[str, int], list[float]] = defaultdict(list)
    heights: defaultdict[tuple[str, int], list[float]] = defaultdict(list)
    for seed in seeds:
        _reseeded(plan, seed).apply(model)
        for row in fanin.probe(model, inputs).rows:
            if "/" not in row.name:
                measured[row.name, row.call].append(row.output.std)
                heights[row.name, row.call].append(row.output.rms)
                if row.gradient is not None:
                    gradients[row.name, row.call].append(row.gradient.rms)
    ratios, slopes, inside, near = [], [], [], []
    for place, stds in measured.items():
        expected = prediction.module(*place)
        if expected is None or not expected.median:
            continue
        ratios.append(statistics.median(stds) / expected.median)
        low, high = expected.interval
        inside += [low / _SLACK <= std <= high * _SLACK for std in stds]
        if abs(expected.moments.rms - 1) < 0.05:
            near.append(0.5 <= statistics.median(heights[place]) <= 2)
        if gradients[place] and expected.gradient_rms:
            slopes.append(statistics.median(gradients[place]) / expected.gradient_rms)
    return Comparison(
        tuple(ratios),
        statistics.mean(inside),
        statistics.mean(near) if near else math.nan,
        statistics.median(slopes) if slopes else math.nan,
    )


def _reseeded(plan: fanin.Plan, seed: int) -> fanin.Plan:
    """The plan for another seed, which decides no scale."""
    keyed = ((step, step.key) for step in plan.steps)
    steps = (replace(step, key=fanin.Key(seed, key.name)) if key else step for step, key in keyed)
    return replace(plan, steps=tuple(steps), seed=seed)


_COLUMNS = (
    Column("architecture"),
    Column("rows", "right"),
    Column("median", "right"),
    Column("worst", "right"),
    Column("promised", "right"),
    Column("in interval", "right"),
    Column("in [0.5, 2]", "right"),
    Column("gradient", "right"),
)
_CAPTION = (
    "median, worst: measured over predicted std, of a net's rows. ✓: every row as promised.\n"
    "in interval: single draws inside the predicted 95 %. in [0.5, 2]: rms of rows that are to "
    "have 1.\ngradient: median of measured over predicted rms, which is for infinite width."
)


def _row(net: Net, found: Comparison) -> tuple[str, ...]:
    promised = "-"
    if net.within is not None:
        is_kept = abs(math.log(found.worst)) <= math.log1p(net.within)
        promised = f"{net.within:.0%} {'✓' if is_kept else '✗'}"
    near = "-" if math.isnan(found.near) else f"{found.near:.0%}"
    return (
        net.name,
        str(len(found.ratios)),
        f"{statistics.median(found.ratios):.2f}",
        f"{found.worst:.2f}",
        promised,
        f"{found.inside:.0%}",
        near,
        f"{found.gradients:.2f}",
    )


if __name__ == "__main__":
    main()
