"""What the tests of `fanin init` share: a file of models, and commands in its directory."""

from __future__ import annotations

import sys
from pathlib import Path

from typer.testing import CliRunner, Result

from fanin.cli import app

MODELS = """
    import torch
    from torch import nn

    def tied():
        model = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4))
        model[1].weight = model[0].weight
        return model

    class Outer:
        Inner = nn.Identity

    class WithBuffers(nn.Module):
        def __init__(self):
            super().__init__()
            self.norm = nn.BatchNorm1d(3)
            self.register_buffer("table", torch.arange(3.0), persistent=False)
            self.flag = nn.Buffer(torch.tensor([True]))

    def scaled(scale: float = 1.0):
        model = nn.Module()
        model.scale = nn.Parameter(torch.full((2,), scale))
        return model

    def uncovered():
        model = nn.Module()
        model.scale = nn.Parameter(torch.empty(2))
        return model

    def lazy():
        return nn.LazyLinear(2)

    def reading():
        model = nn.Linear(2, 2)
        model.largest = model.weight.max().item()
        return model

    def broken():
        raise RuntimeError("no such weights")

    def number():
        return 3

    def talkative():
        print("building")
        return nn.Linear(2, 2)

    def empty():
        return nn.BatchNorm1d(0)

    def with_buffer(kind):
        model = nn.Linear(2, 2)
        buffers = {
            "meta": lambda: torch.empty(3, device="meta"),
            "sparse": lambda: torch.eye(3).to_sparse(),
            "conjugated": lambda: torch.tensor([1 + 2j]).conj(),
        }
        model.register_buffer("table", buffers[kind]())
        return model

    model = nn.Linear(2, 2)
"""


def run(command: str) -> Result:
    return CliRunner().invoke(app, command.split())


def made_by(here: Path) -> set[str]:
    return {path.name for path in here.iterdir()} - {"mymodels.py", "__pycache__"}


USAGE, FAILURE = 2, 1


def command(*words: str) -> list[str]:
    return [sys.executable, "-m", "fanin", *words]
