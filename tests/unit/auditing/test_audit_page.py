"""docs/audit.md lists every check as it is."""

from __future__ import annotations

import re
from pathlib import Path

from fanin.auditing import CHECKS

PAGE = Path(__file__).parents[3] / "docs" / "audit.md"


def test_the_table_of_codes_is_that_of_the_checks() -> None:
    rows = re.findall(
        r"^\| \[(FAN\d+)\]\((.*?)\) \| (\S+) \| (\w+) \| (.*?) \|$",
        PAGE.read_text(encoding="utf-8"),
        re.MULTILINE,
    )
    pages = "../src/fanin/auditing/pages"
    assert rows == [
        (check.code, f"{pages}/{check.code}.md", check.name, check.severity, check.summary)
        for check in CHECKS
    ]
