"""`fanin meanfield` as a person types it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

import fanin
from fanin.cli import app


def run(*words: str) -> Result:
    return CliRunner().invoke(app, ["meanfield", *words])


def test_it_shows_the_edge_of_chaos() -> None:
    result = run("tanh", "--sigma-b", "0.3")
    assert result.exit_code == 0
    assert "critical" in result.stdout.splitlines()[0]
    assert f"σ_w {fanin.critical('tanh', sigma_b=0.3).sigma_w:.6g}" in result.stdout


def test_it_shows_a_point_and_its_numbers_as_json() -> None:
    words = ("tanh", "--sigma-w", "1.5", "--sigma-b", "0.3")
    assert "chaotic" in run(*words).stdout
    content = json.loads(run(*words, "--json").stdout)
    field = fanin.mean_field("tanh", sigma_w=1.5, sigma_b=0.3)
    assert (content["q"], content["phase"], content["xi_c"]) == (field.q, "chaotic", field.xi_c)
    assert content["critical"]["sigma_b"] == 0.3


def test_infinity_is_text_in_json() -> None:
    content = json.loads(run("relu", "--json").stdout)
    assert (content["xi_c"], content["critical"]["q"]) == ("inf", "nan")


def test_it_says_where_there_is_no_edge_and_where_lengths_leave_it() -> None:
    assert (
        "No σ_w is critical here: a function with"
        in run("relu", "--sigma-w", "1", "--sigma-b", "0.1").stdout
    )
    assert "Lengths leave it: those that start from 1 end at inf." in run("gelu").stdout


def test_it_draws(tmp_path: Path) -> None:
    picture = tmp_path / "tanh.png"
    result = run("tanh", "--plot", str(picture))
    assert result.exit_code == 0
    assert str(picture) in result.stdout
    assert picture.read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["tahn"], "Did you mean tanh"),
        (["relu", "--sigma-b", "0.1"], "without biases alone"),
        (["tanh", "--sigma-w", "-1"], "above 0"),
        (["hardtanh", "--param", "x"], "a number, or two"),
        (["tanh", "--plot", "tanh.pdf"], "a .png file"),
        (["tanh", "--plot", "missing/tanh.png"], "a directory that exists"),
    ],
)
def test_bad_input_is_one_message(
    words: list[str], message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    result = run(*words)
    assert result.exit_code in (1, 2)
    assert message in result.stderr
    assert [line[:6] for line in result.stderr.splitlines()].count("Error:") == 1
    assert list(tmp_path.iterdir()) == []
