"""`fanin explain` as a person types it."""

from __future__ import annotations

from typer.testing import CliRunner, Result

from fanin.auditing import CHECKS
from fanin.cli import app


def explain(*arguments: str) -> Result:
    return CliRunner().invoke(app, ["explain", *arguments])


def test_explain_shows_the_page() -> None:
    result = explain("FAN401")
    assert result.exit_code == 0
    assert result.output.startswith("# FAN401 explodes\n\n**error**: ")
    assert explain("explodes").output == result.output


def test_explain_lists_what_there_is() -> None:
    lines = explain().output.splitlines()
    assert [line.split()[0] for line in lines[2:]] == [check.code for check in CHECKS]
    assert explain().output == CliRunner().invoke(app, ["list", "checks"]).output
    lines = explain("FAN4").output.splitlines()
    assert [line[:4] for line in lines[2:]] == ["FAN4"] * 9
    unknown = explain("FAN999")
    assert unknown.exit_code == 2
    assert unknown.stderr.startswith("Error: explain: a code or a name of a check. Got 'FAN999'")
    assert len(unknown.stderr) < 200
    assert "Did you mean constant-weight" in " ".join(explain("constant").stderr.split())
