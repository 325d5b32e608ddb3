"""Timing by turns: a round runs every contender once, so that drift meets all of them alike."""

from __future__ import annotations

import argparse
import gc
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Mapping

import torch

__all__ = ["extra_import_seconds", "race_options", "ratio", "timed_rounds"]

# Seconds before each run: the workers of a thread pool go on spinning after their work is done
# (OpenMP's for milliseconds), on the processor that the next contender needs.
_PAUSE = 0.01


def timed_rounds(
    contenders: Mapping[str, Callable[[], object]], count: int
) -> dict[str, list[float]]:
    """Seconds that each contender took in each of ``count`` rounds; a round before is not timed."""
    seconds: dict[str, list[float]] = {name: [] for name in contenders}
    gc.disable()
    try:
        for turn in range(count + 1):
            for name, run in contenders.items():
                time.sleep(_PAUSE)
                start = time.perf_counter()
                run()
                if turn:
                    seconds[name].append(time.perf_counter() - start)
    finally:
        gc.enable()
    return seconds


def ratio(seconds: Mapping[str, list[float]], of: str, over: str) -> float:
    """Median over the rounds of one contender's time over another's."""
    pairs = zip(seconds[of], seconds[over], strict=True)
    return statistics.median(first / second for first, second in pairs)


def extra_import_seconds(module: str, after: str, count: int) -> float:
    """What importing ``module`` costs once ``after`` is imported: median of fresh processes."""
    program = (
        f"import time, {after}; start = time.perf_counter(); import {module}; "
        "print(time.perf_counter() - start)"
    )
    runs = [
        float(
            subprocess.run([sys.executable, "-c", program], capture_output=True, check=True).stdout
        )
        for _ in range(count + 1)
    ]
    return statistics.median(runs[1:])  # the first may compile bytecode


def race_options(description: str) -> argparse.Namespace:
    """``--pairs``, ``--threads`` and ``--only`` of a benchmark with a row for each race."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--pairs", type=int, default=5, help="rounds, after one that is not timed")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--only", default="", metavar="TEXT", help="rows whose name contains TEXT")
    return parser.parse_args()
