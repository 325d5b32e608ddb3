"""An audit as text, JSON, SARIF and commands of GitHub's workflows."""

from __future__ import annotations

import json
import math
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from pydantic import ValidationError
from pydantic_sarif.model import StaticAnalysisResultsFormatSarifVersion210JsonSchema as Sarif
from torch import nn

from fanin.auditing import Audit, Finding, audit
from fanin.auditing.findings import plain
from fanin.auditing.source import Source, source_of
from fanin.errors import ArgumentError

HOSTILE = "a,b:c%\r\n::error::é"


def finding(severity: str = "error", **more: Any) -> Finding:
    numbers = {"nan": math.nan, "inf": math.inf, "lower": -math.inf, "half": 0.5, "count": 3}
    made = Finding(
        "FAN401",
        "explodes",
        "error",
        ("layers.0.weight", "layers.1.weight"),
        "rms 1e30 at 'layers.0'",
        "the same rms",
        "It overflows.",
        'fanin.initialize(model, "kaiming")',
        numbers,
    )
    return replace(made, severity=severity, **more)


def made() -> Audit:
    return Audit(
        (finding(), finding("warning", code="FAN404", where=()), finding("note", where=("",))),
        checks=("FAN401", "FAN404"),
        title="Model",
        num_weights=4,
        notes=("no loss",),
        ignored=1,
    )


def strict(text: str) -> Any:
    """JSON as the standard has it: Python would read NaN, too."""

    def refuse(word: str) -> None:
        raise AssertionError(word)

    return json.loads(text, parse_constant=refuse)


def test_numbers_that_json_has_not_are_texts_and_come_back() -> None:
    content = strict(made().to_json())
    numbers = content["findings"][0]["numbers"]
    assert numbers == {"nan": "nan", "inf": "inf", "lower": "-inf", "half": 0.5, "count": 3}
    back = Audit.from_json(made().to_json())
    assert back.to_json() == made().to_json()
    assert math.isnan(back.findings[0].numbers["nan"])
    assert back.findings[0].numbers["lower"] == -math.inf
    assert type(back.findings[0].numbers["count"]) is int
    assert back.notes == made().notes


@pytest.mark.parametrize("text", ["", "{}", "[]", "null", '{"format": "fanin.audit/1"}', "NaN"])
def test_what_is_no_audit_is_refused(text: str) -> None:
    with pytest.raises(ArgumentError, match=r"text that to_json wrote\. Got something"):
        Audit.from_json(text)


def test_plain_is_deep() -> None:
    assert plain({"a": (math.nan, [math.inf, 1]), "b": "x"}) == {"a": ["nan", ["inf", 1]], "b": "x"}


def test_text_ends_with_notes_and_the_summary() -> None:
    lines = str(made()).splitlines()
    assert lines[0] == "layers.0.weight and 1 more: FAN401 explodes (error)"
    assert lines[-2:] == [
        "note: no loss",
        "Model: 1 error, 1 warning, 1 note, 1 ignored in 4 parameters",
    ]
    assert "(model): FAN404" in str(made())
    assert len(made().table().rows) == 3


def sarif(found: Audit, source: Source | None = None) -> Any:
    """The log, after every model of the schema has taken it."""
    text = found.to_sarif(source=source)
    Sarif.model_validate_json(text)
    return strict(text)


def test_sarif_is_as_its_schema_says() -> None:
    log = sarif(made(), Source("models/my net.py", 7))
    (run,) = log["runs"]
    rules = run["tool"]["driver"]["rules"]
    assert [rule["id"] for rule in rules] == ["FAN401", "FAN404"]
    assert rules[0]["help"]["markdown"].startswith("# FAN401 explodes\n")
    first, second, third = run["results"]
    assert rules[first["ruleIndex"]]["id"] == first["ruleId"]
    assert [each["level"] for each in run["results"]] == ["error", "warning", "note"]
    assert first["properties"]["numbers"]["nan"] == "nan"
    (location,) = first["locations"]
    assert [each["fullyQualifiedName"] for each in location["logicalLocations"]] == [
        "layers.0.weight",
        "layers.1.weight",
    ]
    physical = {"artifactLocation": {"uri": "models/my%20net.py"}, "region": {"startLine": 7}}
    assert location["physicalLocation"] == physical
    assert "logicalLocations" not in second["locations"][0]
    assert third["locations"] == [{"physicalLocation": physical}]
    notes = run["invocations"][0]["toolExecutionNotifications"]
    assert notes == [{"level": "note", "message": {"text": "no loss"}}]


