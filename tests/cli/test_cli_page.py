"""Every command in docs/cli.md prints what the page shows."""

from __future__ import annotations

import doctest
import re
import shlex
from pathlib import Path

import pytest
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
