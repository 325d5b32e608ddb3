"""An audit in SARIF, which code hosts and editors read."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from fanin.auditing.checks import CHECKS
from fanin.auditing.finding import Check, Finding
from fanin.auditing.source import Source

if TYPE_CHECKING:
    from fanin.auditing.findings import Audit

__all__ = ["sarif_text"]

_SCHEMA = "https://json.schemastore.org/sarif-2.1.0.json"
_HOME = "https://pypi.org/project/fanin/"


def sarif_text(audits: Sequence[Audit], *, source: Source | None = None) -> str:
    """One run over one or several audits.

    Args:
        audits: whose findings are the results.
        source: the file and line to point at; without it results name parameters alone.

    Source: OASIS, Static Analysis Results Interchange Format (SARIF) version 2.1.0, 2020.
    """
    from fanin import __version__

    ran = {code for audit in audits for code in audit.checks}
    rules = [check for check in CHECKS if check.code in ran]
    index = {check.code: i for i, check in enumerate(rules)}
    findings = [finding for audit in audits for finding in audit.findings]
    driver = {
        "name": "fanin",
        "version": __version__,
        "informationUri": _HOME,
        "rules": [_rule(check) for check in rules],
    }
    run = {
        "tool": {"driver": driver},
        "results": [_result(finding, index, source) for finding in findings],
    }
    return json.dumps({"$schema": _SCHEMA, "version": "2.1.0", "runs": [run]}, indent=1) + "\n"


def _rule(check: Check) -> dict[str, Any]:
    return {
        "id": check.code,
        "name": "".join(word.capitalize() for word in check.name.split("-")),
        "shortDescription": {"text": check.summary},
        "fullDescription": {"text": check.why},
        "defaultConfiguration": {"level": check.severity},
    }


def _result(finding: Finding, index: Mapping[str, int], source: Source | None) -> dict[str, Any]:
    logical = [{"fullyQualifiedName": name, "kind": "member"} for name in finding.where if name]
    location: dict[str, Any] = {"logicalLocations": logical} if logical else {}
    if source is not None:
        location["physicalLocation"] = {
            "artifactLocation": {"uri": source.path},
            "region": {"startLine": source.line},
        }
    text = f"{finding.place}: {finding.observed}; expected {finding.expected}. {finding.why}"
    result: dict[str, Any] = {
        "ruleId": finding.code,
        "level": finding.severity,
        "message": {"text": f"{text} Fix: {finding.fix}"},
        "partialFingerprints": {"place/v1": f"{finding.code}:{','.join(finding.where)}"},
        "properties": {key: value for key, value in finding.numbers.items() if abs(value) < 1e308},
    }
    if finding.code in index:
        result["ruleIndex"] = index[finding.code]
    if location:
        result["locations"] = [location]
    return result