def test_sarif_without_a_place_names_parameters_alone() -> None:
    (run,) = sarif(made())["runs"]
    assert "physicalLocation" not in run["results"][0]["locations"][0]
    assert "locations" not in run["results"][1]
    (run,) = sarif(Audit(()))["runs"]
    assert run["results"] == []


def test_sarif_tells_findings_of_one_line_apart() -> None:
    (run,) = sarif(made(), Source("net.py", 7))["runs"]
    prints = [each["partialFingerprints"]["primaryLocationLineHash"] for each in run["results"]]
    assert len(set(prints)) == 3
    assert all(re.fullmatch(r"[0-9a-f]{16}:1", each) for each in prints)
    assert sarif(made())["runs"][0]["results"][0]["partialFingerprints"] == {
        "primaryLocationLineHash": prints[0]
    }


def test_the_models_of_the_schema_refuse_what_it_does_not_have() -> None:
    log = sarif(made())
    log["runs"][0]["results"][0]["levle"] = "error"
    with pytest.raises(ValidationError, match="levle"):
        Sarif.model_validate_json(json.dumps(log))
    log = sarif(made())
    log["runs"][0]["results"][0]["level"] = "fatal"
    with pytest.raises(ValidationError, match="level"):
        Sarif.model_validate_json(json.dumps(log))


def test_github_takes_a_line_for_each_finding() -> None:
    lines = made().to_github(source=Source("net.py", 7)).splitlines()
    assert lines == [
        "::error file=net.py,line=7,title=FAN401 explodes::layers.0.weight and 1 more: rms 1e30 at "
        "'layers.0'; expected the same rms. Fix: fanin.initialize(model, \"kaiming\")",
        "::warning file=net.py,line=7,title=FAN404 explodes::(model): rms 1e30 at 'layers.0'; "
        'expected the same rms. Fix: fanin.initialize(model, "kaiming")',
        "::notice file=net.py,line=7,title=FAN401 explodes::(model): rms 1e30 at 'layers.0'; "
        'expected the same rms. Fix: fanin.initialize(model, "kaiming")',
        "Model: 1 error, 1 warning, 1 note, 1 ignored in 4 parameters",
    ]
    assert made().to_github().startswith("::error title=FAN401 explodes::")


def test_github_gets_its_marks_escaped() -> None:
    """In properties colons and commas too, as @actions/core writes them."""
    found = Audit((finding(name=HOSTILE, observed=HOSTILE, where=(HOSTILE,)),), title=HOSTILE)
    command, log = found.to_github(source=Source(HOSTILE, 1)).splitlines()
    properties, _, message = command.removeprefix("::error ").partition("::")
    escaped = "a%2Cb%3Ac%25%0D%0A%3A%3Aerror%3A%3Aé"
    assert properties == f"file={escaped},line=1,title=FAN401 {escaped}"
    assert message.startswith("a,b:c%25%0D%0A::error::é: a,b:c%25%0D%0A::error::é; expected")
    assert "::" not in log


def test_a_real_audit_goes_through_every_format() -> None:
    model = nn.Sequential(nn.Linear(8, 8), nn.ReLU(), nn.Linear(8, 8))
    with torch.no_grad():
        model[0].weight.fill_(math.nan)
    found = audit(model, torch.randn(8, 8), select=["FAN101", "FAN409"])
    assert set(found.codes) == {"FAN101", "FAN409"}
    strict(found.to_json())
    assert Audit.from_json(found.to_json()).codes == found.codes


def test_a_source_is_a_file_of_the_project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    here = Path(__file__).resolve()
    monkeypatch.chdir(here.parents[1])
    found = source_of(made)
    assert found is not None
    assert found.path == "auditing/test_formats.py"
    assert here.read_text("utf-8").splitlines()[(found.line or 0) - 1].startswith("def made()")
    assert source_of(nn.Linear) is None
    assert source_of(len) is None
    assert source_of(3) is None
    monkeypatch.chdir(tmp_path)
    assert source_of(made) is None
    assert Source.at(tmp_path / "a b" / "c.py", 3) == Source("a b/c.py", 3)
    assert Source.at(tmp_path) is None
