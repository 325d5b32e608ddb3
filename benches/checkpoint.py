"""A checkpoint against a plain sequential write of as many bytes to the same disk, by turns.

    python benches/checkpoint.py [--gigabytes 1] [--pairs 5] [--folder DIR]

13.5 gigabytes are a 7B llama in bfloat16. All end when the bytes are on the disk (`fsync`), and
files are deleted while the clock stands. The plain write repeats one buffer of random bytes; the
one in stretches does so through the checkpoint's own writer, which shows what drawing costs. The
share is the plain write's time over the checkpoint's, the median over pairs; memory is how far the
process grew beyond what it had with the model's plan. Of the first checkpoint, which is not timed,
`fanin verify` checks a sample.
"""

from __future__ import annotations

import argparse
import gc
import os
import shutil
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import IO

import torch
from torch import Tensor, nn

import fanin
from fanin.checkpoint import verify_checkpoint, write_checkpoint
from fanin.checkpoint.background import background_writer
from fanin.report import Column, Table, bytes_text
from presentation import machine
from rounds import ratio

_REACH = 0.6
_BLOCK = 16 << 20  # bytes of one plain write
_VOCABULARY, _WIDTH, _HIDDEN = 32000, 4096, 11008  # of a 7B llama


def llama_like(gigabytes: float) -> nn.Module:
    """The shapes of a 7B llama in bfloat16, with as many layers as make about this size."""
    ends_bytes = 2 * 2 * _VOCABULARY * _WIDTH
    layer_bytes = 2 * (4 * _WIDTH * _WIDTH + 3 * _WIDTH * _HIDDEN)
    count = max(round((gigabytes * 1e9 - ends_bytes) / layer_bytes), 1)
    with fanin.deferred():
        embedding = nn.Embedding(_VOCABULARY, _WIDTH, dtype=torch.bfloat16)
        layers = nn.ModuleList(layer() for _ in range(count))
        return nn.ModuleList([embedding, layers, norm(), linear(_WIDTH, _VOCABULARY)])


def layer() -> nn.Module:
    projections = [linear(_WIDTH, _WIDTH) for _ in range(4)]
    hidden = [linear(_WIDTH, _HIDDEN), linear(_WIDTH, _HIDDEN), linear(_HIDDEN, _WIDTH)]
    return nn.ModuleList([*projections, *hidden, norm(), norm()])


def linear(fan_in: int, fan_out: int) -> nn.Linear:
    return nn.Linear(fan_in, fan_out, bias=False, dtype=torch.bfloat16)


def norm() -> nn.RMSNorm:
    return nn.RMSNorm(_WIDTH, dtype=torch.bfloat16)


def contenders(plan: fanin.Plan, folder: Path, nbytes: int) -> dict[str, Callable[[], object]]:
    """What is timed; each writes into an empty folder."""
    block = torch.randint(256, (_BLOCK,), dtype=torch.uint8)

    def checkpoint() -> None:
        write_checkpoint(plan, folder, max_shard_size="5GB")

    def plain() -> None:
        with synced_file(folder / "plain") as file:
            for part in blocks():
                file.write(part.numpy().data)

    def in_stretches() -> None:
        with synced_file(folder / "plain") as file, background_writer(file) as writer:
            for part in blocks():
                writer.write(part)

    def blocks() -> Iterator[Tensor]:
        for start in range(0, nbytes, _BLOCK):
            yield block[: nbytes - start]

    return {"checkpoint": checkpoint, "plain": plain, "plain, in stretches": in_stretches}


@contextmanager
def synced_file(path: Path) -> Iterator[IO[bytes]]:
    """A file whose bytes are on the disk when the block ends."""
    with path.open("wb") as file:
        yield file
        file.flush()
        os.fsync(file.fileno())


def timed_pairs(
    contenders: Mapping[str, Callable[[], object]], folder: Path, count: int
) -> dict[str, list[float]]:
    """Seconds of each contender in each of ``count`` rounds, every time into an empty folder."""
    seconds: dict[str, list[float]] = {name: [] for name in contenders}
    for _ in range(count):
        for name, run in contenders.items():
            clear(folder)
            gc.collect()
            start = time.perf_counter()
            run()
            seconds[name].append(time.perf_counter() - start)
    clear(folder)
    return seconds


def clear(folder: Path) -> None:
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()


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
    load = os.getloadavg()[0]
    plan = fanin.plan(
        llama_like(options.gigabytes), {"**": fanin.initializers.normal(std=0.02)}, seed=0
    )
    nbytes = sum(step.numel * step.dtype.itemsize for step in plan.steps)
    with tempfile.TemporaryDirectory(dir=options.folder) as temporary:
        folder = Path(temporary, "written")
        runs = contenders(plan, folder, nbytes)
        clear(folder)
        before = resident("VmRSS")
        runs["checkpoint"]()
        growth, peak = resident("VmHWM") - before, resident("VmHWM")
        verification = verify_checkpoint(folder, sample=0.05)
        assert verification.is_equal, verification.difference
        seconds = timed_pairs(runs, folder, options.pairs)
    print("\n".join(f"{name}: {value}" for name, value in machine().items()))
    print(f"load of others before: {load:.1f}\n\n{_table(seconds, nbytes)}\n")
    share = ratio(seconds, "plain", "checkpoint")
    verdict = "✓" if share >= _REACH else "✗"
    print(
        f"share of the plain rate: {share:.2f} / {_REACH} {verdict}, of the one in stretches "
        f"{ratio(seconds, 'plain, in stretches', 'checkpoint'):.2f}; medians of {options.pairs} "
        f"pairs\npeak {bytes_text(peak)}, {bytes_text(growth)} of it for writing"
    )


def _table(seconds: dict[str, list[float]], nbytes: int) -> Table:
    headings = ("median", "rate", "each")
    columns = (Column(bytes_text(nbytes)), *(Column(heading, "right") for heading in headings))
    return Table(columns, tuple(_row(name, times, nbytes) for name, times in seconds.items()))


def _row(name: str, times: list[float], nbytes: int) -> tuple[str, ...]:
    median = statistics.median(times)
    each = ", ".join(f"{one:.2f}" for one in times)
    return (name, f"{median:.2f} s", f"{bytes_text(int(nbytes / median))}/s", each)


if __name__ == "__main__":
    main()
