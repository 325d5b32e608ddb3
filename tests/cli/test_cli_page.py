"""Every command in docs/cli.md prints what the page shows, and every option is named there."""

from __future__ import annotations

import doctest
import re
import shlex
from pathlib import Path
from typing import Any

import pytest
from typer.main import get_command
from typer.testing import CliRunner

from fanin.cli import app

PAGE = Path(__file__).parents[2] / "docs" / "cli.md"
SESSION = re.compile(r"^```console\n\$ fanin (.*?)\n(.*?)^```$", re.DOTALL | re.MULTILINE)


def test_the_page_shows_what_is_printed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    sessions = SESSION.findall(PAGE.read_text(encoding="utf-8"))
    assert len(sessions) > 4
    for command, shown in sessions:
        printed = CliRunner().invoke(app, shlex.split(command)).output
        same = doctest.OutputChecker().check_output(shown, printed, doctest.ELLIPSIS)
        assert same, f"{command}\n{printed}"


def test_the_page_names_every_option() -> None:
    """Of a pair such as ``--train/--eval`` one will do."""
    named = set(re.findall(r"(?<![\w-])--[a-z][a-z-]*", PAGE.read_text(encoding="utf-8")))
    commands: Any = get_command(app)
    missing = [
        f"{name} {parameter.opts[0]}"
        for name, command in commands.commands.items()
        for parameter in command.params
        if parameter.param_type_name == "option"
        and named.isdisjoint((*parameter.opts, *parameter.secondary_opts))
    ]
    assert not missing
