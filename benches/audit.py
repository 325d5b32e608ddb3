"""What an audit costs, and how often it is wrong about models that nothing is wrong with.

    python benches/audit.py [--seeds 1000] [--pairs 5] [--threads 1] [--only lenet] [--skip cost]

Every healthy model is started with each seed, by its own constructors or by a recipe, and audited
without a plan and, where there is one, with it; recipes and dtypes take turns. A finding of a
statistical check is a false alarm, and so is an error; the exit status is then 1. Each start is
judged twice: with the budget that audits have, a millionth, by which no run of this length should
see a false alarm, and with one of a hundredth, by which one audit in a hundred may have one: were a
standard error too small, the share would be larger.

Then the time of an audit and its memory beyond the model, in fresh processes.
"""

from __future__ import annotations

import argparse
import math
import statistics
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from unittest.mock import patch

import torch
from torch import nn

import fanin
from audit_models import SUBJECTS, Subject
from fanin.auditing import CHECKS, Audit
from fanin.auditing.audit import examine
from fanin.auditing.evidence import Evidence, gather
from fanin.model.construction import deferred, materialize
from fanin.report import Column, Table
from presentation import machine

_STATISTICAL = tuple(check for check in CHECKS if check.is_statistical)
_BY_CHANCE = frozenset(check.code for check in _STATISTICAL)
_LOOSE = 0.01  # chance of a false alarm in an audit, at which alarms are frequent enough to count
_DEVIATIONS = 5  # standard errors of a share that is no accident
_GIBIBYTE = 2**30

# Run on its own: seconds of each audit, and how far the process grew. The peak is that of /proc:
# ru_maxrss starts with the parent's.
_COST = """
import sys, time
sys.path[:0] = {path!r}
import torch
import audit as bench
import fanin
torch.set_num_threads({threads})
model = bench.COSTS[{name!r}].build()
fanin.audit(torch.nn.Linear(4, 4))  # what the first call of all loads
def peak():
    lines = open("/proc/self/status").read().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM"))
open("/proc/self/clear_refs", "w").write("5")
before = peak()
for _ in range({pairs}):
    start = time.perf_counter()
    found = fanin.audit(model)
    print(time.perf_counter() - start)
print(peak() - before)
print(sum(p.numel() for p in model.parameters()))
print(found.summary)
"""


def main() -> None:
    options = _options()
    torch.set_num_threads(options.threads)
    print("\n".join(f"{name}: {value}" for name, value in machine().items()), flush=True)
    is_wrong = False
    if options.skip != "alarms":
        is_wrong = _alarms(options)
    if options.skip != "cost":
        _costs(options)
    sys.exit(int(is_wrong))


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="false alarms and cost of fanin.audit")
    parser.add_argument("--seeds", type=int, default=1000, help="starts of each healthy model")
    parser.add_argument("--first", type=int, default=0, metavar="SEED")
    parser.add_argument("--pairs", type=int, default=5, help="audits that are timed")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--only", default="", metavar="TEXT", help="models whose name has TEXT")
    parser.add_argument("--skip", choices=("alarms", "cost"))
    return parser.parse_args()


@dataclass
class Tally:
    """Of the audits of one healthy model.

    Args:
        audits: how many there were.
        found: how often a code was found with a severity, and not as a note that is meant.
        alarms: the audits that are wrong, as text.
        loose: audits with a statistical finding where a hundredth may have one.
        starts: of the model; a start with a plan is audited twice.
        seconds: all of them took.
    """

    audits: int = 0
    found: Counter[tuple[str, str]] = field(default_factory=Counter)
    alarms: list[str] = field(default_factory=list)
    loose: int = 0
    starts: int = 0
    seconds: float = 0.0

    def add(self, subject: Subject, seed: int, strict: Audit, loose: Audit) -> None:
        """Count one audit, made with both budgets."""
        self.audits += 1
        for finding in strict.findings:
            if finding.severity == "note" and finding.code in subject.meant:
                continue
            self.found[finding.code, finding.severity] += 1
            if finding.severity == "error" or finding.code in _BY_CHANCE:
                self.alarms.append(f"{subject.name}, seed {seed}: {finding}")
        self.loose += any(code in _BY_CHANCE - subject.meant for code in loose.codes)


def _alarms(options: argparse.Namespace) -> bool:
    """Audit every healthy model with every seed; whether an audit was wrong."""
    chosen = [subject for subject in SUBJECTS if options.only in subject.name]
    tallies = {subject.name: Tally() for subject in chosen}
    seeds = range(options.first, options.first + options.seeds)
    for seed in seeds:
        for subject in chosen:
            tally = tallies[subject.name]
            start = time.perf_counter()
            for evidence in _evidence(subject, seed):
                strict = examine(evidence, CHECKS, title=subject.name)
                with _budget(_LOOSE):
                    loose = examine(evidence, _STATISTICAL, title=subject.name)
                tally.add(subject, seed, strict, loose)
            tally.starts += 1
            tally.seconds += time.perf_counter() - start
        if sys.stderr.isatty() or seed % 50 == 49:
            print(f"seed {seed}", end="\r" if sys.stderr.isatty() else "\n", file=sys.stderr)
    _report(tallies, seeds)
    return any(tally.alarms for tally in tallies.values())


