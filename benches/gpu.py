"""fanin on a GPU: against `torch.nn.init` and against filling with a constant, on the same card.

    python benches/gpu.py [--mebibytes 256] [--rounds 7] [--only normal] [--save]

Device time, by events that the device itself sets, median of rounds in which all contenders take
their turn; a round before is not timed. The device is kept busy until the host has launched all of
it, so that no time in which it waits for the host is counted. ``of fill_`` is the rate of memory
written next to that of ``fill_``. Models: from meta to values on the card; the time of the clock
for all of `initialize`, and of `Plan.apply` the time that the host takes to launch it and that of
the device. Outside of the timed part fills are compared with the CPU's bits, and the columns of
matrices are found orthonormal.
"""

from __future__ import annotations

import argparse
import gc
import statistics
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

import fanin
from fanin import init, stream
from fanin.report import Column, Table
from presentation import machine

_RESULTS = Path(__file__).parent / "results"
_BATCH = 5  # calls between two events: one alone may be shorter than the host takes to launch it
_LOOKED_AT = 1 << 16  # elements compared with the CPU's
_EXACT = 4e-6  # what products of matrices may differ by


@dataclass(frozen=True)
class Fill:
    """One call, as ``torch.nn.init.function`` and as ``fanin.init.function``."""

    function: str
    dtype: torch.dtype = torch.float32
    reach_of_fill: float | None = None  # share of the rate of ``fill_``
    reach_of_torch: float | None = None  # times torch's rate
    arguments: tuple[Any, ...] = ()

    @property
    def name(self) -> str:
        return f"{self.function} {str(self.dtype).removeprefix('torch.')}"


FILLS = (
    Fill("uniform_", reach_of_fill=0.60),
    Fill("normal_", reach_of_fill=0.35),
    Fill("trunc_normal_", reach_of_torch=5.0),
    Fill("uniform_", torch.bfloat16),
    Fill("normal_", torch.bfloat16),
    Fill("trunc_normal_", torch.bfloat16),
    Fill("normal_", torch.float64),
    Fill("trunc_normal_", arguments=(0.0, 1.0, 0.0, 10.0)),  # one-sided: the tails too
)


def main() -> None:
    options = _options()
    device = torch.device(options.device)
    if device.type == "cuda" and not torch.cuda.is_available():
        sys.exit("benches/gpu.py: torch sees no CUDA device")
    tables = (
        _fills(device, options.mebibytes, options.rounds, options.only),
        _orthogonal(device, options.sides, options.rounds, options.only),
        _models(device, options.rounds, options.only),
    )
    text = "\n\n".join((_header(device), *(str(table) for table in tables if table.rows)))
    print(text)
    if options.save:
        card = _card(device).lower().replace(" ", "-")
        path = _RESULTS / f"{fanin.__version__}-gpu-{card}.txt"
        path.write_text(text + "\n")


