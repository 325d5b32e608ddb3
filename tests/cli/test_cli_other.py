"""`fanin gain`, `fanin list`, `fanin bench` and the frame around the commands."""

from __future__ import annotations

import json

import pytest
from typer.testing import CliRunner, Result

import fanin
from fanin.cli import app


def run(command: str) -> Result:
    return CliRunner().invoke(app, command.split())


def test_gain_shows_what_the_library_computes() -> None:
    result = run("gain gelu")
    assert result.exit_code == 0
    assert f"{fanin.gain('gelu'):.6f}" in result.stdout
    assert f"{fanin.gain('gelu', of='backward'):.6f}" in result.stdout


def test_gain_takes_a_parameter_and_one_meaning() -> None:
    result = json.loads(run("gain leaky_relu --param 0.2 --of second_moment --json").stdout)
    assert result["gain"] == {"second_moment": fanin.gain("leaky_relu", 0.2)}
    pair = json.loads(run("gain hardtanh --param=-2,2 --json").stdout)
    assert pair["gain"]["second_moment"] == fanin.gain("hardtanh", (-2.0, 2.0))


def test_gain_by_other_methods() -> None:
    assert "1.666667" in run("gain tanh --method table").stdout
    assert "±" in run("gain tanh --method empirical").stdout
    result = json.loads(run("gain tanh --method empirical --json").stdout)
    assert result["standard_error"]["second_moment"] > 0


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ("gelo", "Did you mean"),
        ("softmax", "softmax"),
        ("gelu --of first", "first"),
        ("gelu --method guess", "guess"),
        ("leaky_relu --param x", "a number, or two"),
        ("leaky_relu --param 1,2,3", "a number, or two"),
        ("relu --param 3", "relu"),
        ("gelu --method table", "calculate_gain"),
        ("", "nonlinearity"),
    ],
)
def test_a_gain_that_is_not_is_a_usage_error(options: str, message: str) -> None:
    result = run(f"gain {options}")
    assert (result.exit_code, result.stdout) == (2, "")
    assert message in result.stderr
    assert [line[:6] for line in result.stderr.splitlines()].count("Error:") == 1


def test_list_names_all_there_is() -> None:
    text = run("list").stdout
    for name in ("kaiming@1", "torch_default@1", "xavier@1", "zoo:alexnet", "gelu", "zeros()"):
        assert name in text
    assert text.count("--") > 4


@pytest.mark.parametrize("what", ["recipes", "initializers", "models", "nonlinearities"])
def test_list_one_kind_as_json(what: str) -> None:
    result = json.loads(run(f"list {what} --json").stdout)
    assert list(result) == [what]
    assert result[what]


def test_list_has_no_marks_of_code() -> None:
    assert "`" not in run("list").stdout


def test_list_refuses_another_kind() -> None:
    result = run("list recipe")
    assert result.exit_code == 2
    assert "Did you mean recipes" in result.stderr


def test_bench_compares() -> None:
    result = run("bench --size 16 --pairs 1")
    assert result.exit_code == 0
    assert "trunc_normal_" in result.stdout
    content = json.loads(run("bench --size 16 --pairs 1 --json").stdout)
    assert content["size"] == 16
    assert all(row["fanin_ms"] > 0 and row["torch_ms"] > 0 for row in content["results"])


def test_bench_refuses_nothing_to_do() -> None:
    assert run("bench --size 0").exit_code == 2


def test_version_and_help() -> None:
    assert run("--version").stdout == f"fanin {fanin.__version__}\n"
    for name in ("init", "plan", "gain", "list", "bench"):
        assert run(f"{name} --help").exit_code == 0
    assert "Usage" in run("").output


def test_an_unknown_command_is_a_usage_error() -> None:
    result = run("initialise")
    assert result.exit_code == 2
    assert "initialise" in result.stderr