def _evidence(subject: Subject, seed: int) -> Iterator[Evidence]:
    torch.manual_seed(seed)
    model, plan = subject.start(seed)
    evidence = gather(model)
    yield evidence
    if plan is not None:
        yield replace(evidence, plan=plan)


@contextmanager
def _budget(false_alarms: float) -> Iterator[None]:
    with patch("fanin.auditing.budget.FALSE_ALARMS", false_alarms):
        yield


def _report(tallies: dict[str, Tally], seeds: range) -> None:
    rows = [
        (
            name,
            f"{tally.audits:,}",
            ", ".join(f"{code} {severity} ×{count}" for (code, severity), count in _sorted(tally)),
            f"{len(tally.alarms)}{' ✗' if tally.alarms else ''}",
            f"{tally.loose / tally.audits:.2%}{_verdict(tally)}",
            f"{tally.seconds / tally.starts * 1e3:.0f} ms",
        )
        for name, tally in tallies.items()
    ]
    audits, loose = (
        sum(getattr(tally, key) for tally in tallies.values()) for key in ("audits", "loose")
    )
    alarms = [alarm for tally in tallies.values() for alarm in tally.alarms]
    total = f"{loose / max(audits, 1):.3%}"
    rows.append(("all", f"{audits:,}", "", str(len(alarms)), total, ""))
    headings = ("audits", "findings", "false alarms", f"at {_LOOSE:.0%}", "a start")
    columns = (
        Column("model"),
        *(Column(h, "left" if h == "findings" else "right") for h in headings),
    )
    print(f"\nseeds {seeds.start} to {seeds.stop - 1}\n\n{Table(columns, tuple(rows))}\n")
    print(
        f"false alarms: errors, and findings of checks that chance could fool. at {_LOOSE:.0%}: "
        f"share of audits with a finding\nof these checks when {_LOOSE:.0%} of audits may have "
        f"one; ✗ where it is more by {_DEVIATIONS} standard errors. a start: to initialise,\nand "
        "to audit with both budgets, without a plan and with it."
    )
    print("\n".join(["", *alarms[:20]]) if alarms else "", flush=True)


def _sorted(tally: Tally) -> Sequence[tuple[tuple[str, str], int]]:
    return sorted(tally.found.items())


def _verdict(tally: Tally) -> str:
    error = math.sqrt(_LOOSE * (1 - _LOOSE) / tally.starts)
    return " ✗" if tally.loose / tally.audits > _LOOSE + _DEVIATIONS * error else ""


@dataclass(frozen=True)
class Cost:
    """A model to audit, and the seconds that it may take."""

    build: Callable[[], nn.Module]
    limit: float | None = None


def gpt2() -> nn.Module:
    """GPT-2 small, as its constructor makes it."""
    from transformers import GPT2Config, GPT2LMHeadModel

    model: nn.Module = GPT2LMHeadModel(GPT2Config())
    return model


def llama_1b() -> nn.Module:
    """The shape of Llama 3.2 1B in bfloat16: 2.5 GB."""
    from transformers import LlamaConfig, LlamaForCausalLM

    config = LlamaConfig(
        hidden_size=2048,
        num_hidden_layers=16,
        num_attention_heads=32,
        num_key_value_heads=8,
        intermediate_size=8192,
        vocab_size=128256,
        tie_word_embeddings=True,
        dtype="bfloat16",
    )
    with deferred():
        model: nn.Module = LlamaForCausalLM(config)
    model.to(torch.bfloat16)
    materialize(model)
    fanin.initialize(model, "llama", seed=0)
    return model


COSTS = {
    "GPT-2 124M, float32": Cost(gpt2, limit=3.0),
    "Llama 1B, bfloat16": Cost(llama_1b),
}


def _costs(options: argparse.Namespace) -> None:
    rows = []
    for name, cost in COSTS.items():
        program = _COST.format(
            path=sys.path[:1], threads=options.threads, name=name, pairs=options.pairs + 1
        )
        command = [sys.executable, "-c", program]
        done = subprocess.run(command, capture_output=True, check=True, text=True)
        *lines, growth, count, summary = done.stdout.splitlines()
        first, *seconds = map(float, lines)
        median = statistics.median(seconds)
        verdict = ""
        if cost.limit is not None:
            verdict = f" / {cost.limit:.3g} s {'✓' if max(first, median) < cost.limit else '✗'}"
        rows.append(
            (
                name,
                f"{int(count) / 1e6:,.0f}M",
                f"{first:.2f} s",
                f"{median:.2f} s{verdict}",
                f"{int(growth) / _GIBIBYTE * 1024:.0f} MiB",
                summary.partition(": ")[2],
            )
        )
    headings = ("parameters", "first", "median", "memory beyond the model")
    columns = (Column("model"), *(Column(each, "right") for each in headings), Column("found"))
    print(f"\n{Table(columns, tuple(rows))}\n")
    print(f"Without inputs. Median of {options.pairs} audits after the first.")


if __name__ == "__main__":
    main()
