"""Every check has a page that ships with the package."""

from __future__ import annotations

from importlib.resources import files

import pytest

from fanin.auditing import CHECKS, Check, explain
from fanin.errors import UnknownNameError


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.code)
def test_every_check_has_a_page(check: Check) -> None:
    first, empty, second, *rest = explain(check.code).splitlines()
    assert first == f"# {check.code} {check.name}"
    assert empty == ""
    assert second == f"**{check.severity}**: {check.summary}."
    assert len(rest) > 10


def test_no_page_is_of_no_check() -> None:
    pages = {page.name for page in (files("fanin.auditing") / "pages").iterdir()}
    assert pages == {f"{check.code}.md" for check in CHECKS}


def test_a_check_is_named_by_its_code_or_its_name() -> None:
    assert explain("fan104") == explain("constant-weight") == explain("FAN104")
    with pytest.raises(
        UnknownNameError, match=r"one code or name\. Got 'FAN10', which begins FAN101"
    ):
        explain("FAN10")
    with pytest.raises(UnknownNameError, match=r"explain: a code or a name .* Did you mean const"):
        explain("constant-wieght")
