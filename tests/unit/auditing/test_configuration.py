"""`[tool.fanin.audit]`: what is read, what is refused, what is allowed."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import pytest
from torch import nn

from fanin.auditing import Audit, Configuration, audit
from fanin.auditing.allowance import Allowance, allowed
from fanin.auditing.configuration import find_configuration, load_configuration
from fanin.errors import ArgumentError, UnknownNameError


def written(folder: Path, text: str) -> Path:
    path = folder / "pyproject.toml"
    path.write_text(text, encoding="utf-8")
    return path


def constants(count: int = 3) -> nn.Sequential:
    model = nn.Sequential(*(nn.Linear(8, 8) for _ in range(count)))
    for layer in model:
        nn.init.constant_(layer.weight, 0.5)
    return model


def constant_findings(count: int = 3) -> Audit:
    return audit(constants(count), select=["constant-weight"])


WHOLE = """
[tool.fanin.audit]
select = ["FAN1", "explodes"]
ignore = ["FAN103"]
strict = true

[[tool.fanin.audit.allow]]
codes = ["FAN104"]
names = ["0.weight"]
reason = "a table of ones"

[[tool.fanin.audit.allow]]
names = ["head.**"]
reason = "loaded later"
"""


def test_a_table_is_read(tmp_path: Path) -> None:
    found = load_configuration(written(tmp_path, WHOLE))
    assert found == Configuration(
        ("FAN1", "explodes"),
        ("FAN103",),
        True,
        (
            Allowance(("FAN104",), ("0.weight",), "a table of ones"),
            Allowance(("FAN",), ("head.**",), "loaded later"),
        ),
    )


def test_the_nearest_file_with_a_table_counts(tmp_path: Path) -> None:
    inner = tmp_path / "package" / "tests"
    inner.mkdir(parents=True)
    written(tmp_path, "[tool.fanin.audit]\nstrict = true")
    assert find_configuration(inner).strict
    written(tmp_path / "package", "[tool.fanin]\n[tool.other]")
    assert find_configuration(inner).strict
    written(inner, "[tool.fanin.audit]")
    assert find_configuration(inner) == Configuration()


def test_without_a_table_there_are_defaults_unless_the_file_was_named(tmp_path: Path) -> None:
    path = written(tmp_path, "[project]\nname = 'x'\n[tool.fanin.audit]")
    assert load_configuration(path) == Configuration()
    written(tmp_path, "[project]\nname = 'x'")
    with pytest.raises(ArgumentError, match=rf"{re.escape(str(path))}: a table tool\.fanin\.audit"):
        load_configuration(path)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("strict = 1", r"audit\.strict: true or false\. Got 1"),
        ("stict = true", r"Got 'stict'\. Did you mean strict"),
        ('select = "FAN104"', r"audit\.select: a list of texts\. Got 'FAN104'"),
        ("select = []", r"audit\.select: a list of texts\. Got \[\]"),
        ("ignore = [104]", r"audit\.ignore: a list of texts\. Got \[104\]"),
        ('allow = ["FAN104"]', r"audit\.allow: tables\. Got \['FAN104'\]"),
        ('allow = [{codes = ["FAN104"]}]', r"audit\.allow: each has a reason"),
        ('allow = [{codes = ["FAN104"], reason = " "}]', r"audit\.allow: each has a reason"),
        ('allow = [{reason = "so"}]', r"audit\.allow: codes or names, or both"),
        ('allow = [{code = ["FAN104"], reason = "so"}]', "Got 'code'. Did you mean codes"),
        ('allow = [{names = [""], reason = "so"}]', r"audit\.allow\.names: .* Got ''"),
        ('allow = [{names = ["re:("], reason = "so"}]', r"audit\.allow\.names: .* Got 're:\('"),
    ],
)
def test_errors_name_file_and_key(tmp_path: Path, text: str, message: str) -> None:
    path = written(tmp_path, f"[tool.fanin.audit]\n{text}")
    with pytest.raises(ArgumentError, match=rf"^{re.escape(str(path))}: tool\.fanin\..*{message}"):
        find_configuration(tmp_path)


@pytest.mark.parametrize("key", ["select", "ignore", "allow.codes"])
def test_a_code_that_no_check_has_is_refused_where_it_is_written(tmp_path: Path, key: str) -> None:
    codes = '["constant-wieght"]'
    text = f'allow = [{{codes = {codes}, reason = "so"}}]' if "." in key else f"{key} = {codes}"
    written(tmp_path, f"[tool.fanin.audit]\n{text}")
    with pytest.raises(
        UnknownNameError, match=rf"pyproject\.toml: tool\.fanin\.audit\.{key}: .* mean constant-we"
    ):
        find_configuration(tmp_path)


@pytest.mark.parametrize("text", ["tool = 3", "[tool]\nfanin = 3", "[tool.fanin]\naudit = [1]"])
def test_a_table_is_a_table(tmp_path: Path, text: str) -> None:
    with pytest.raises(ArgumentError, match=r"pyproject\.toml: tool.*: a table\. Got"):
        load_configuration(written(tmp_path, text))


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(ArgumentError, match=r"nothing\.toml: a TOML file .* No such file"):
        load_configuration(tmp_path / "nothing.toml")
    with pytest.raises(ArgumentError, match=r"pyproject\.toml: a TOML file that can be read"):
        load_configuration(written(tmp_path, "[tool"))
    (tmp_path / "latin.toml").write_bytes(b"# \xe9")
    with pytest.raises(ArgumentError, match=r"latin\.toml: a TOML file that can be read"):
        load_configuration(tmp_path / "latin.toml")


def test_what_is_allowed_is_counted_and_gone() -> None:
    found = allowed(constant_findings(), [Allowance(("FAN104",), ("*.weight",), "meant")])
    assert found.findings == ()
    assert found.ignored == 1
    assert found.summary == "Sequential: no findings, 1 ignored in 6 parameters"


def test_names_that_are_not_allowed_stay() -> None:
    found = allowed(constant_findings(), [Allowance(("FAN1",), ("0.weight", "2.*"), "meant")])
    (finding,) = found.findings
    assert finding.where == ("1.weight",)
    assert found.ignored == 0


def test_an_allowance_that_fits_nothing_is_a_note() -> None:
    rule = Allowance(("FAN104",), ("head.weight",), "meant")
    assert allowed(constant_findings(), [rule]).notes == (
        "allowed and not found: FAN104 for head.weight",
    )
    other = Allowance(("FAN101",), ("**",), "its check did not run")
    assert allowed(constant_findings(), [other]).notes == ()


def test_all_names_are_the_model_too() -> None:
    found = constant_findings()
    findings = tuple(replace(each, where=("",)) for each in found.findings)
    about_the_model = replace(found, findings=findings)
    assert allowed(about_the_model, [Allowance(("FAN104",), ("**",), "meant")]).ignored == 1
    assert allowed(about_the_model, [Allowance(("FAN104",), ("0.*",), "meant")]).ignored == 0


def test_strict_fails_by_warnings() -> None:
    found = constant_findings()
    warnings, notes = (
        replace(found, findings=tuple(replace(each, severity=kind) for each in found.findings))
        for kind in ("warning", "note")
    )
    for strict, fails in ((False, (True, False, False)), (True, (True, True, False))):
        settings = Configuration(strict=strict)
        assert tuple(map(settings.fails, (found, warnings, notes))) == fails
