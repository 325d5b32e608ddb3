"""What the tests of `fanin audit` need: a file of models, and commands in its directory."""

from __future__ import annotations

import shlex

from typer.testing import CliRunner, Result

from fanin.auditing import Audit
from fanin.cli import app

MODELS_HERE = """
    import torch
    from torch import nn


    def small():
        return nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 4))


    def constant():
        model = small()
        nn.init.constant_(model[0].weight, 0.5)
        return model


    class Unused(nn.Module):
        def __init__(self):
            super().__init__()
            self.used, self.other = nn.Linear(8, 4), nn.Linear(8, 4)

        def forward(self, x):
            return self.used(x)


    def dropping():
        return nn.Sequential(nn.Linear(8, 8), nn.Dropout(), nn.Linear(8, 8))


    def tied():
        model = nn.Sequential(nn.Linear(8, 8), nn.ReLU(), nn.Linear(8, 8))
        model[2].weight = model[0].weight
        return model


    def meta():
        return nn.Linear(4, 4, device="meta")


    def lazy():
        return nn.Sequential(nn.LazyLinear(8), nn.ReLU(), nn.Linear(8, 2))
"""


def run(command: str) -> Result:
    return CliRunner().invoke(app, ["audit", *shlex.split(command)])


def audited(command: str, *, status: int = 0) -> Audit:
    result = run(f"{command} --format json")
    assert result.exit_code == status, result.output
    return Audit.from_json(result.stdout)