def _fills(device: torch.device, mebibytes: int, rounds: int, only: str) -> Table:
    rows = []
    for fill in FILLS:
        if only not in fill.name:
            continue
        out = torch.empty(mebibytes * 2**20 // fill.dtype.itemsize, dtype=fill.dtype, device=device)
        ours, theirs = getattr(init, fill.function), getattr(nn.init, fill.function)
        times = _rounds(
            device,
            rounds,
            {
                "fill_": lambda out=out: out.fill_(0.5),
                "torch": lambda out=out, call=theirs, a=fill.arguments: call(out, *a),
                "fanin": lambda out=out, call=ours, a=fill.arguments: call(out, *a),
            },
        )
        _same_as_on_cpu(fill, out)
        of_fill, of_torch = times["fill_"] / times["fanin"], times["torch"] / times["fanin"]
        rows.append(
            (
                fill.name + (f" {fill.arguments}" if fill.arguments else ""),
                *(f"{times[who] * 1e3:.3f} ms" for who in ("fill_", "torch", "fanin")),
                f"{out.nbytes / times['fanin'] / 1e9:.0f} GB/s",
                _against(of_fill, fill.reach_of_fill, "{:.0%}"),
                _against(of_torch, fill.reach_of_torch, "{:.1f}×"),
            )
        )
    headings = (f"{mebibytes} MiB", "fill_", "torch", "fanin", "rate", "of fill_", "of torch")
    return _table(headings, rows)


def _orthogonal(device: torch.device, sides: list[int], rounds: int, only: str) -> Table:
    rows = []
    for side in sides:
        name = f"orthogonal_ {side}²"
        if only not in name:
            continue
        out = torch.empty(side, side, device=device)
        times = _rounds(
            device,
            rounds,
            {
                "torch": lambda out=out: nn.init.orthogonal_(out),
                "fanin": lambda out=out: init.orthogonal_(out),
            },
        )
        some = out[:, :: max(1, side // 64)].double()
        off = some.mT @ some - torch.eye(some.shape[1], dtype=some.dtype, device=device)
        if float(off.abs().max()) > 10 * _EXACT:
            sys.exit(f"{name}: columns are not orthonormal, by {float(off.abs().max()):.1e}")
        seconds = (f"{times[who] * 1e3:.1f} ms" for who in ("torch", "fanin"))
        rows.append((name, *seconds, f"{times['torch'] / times['fanin']:.1f}×"))
    return _table(("matrix", "torch", "fanin", "of torch"), rows)


def _models(device: torch.device, rounds: int, only: str) -> Table:
    rows = []
    for name, recipe, dtype, limit, build in (
        ("GPT-2 124M, float32", "gpt2", torch.float32, None, _gpt2),
        ("llama 1B, bfloat16", "llama", torch.bfloat16, None, _llama_1b),
        ("llama 7B, bfloat16", "llama", torch.bfloat16, 0.030, _llama_7b),
    ):
        if only not in name:
            continue
        clock, on_host, on_device = [], [], []
        for _ in range(rounds + 1):
            gc.collect()
            with fanin.deferred():
                model = build()
            _wait(device)
            start = time.perf_counter()
            plan = fanin.initialize(model, recipe, seed=0, dtype=dtype, device=device)
            _wait(device)
            clock.append(time.perf_counter() - start)
            started = time.perf_counter()
            plan.apply(model)
            on_host.append(time.perf_counter() - started)
            on_device.append(_seconds(device, lambda plan=plan, model=model: plan.apply(model)))
        size = sum(p.nbytes for p in model.parameters())
        middle = statistics.median(on_device[1:])
        rows.append(
            (
                name,
                f"{size / 1e9:.1f} GB",
                f"{statistics.median(clock[1:]) * 1e3:.0f} ms",
                f"{statistics.median(on_host[1:]) * 1e3:.1f} ms",
                f"{middle * 1e3:.1f} ms" + ("" if limit is None else _limit(middle, limit)),
            )
        )
        del model, plan
    headings = ("model from meta", "size", "initialize", "apply, the host", "apply, the device")
    return _table(headings, rows)


def _gpt2() -> nn.Module:
    from transformers import GPT2Config, GPT2LMHeadModel

    return GPT2LMHeadModel(GPT2Config())


def _llama_1b() -> nn.Module:
    """The sizes of Llama 3.2 1B."""
    from transformers import LlamaConfig, LlamaForCausalLM

    return LlamaForCausalLM(
        LlamaConfig(
            vocab_size=128256,
            hidden_size=2048,
            intermediate_size=8192,
            num_hidden_layers=16,
            num_attention_heads=32,
            num_key_value_heads=8,
            tie_word_embeddings=True,
        )
    )


def _llama_7b() -> nn.Module:
    """The default configuration is that of the model with 7 billion parameters."""
    from transformers import LlamaConfig, LlamaForCausalLM

    return LlamaForCausalLM(LlamaConfig())


def _rounds(
    device: torch.device, count: int, contenders: dict[str, Callable[[], object]]
) -> dict[str, float]:
    """Median seconds of a call of each."""
    times: dict[str, list[float]] = {name: [] for name in contenders}
    for turn in range(count + 1):
        for name, run in contenders.items():
            seconds = _seconds(device, run, _BATCH) / _BATCH
            if turn:
                times[name].append(seconds)
    return {name: statistics.median(seconds) for name, seconds in times.items()}


def _seconds(device: torch.device, run: Callable[[], object], calls: int = 1) -> float:
    """Of the device between the first launch and the end of the last; of the clock on a CPU."""
    if device.type != "cuda":
        start = time.perf_counter()
        for _ in range(calls):
            run()
        return time.perf_counter() - start
    before, after = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    filler = torch.empty(2**29, device=device)
    # Half a millisecond and one launch each; larger ones torch splits, and a queue holds 1024.
    for fillings in (50, 200, 800):
        for _ in range(fillings):
            filler.fill_(0)
        before.record()
        for _ in range(calls):
            run()
        after.record()
        was_ahead = not before.query()
        after.synchronize()
        if was_ahead:
            break  # else the host waits in a call, or needs more time
    return before.elapsed_time(after) / 1e3


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def _same_as_on_cpu(fill: Fill, out: Tensor) -> None:
    """The first elements of a call with a known seed, against the same call on the CPU."""
    here = torch.empty(_LOOKED_AT, dtype=fill.dtype)
    for tensor in (out, here):
        torch.manual_seed(0)
        getattr(init, fill.function)(tensor, *fill.arguments)
    if not torch.equal(out[:_LOOKED_AT].cpu(), here):
        sys.exit(f"{fill.name}: the device writes other bits than the CPU")


def _against(figure: float, reach: float | None, form: str) -> str:
    if reach is None:
        return form.format(figure)
    return f"{form.format(figure)} / {form.format(reach)} {'✓' if figure >= reach else '✗'}"


def _limit(seconds: float, limit: float) -> str:
    return f" / {limit * 1e3:.0f} ms {'✓' if seconds <= limit else '✗'}"


def _table(headings: tuple[str, ...], rows: list[tuple[str, ...]]) -> Table:
    first, *others = headings
    columns = (Column(first), *(Column(heading, "right") for heading in others))
    return Table(columns, tuple(rows))


def _header(device: torch.device) -> str:
    about = {"device": _card(device), **machine()}
    if device.type == "cuda":
        import triton

        about["versions"] += f", CUDA {torch.version.cuda}, Triton {triton.__version__}"
    engines = "; ".join(engine.name for engine in stream.engines() if engine.active)
    return "\n".join(f"{name}: {value}" for name, value in {**about, "engines": engines}.items())


def _card(device: torch.device) -> str:
    return torch.cuda.get_device_name(device) if device.type == "cuda" else str(device)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="fanin on a GPU")
    parser.add_argument("--device", default="cuda", help="cpu: to try the program itself")
    parser.add_argument("--mebibytes", type=int, default=256, help="size of each tensor")
    parser.add_argument("--sides", type=int, nargs="*", default=[4096, 8192])
    parser.add_argument("--rounds", type=int, default=7, help="after one that is not timed")
    parser.add_argument("--only", default="", metavar="TEXT", help="rows whose name contains TEXT")
    parser.add_argument("--save", action="store_true", help="write into benches/results")
    return parser.parse_args()


if __name__ == "__main__":
    main()
