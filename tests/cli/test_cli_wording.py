"""What a command advises about rules can be typed."""

from __future__ import annotations

import re
import shlex
import textwrap
from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from fanin.cli import app

MODELS = """
    import torch
    from torch import nn


    def attention():
        return nn.MultiheadAttention(4, 2)


    def integers():
        model = nn.Linear(3, 3)
        model.table = nn.Parameter(torch.ones(3, dtype=torch.int32), requires_grad=False)
        return model


    def untied():
        return nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 3))
"""

ONE_PART = """
    name = "mine"

    [[rules]]
    name = "in_proj_weight"
    part = "q"
    init = "zeros()"

    [[rules]]
    name = "out_proj.*"
    init = "zeros()"

    [[rules]]
    name = "*_bias"
    init = "zeros()"
"""

WEIGHTS = """
    name = "mine"

    [[rules]]
    name = "*.weight"
    init = "ones()"
"""

TIED = """
    base = "kaiming"

    [ties]
    "1.weight" = "0.weight"
"""


@pytest.fixture(autouse=True)
def here(directory_with: Callable[[str, str], Path]) -> None:
    """A directory with models and recipes."""
    folder = directory_with("worded", MODELS)
    for name, text in {"part": ONE_PART, "weights": WEIGHTS, "tied": TIED}.items():
        (folder / f"{name}.toml").write_text(textwrap.dedent(text))


def run(command: str) -> Result:
    return CliRunner().invoke(app, shlex.split(command))


ADVICE = {
    "plan zoo:mlp -r kaiming --set 'foo=zeros()'": "Correct it in --set, or leave that out;",
    "plan zoo:mlp -r gpt2": "Say what it fits by --recipe 'gpt2(residual=...)', or",
    "plan worded:untied -r weights.toml": "--set '0.bias=INIT', or leave it as built: --set",
    "plan worded:attention -r part.toml": "in the recipe.toml, or one with part = 'k'.",
    "plan zoo:mlp -r kaiming --set '0.bias=kaiming_normal()'": "Say --set '0.bias=zeros()', or on",
    "plan worded:integers -r kaiming --set 'table=normal()'": "built: --set 'table=keep()'.",
    "plan worded:untied -r tied.toml": "drop the pair from ties in the recipe.toml",
    "audit zoo:mlp --set '0.weihgt=zeros()'": "Near: 0.weight, 4.weight, 2.weight. Correct it in",
}


@pytest.mark.parametrize(("command", "advice"), ADVICE.items(), ids=range(len(ADVICE)))
def test_it_can_be_typed(command: str, advice: str) -> None:
    result = run(command)
    assert result.exit_code in (1, 2)
    assert advice in result.stderr
    assert not re.search(r"rule\(|Layout\(|recipe \+|ties=|with keep\(\)", result.stderr)


def test_advice_that_is_followed_helps() -> None:
    command = "plan zoo:mlp -r kaiming --set '0.bias=kaiming_normal()'"
    (said,) = re.findall(r"Say (--set '[^']+')", run(command).stderr)
    assert run(f"{command} {said}").exit_code == 0
