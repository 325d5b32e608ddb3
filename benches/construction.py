"""Models built and initialised: fanin against the models' own constructors, in the same run.

    python benches/construction.py [--pairs 5] [--threads 2] [--only GPT]

A ratio is the constructor's time over fanin's, the median over pairs measured in turn. fanin's
part is all of it: deferred construction, memory, plan and values. Page faults count on both sides.
What a virtual machine adds to them does not: it hands freed memory back to its host, and gets it
again at a second a gigabyte; each run is preceded by an untimed one that touches as much memory.
The values are checked after the clock has stopped.
"""

from __future__ import annotations

import gc
import math
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import nn

import fanin
from fanin import initializers, zoo
from fanin.model.construction import deferred, materialize
from fanin.model.construction.pages import advise_large_pages
from fanin.report import Column, Table
from presentation import machine
from rounds import race_options, ratio

_STD = 0.02  # of the weights of GPT-2
_RECIPE = {"**": initializers.normal(std=_STD)}
_MEBIBYTE = 2**20
_TOUCHED = 1024 * _MEBIBYTE  # twice the largest model

# Run on its own: how far the process grew beyond the model it made. The peak is that of /proc:
# ru_maxrss starts with the parent's.
_MEMORY = """
import sys
sys.path[:0] = {path!r}
import torch
import construction as bench
torch.set_num_threads({threads})
import transformers.models.gpt2.modeling_gpt2
bench.ours(lambda: torch.nn.Linear(64, 64))  # what the first call of all loads
def peak():
    lines = open("/proc/self/status").read().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM"))
before = peak()
model = bench.ours(bench.gpt2)
size = sum(p.nbytes for p in model.parameters()) + sum(b.nbytes for b in model.buffers())
print(peak() - before - size, size)
"""


def main() -> None:
    options = race_options("building models, with fanin and without")
    torch.set_num_threads(options.threads)
    rows = []
    for race in (
        Race("GPT-2 124M of transformers", gpt2, reach=8.0),
        Race("AlexNet of fanin.zoo", zoo.AlexNet, reach=3.0),
    ):
        if options.only in race.name:
            rows.append(race.row(options.pairs))
    for lap in (
        Lap("plan of a 7B llama on meta", llama_7b, limit=0.050),
        Lap("plan of 10,000 parameters", ten_thousand, limit=0.300),
    ):
        if options.only in lap.name:
            rows.append(lap.row(options.pairs))
    if options.only in _PEAK:
        rows.append(_peak_row(options.threads))
    columns = (Column("what"), *(Column(name, "right") for name in ("own", "fanin", "figure")))
    print("\n".join(f"{name}: {value}" for name, value in machine().items()))
    print(f"\n{Table(columns, tuple(rows))}\n")
    print("own: the constructor alone. After the slash what to reach, ✓ where it is.")


def ours(build: Callable[[], nn.Module]) -> nn.Module:
    """A model built and initialised by fanin."""
    with deferred():
        model = build()
    materialize(model)
    fanin.initialize(model, _RECIPE, seed=0)
    return model


def gpt2() -> nn.Module:
    """The 124M parameters of the default configuration."""
    from transformers import GPT2Config, GPT2LMHeadModel

    return GPT2LMHeadModel(GPT2Config())


def llama_7b() -> nn.Module:
    """The default configuration is that of the model with 7 billion parameters."""
    from transformers import LlamaConfig, LlamaForCausalLM

    with deferred():
        return LlamaForCausalLM(LlamaConfig())


def ten_thousand() -> nn.Module:
    """5,000 layers with a weight and a bias."""
    with deferred():
        return nn.Sequential(*(nn.Linear(8, 8) for _ in range(5000)))


@dataclass(frozen=True)
class Race:
    """A model built by its own constructor, and by fanin."""

    name: str
    build: Callable[[], nn.Module]
    reach: float

    def row(self, pairs: int) -> tuple[str, ...]:
        """Time both in turn, then look at what was written."""
        contenders = {"own": self.build, "fanin": lambda: ours(self.build)}
        seconds = _timed(contenders, pairs)
        _check(ours(self.build))
        own, mine = (statistics.median(seconds[name]) for name in contenders)
        speedup = ratio(seconds, "own", "fanin")
        verdict = "✓" if speedup >= self.reach else "✗"
        return (self.name, _time(own), _time(mine), f"{speedup:.1f}× / {self.reach:.2g} {verdict}")


@dataclass(frozen=True)
class Lap:
    """The plan of a model that has no memory."""

    name: str
    build: Callable[[], nn.Module]
    limit: float  # seconds

    def row(self, pairs: int) -> tuple[str, ...]:
        """Time the plan alone."""
        model = self.build()
        seconds = _timed({"plan": lambda: fanin.plan(model, _RECIPE, seed=0)}, pairs)
        mine = statistics.median(seconds["plan"])
        verdict = "✓" if mine <= self.limit else "✗"
        return (self.name, "", _time(mine), f"/ {_time(self.limit)} {verdict}")


def _timed(contenders: dict[str, Callable[[], object]], count: int) -> dict[str, list[float]]:
    """Seconds of each in each round, by turns; a round before is not timed.

    Models of transformers hold cycles: only the collector frees them.
    """
    seconds: dict[str, list[float]] = {name: [] for name in contenders}
    for turn in range(count + 1):
        for name, run in contenders.items():
            gc.collect()
            _touch_memory()
            time.sleep(0.01)  # the workers of a thread pool spin for some milliseconds
            start = time.perf_counter()
            result = run()
            elapsed = time.perf_counter() - start
            del result  # to free it takes time too
            if turn:
                seconds[name].append(elapsed)
    return seconds


def _touch_memory() -> None:
    """Have a virtual machine's host find memory; freed, it is what the kernel gives out next."""
    memory = torch.empty(_TOUCHED, dtype=torch.uint8)
    advise_large_pages(memory)
    memory.zero_()


_PEAK = "memory beyond the model, at its peak"
_PEAK_LIMIT = 64 * _MEBIBYTE


def _peak_row(threads: int) -> tuple[str, ...]:
    program = _MEMORY.format(path=sys.path[:1], threads=threads)
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, check=True, text=True
    )
    beyond, size = (int(number) / _MEBIBYTE for number in done.stdout.split())
    verdict = "✓" if beyond <= _PEAK_LIMIT / _MEBIBYTE else "✗"
    figure = f"/ {_PEAK_LIMIT // _MEBIBYTE} MiB {verdict}"
    return (_PEAK, "", f"{beyond:.0f} of {size:.0f} MiB", figure)


def _check(model: nn.Module) -> None:
    """Every value is there: mean and std of all within six standard errors (2e-9 each)."""
    values = torch.cat([parameter.detach().flatten() for parameter in model.parameters()])
    error = 6 / math.sqrt(values.numel())
    mean, std = float(values.double().mean()) / _STD, float(values.double().std()) / _STD
    if abs(mean) > error or abs(std - 1) > error / math.sqrt(2):
        raise SystemExit(f"not what was asked for: mean {mean} and std {std} in units of {_STD}")


def _time(seconds: float) -> str:
    return f"{seconds * 1e3:.0f} ms"


if __name__ == "__main__":
    main()
