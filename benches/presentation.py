"""Times as ratios: a table for people, JSON for everything else."""

from __future__ import annotations

import json
import os
import platform
import shlex
import statistics
import sys
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

import numpy as np
import torch

from cases import Case
from fanin.report import Column, Table
from peers import jax_version
from rounds import ratio

__all__ = ["Result", "as_json", "as_text", "machine"]

IMPORT_LIMIT = 0.080  # seconds that `import fanin` may take once torch is imported
PEERS = ("NumPy", "JAX")


@dataclass(frozen=True)
class Result:
    """Seconds a call of each contender, in each round: torch, fill_, the builds, the peers."""

    case: Case
    seconds: dict[str, list[float]]

    def median(self, contender: str) -> float:
        """Seconds a call."""
        return statistics.median(self.seconds[contender])

    def speedup(self, contender: str) -> float:
        """How many times faster than torch."""
        return ratio(self.seconds, "torch", contender)


def as_text(results: list[Result], builds: list[str], imports: float, pairs: int) -> str:
    """The machine, the table, and what its columns mean."""
    verdict = "within" if imports <= IMPORT_LIMIT else "above"
    header = "\n".join(f"{name}: {value}" for name, value in machine().items())
    notes = (
        f"torch, fanin: time of a call. Columns of builds and peers: torch's time over theirs, "
        f"median of {pairs} pairs;\n"
        f"after the slash the ratio to reach, ✓ where it is. ÷ fill_: time of {builds[0]} over "
        "that of filling the tensor\nwith a constant. NumPy's generator has one thread and no "
        "truncated normal; JAX makes a new array in every call.\n"
        f"import fanin, torch being imported: {imports * 1e3:.0f} ms, {verdict} "
        f"{IMPORT_LIMIT * 1e3:.0f} ms."
    )
    return "\n\n".join([header, str(_table(results, builds)), notes])


def as_json(results: list[Result], builds: list[str], imports: float, pairs: int) -> str:
    """Every time of every round."""
    rows = [
        {
            "case": result.case.name,
            "seconds": result.seconds,
            "speedup": {build: result.speedup(build) for build in builds},
            "reach": dict(result.case.reach),
        }
        for result in results
    ]
    content = {"machine": machine(), "pairs": pairs, "import_seconds": imports, "cases": rows}
    return json.dumps(content, indent=2, ensure_ascii=False)


def machine() -> dict[str, str]:
    """What ran, on what, and the command that did it."""
    libraries = {
        "Python": platform.python_version(),
        "fanin": version("fanin"),
        "torch": f"{torch.__version__} ({torch.backends.cpu.get_cpu_capability()})",
        "NumPy": np.__version__,
        "JAX": jax_version() or "not installed",
    }
    return {
        "machine": f"{_processor()}, {os.cpu_count()} processors, {platform.system()}",
        "versions": ", ".join(f"{name} {number}" for name, number in libraries.items()),
        "threads": str(torch.get_num_threads()),
        "command": shlex.join(["python", *sys.argv]),
    }


def _table(results: list[Result], builds: list[str]) -> Table:
    peers = [peer for peer in PEERS if any(peer in result.seconds for result in results)]
    headings = ["torch", "fanin", *builds, "÷ fill_", *peers]
    columns = (Column("call"), *(Column(heading, "right") for heading in headings))
    return Table(columns, tuple(_row(result, builds, peers) for result in results))


def _row(result: Result, builds: list[str], peers: list[str]) -> tuple[str, ...]:
    best = builds[0]
    return (
        result.case.name,
        _time(result.median("torch")),
        _time(result.median(best)),
        *(_against_reach(result, build) for build in builds),
        f"{ratio(result.seconds, best, 'fill_'):.1f}",
        *(f"{result.speedup(p):.2f}×" if p in result.seconds else "" for p in peers),
    )


def _against_reach(result: Result, build: str) -> str:
    speedup, reach = result.speedup(build), result.case.reach.get(build)
    figure = f"{speedup:.1f}×" if speedup >= 2 else f"{speedup:.2f}×"
    return f"{figure} / {reach:.2g} {'✓' if speedup >= reach else '✗'}" if reach else figure


def _time(seconds: float) -> str:
    return f"{seconds * 1e3:.1f} ms" if seconds >= 1e-3 else f"{seconds * 1e6:.2f} µs"


def _processor() -> str:
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text().splitlines() if cpuinfo.exists() else []
    models = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return models[0] if models else platform.processor() or platform.machine()
