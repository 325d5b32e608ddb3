"""A checkpoint against a plain sequential write of as many bytes to the same disk, by turns.

    python benches/checkpoint.py [--gigabytes 1] [--pairs 5] [--folder DIR]

Both end when the bytes are on the disk (`fsync`). The plain write repeats one buffer of random
bytes. The share is the plain write's time over the checkpoint's, the median over pairs; memory is
how far the process grew beyond what it had with the model's plan. Values are checked by
`fanin verify` after the clock has stopped. Twice the gigabytes are on the disk for a moment.
"""

from __future__ import annotations

import argparse
import os
import shutil
import statistics
import tempfile
from collections.abc import Callable
from pathlib import Path

import torch
from torch import nn

import fanin
from fanin.checkpoint import verify_checkpoint, write_checkpoint
from fanin.report import Column, Table, bytes_text
from presentation import machine
from rounds import ratio, timed_rounds

_REACH = 0.6
_BLOCK = 16 << 20  # bytes of one plain write
_WIDTH, _HIDDEN = 4096, 11008  # of a 7B llama


def llama_like(gigabytes: float) -> nn.Module:
    """Matrices with the shapes of a 7B llama's, of about this size in bfloat16."""
    layer_bytes = 2 * (4 * _WIDTH * _WIDTH + 3 * _WIDTH * _HIDDEN)
    layers = max(round(gigabytes * 1e9 / layer_bytes), 1)
    with fanin.deferred():
        return nn.ModuleList(layer() for _ in range(layers))


def layer() -> nn.Module:
    projections = [linear(_WIDTH, _WIDTH) for _ in range(4)]
    hidden = [linear(_WIDTH, _HIDDEN), linear(_WIDTH, _HIDDEN), linear(_HIDDEN, _WIDTH)]
    return nn.ModuleList([*projections, *hidden, nn.RMSNorm(_WIDTH, dtype=torch.bfloat16)])


def linear(fan_in: int, fan_out: int) -> nn.Linear:
    return nn.Linear(fan_in, fan_out, bias=False, dtype=torch.bfloat16)


def contenders(plan: fanin.Plan, folder: Path, nbytes: int) -> dict[str, Callable[[], object]]:
    block = torch.randint(256, (_BLOCK,), dtype=torch.uint8).numpy().data

    def checkpoint() -> None:
        shutil.rmtree(folder / "checkpoint", ignore_errors=True)
        write_checkpoint(plan, folder / "checkpoint", max_shard_size="5GB")

    def plain() -> None:
        with (folder / "plain").open("wb") as file:
            for start in range(0, nbytes, _BLOCK):
                file.write(block[: min(_BLOCK, nbytes - start)])
            file.flush()
            os.fsync(file.fileno())
        (folder / "plain").unlink()

    return {"checkpoint": checkpoint, "plain": plain}


def resident(field: str) -> int:
    """Bytes: ``VmRSS`` now, ``VmHWM`` at the peak."""
    with Path("/proc/self/status").open() as status:
        return next(int(line.split()[1]) for line in status if line.startswith(field)) * 1024


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--gigabytes", type=float, default=1.0)
    parser.add_argument("--pairs", type=int, default=5)
    parser.add_argument(
        "--folder", type=Path, help="on the disk to measure; else the temporary one"
    )
    options = parser.parse_args()
    plan = fanin.plan(
        llama_like(options.gigabytes), {"**": fanin.initializers.normal(std=0.02)}, seed=0
    )
    nbytes = sum(step.numel * step.dtype.itemsize for step in plan.steps)
    with tempfile.TemporaryDirectory(dir=options.folder) as folder:
        before = resident("VmRSS")
        write_checkpoint(plan, Path(folder, "checkpoint"))
        growth, peak = resident("VmHWM") - before, resident("VmHWM")
        seconds = timed_rounds(contenders(plan, Path(folder), nbytes), options.pairs)
        verification = verify_checkpoint(Path(folder, "checkpoint"), sample=0.05)
    assert verification.is_equal, verification.difference
    print("\n".join(f"{name}: {value}" for name, value in machine().items()), "\n")
    print(_table(seconds, nbytes))
    share = ratio(seconds, "plain", "checkpoint")
    verdict = "✓" if share >= _REACH else "✗"
    print(
        f"\nshare of the plain rate: {share:.2f} / {_REACH} {verdict}, median of {options.pairs} "
        f"pairs\npeak {bytes_text(peak)}, {bytes_text(growth)} of it for writing"
    )


def _table(seconds: dict[str, list[float]], nbytes: int) -> Table:
    columns = (Column(bytes_text(nbytes)), Column("time", "right"), Column("rate", "right"))
    medians = {name: statistics.median(times) for name, times in seconds.items()}
    return Table(
        columns,
        tuple(
            (name, f"{each:.2f} s", f"{bytes_text(int(nbytes / each))}/s")
            for name, each in medians.items()
        ),
    )


if __name__ == "__main__":
    main()
