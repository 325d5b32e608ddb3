"""An audit in SARIF, which code hosts and editors read."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any
from urllib.parse import quote

from fanin.auditing.checks import CHECKS
from fanin.auditing.explain import explain
from fanin.auditing.finding import Check, Finding
from fanin.auditing.findings import Audit, plain
from fanin.auditing.source import Source

__all__ = ["sarif_text"]

_SCHEMA = "https://json.schemastore.org/sarif-2.1.0.json"
_HOME = "https://pypi.org/project/fanin/"


def sarif_text(audit: Audit, *, source: Source | None = None) -> str:
    """One run, with the checks that ran as its rules.

    Args:
        audit: whose findings are the results.
        source: the place to point at; without it results name parameters alone.

    Source: OASIS, Static Analysis Results Interchange Format (SARIF) version 2.1.0, 2020; GitHub
    Docs, SARIF support for code scanning.
    """
    from fanin import __version__

    rules = [check for check in CHECKS if check.code in audit.checks]
    index = {check.code: i for i, check in enumerate(rules)}
    driver = {
        "name": "fanin",
        "version": __version__,
        "informationUri": _HOME,
        "rules": [_rule(check) for check in rules],
    }
    notes = [{"level": "note", "message": {"text": note}} for note in audit.notes]
    run = {
        "tool": {"driver": driver},
        "invocations": [{"executionSuccessful": True, "toolExecutionNotifications": notes}],
        "results": [_result(finding, index, source) for finding in audit.findings],
    }
    content = plain({"$schema": _SCHEMA, "version": "2.1.0", "runs": [run]})
    return json.dumps(content, indent=1, allow_nan=False) + "\n"


def _rule(check: Check) -> dict[str, Any]:
    page = explain(check.code)
    return {
        "id": check.code,
        "name": "".join(word.capitalize() for word in check.name.split("-")),
        "shortDescription": {"text": check.summary},
        "fullDescription": {"text": check.why},
        "help": {"text": page, "markdown": page},
        "defaultConfiguration": {"level": check.severity},
    }


def _result(finding: Finding, index: Mapping[str, int], source: Source | None) -> dict[str, Any]:
    text = f"{finding.place}: {finding.observed}; expected {finding.expected}. {finding.why}"
    result: dict[str, Any] = {
        "ruleId": finding.code,
        "level": finding.severity,
        "message": {"text": f"{text} Fix: {finding.fix}"},
        # Told apart by parameter: the line is that of the model for all of them.
        "partialFingerprints": {"primaryLocationLineHash": f"{_hash(finding)}:1"},
        "properties": {"numbers": finding.numbers},
    }
    if finding.code in index:
        result["ruleIndex"] = index[finding.code]
    location = _location(finding, source)
    if location:
        result["locations"] = [location]
    return result


def _location(finding: Finding, source: Source | None) -> dict[str, Any]:
    names = [{"fullyQualifiedName": name, "kind": "member"} for name in finding.where if name]
    location: dict[str, Any] = {"logicalLocations": names} if names else {}
    if source is not None:
        location["physicalLocation"] = {
            "artifactLocation": {"uri": quote(source.path)},
            # Code hosts show nothing that has no line.
            "region": {"startLine": source.line or 1},
        }
    return location


def _hash(finding: Finding) -> str:
    text = "\0".join([finding.code, *finding.where])
    return hashlib.sha256(text.encode()).hexdigest()[:16]
