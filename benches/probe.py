"""What a probe costs: its time and its memory against the same two passes without it.

    python benches/probe.py [--pairs 5] [--threads 2] [--only GPT]

Both sides run one forward pass and one backward pass from a gradient of the output's shape, on the
same model and inputs. A ratio is the median over pairs measured in turn. The statistics themselves
are checked in the tests.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

import fanin
from fanin import zoo
from fanin.probing import probe
from fanin.report import Column, Table
from presentation import machine
from rounds import race_options, ratio, timed_rounds

_LIMIT = 1.5  # times the passes themselves
_MEBIBYTE = 2**20

# Run on its own: how far the process grew in the passes. The peak is that of /proc: ru_maxrss
# starts with the parent's.
_MEMORY = """
import sys
sys.path[:0] = {path!r}
import torch
import probe as bench
torch.set_num_threads({threads})
race = next(race for race in bench.RACES if race.name == {name!r})
model, inputs = race.build()
small = torch.nn.Sequential(torch.nn.Linear(4, 4), torch.nn.BatchNorm1d(4))
getattr(bench, {side!r})(small, torch.ones(2, 4))  # what the first call of all loads
def peak():
    lines = open("/proc/self/status").read().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM"))
before = peak()
getattr(bench, {side!r})(model, inputs)
print(peak() - before)
"""


def main() -> None:
    options = race_options("passes with and without a probe")
    torch.set_num_threads(options.threads)
    rows = [race.row(options) for race in RACES if options.only in race.name]
    names = ("passes", "probe", "ratio", "passes", "probe", "largest activation")
    columns = (Column("model"), *(Column(name, "right") for name in names))
    print("\n".join(f"{name}: {value}" for name, value in machine().items()))
    print(f"\n{Table(columns, tuple(rows))}\n")
    print(f"Times, then growth of the process. ✓: at most {_LIMIT} times; one activation more.")


def passes(model: nn.Module, inputs: Tensor) -> None:
    """A forward and a backward pass."""
    output = _tensor(model(inputs))
    parameters = list(model.parameters())
    torch.autograd.grad(output, parameters, torch.ones_like(output), allow_unused=True)


def probed(model: nn.Module, inputs: Tensor) -> None:
    """The same passes, measured."""
    probe(model, inputs)


@dataclass(frozen=True)
class Race:
    """A model and what goes into it."""

    name: str
    build: Callable[[], tuple[nn.Module, Tensor]]
    limit: float | None = _LIMIT

    def row(self, options: argparse.Namespace) -> tuple[str, ...]:
        model, inputs = self.build()
        sides = {
            "passes": lambda: passes(model, inputs),
            "probe": lambda: probed(model, inputs),
        }
        seconds = timed_rounds(sides, options.pairs)
        times = ratio(seconds, "probe", "passes")
        verdict = "" if self.limit is None else " ✓" if times <= self.limit else " ✗"
        largest = _largest(model, inputs)
        growth = {side: _growth(self.name, side, options.threads) for side in ("passes", "probed")}
        fits = " ✓" if growth["probed"] <= growth["passes"] + largest else " ✗"
        return (
            self.name,
            *(f"{statistics.median(seconds[side]) * 1e3:.0f} ms" for side in sides),
            f"{times:.2f}{verdict}",
            *(f"{size / _MEBIBYTE:.0f} MiB" for size in growth.values()),
            f"{largest / _MEBIBYTE:.0f} MiB{fits if self.limit is not None else ''}",
        )


def _alexnet() -> tuple[nn.Module, Tensor]:
    model = zoo.alexnet()
    fanin.initialize(model, "kaiming", seed=0)
    return model, torch.randn(16, 3, 224, 224)


def _gpt2() -> tuple[nn.Module, Tensor]:
    from transformers import GPT2Config, GPT2LMHeadModel

    return GPT2LMHeadModel(GPT2Config()), torch.randint(50257, (4, 64))


def _mlp() -> tuple[nn.Module, Tensor]:
    model = zoo.mlp(depth=100, width=256, activation="tanh", in_features=256, out_features=256)
    return model, torch.randn(16, 256)


RACES = (
    Race("AlexNet, 16 images of 224×224", _alexnet),
    Race("GPT-2 124M, 4 × 64 tokens", _gpt2),
    Race("100 layers of width 256, batch 16", _mlp, limit=None),
)


def _tensor(output: Any) -> Tensor:
    return output if isinstance(output, Tensor) else output.logits


def _largest(model: nn.Module, inputs: Tensor) -> int:
    """Bytes of the largest output of a module."""
    sizes: list[int] = []
    handles = [
        module.register_forward_hook(
            lambda _, __, output: sizes.append(output.nbytes if torch.is_tensor(output) else 0)
        )
        for module in model.modules()
    ]
    with torch.no_grad():
        model(inputs)
    for handle in handles:
        handle.remove()
    return max(sizes)


def _growth(name: str, side: str, threads: int) -> int:
    """Bytes by which a fresh process grows; the median of three."""
    program = _MEMORY.format(path=sys.path[:1], threads=threads, name=name, side=side)
    command = [sys.executable, "-c", program]
    runs = [subprocess.run(command, capture_output=True, check=True, text=True) for _ in range(3)]
    return int(statistics.median(int(run.stdout) for run in runs))


if __name__ == "__main__":
    main()
