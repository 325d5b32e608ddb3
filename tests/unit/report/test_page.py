"""A page is one file: escaped, valid, and with nothing to fetch."""

from __future__ import annotations

import base64
import hashlib
import html
import json
import math
import re
import sys
from typing import Any

import pytest

from fanin.errors import ArgumentError, FaninError
from fanin.report import Column, Table
from fanin.report.page import Bars, Chart, Line, Page, Section, page_html

EVIL = "</script><script>alert('&\"')</script>"
CHART = Chart(
    EVIL,
    x=(0.0, 1.0, 2.0),
    labels=("a", EVIL, "c"),
    lines=(Line("rms", (1.0, math.inf, None)), Line(EVIL, (math.nan, 1e-30, 0.123456789))),
    x_title=EVIL,
    rows=(0, 1, 0),
)
PAGE = Page(
    EVIL,
    headline=EVIL,
    tone="bad",
    paragraphs=(EVIL,),
    facts=((EVIL, EVIL),),
    sections=(
        Section(
            EVIL,
            text=EVIL,
            charts=(CHART,),
            table=Table(
                (EVIL, Column("n", "right")), ((EVIL, "1"), ("b", "2")), title=EVIL, caption=EVIL
            ),
            details=((Bars(EVIL, -1.0, 1.0, (1, 2)),), ()),
        ),
    ),
    parts=(Page(EVIL),),
)


def data_in(page: str) -> list[object]:
    found = re.findall(r'<script type="application/json"[^>]*>(.*?)</script>', page, re.DOTALL)
    return [json.loads(text) for text in found]


def test_no_text_becomes_markup() -> None:
    page = page_html(PAGE)
    assert EVIL not in page
    assert "<script>alert" not in page


def test_data_are_valid_json_and_say_what_json_has_no_number_for() -> None:
    chart, details = data_in(page_html(PAGE))
    assert isinstance(chart, dict)
    assert chart["labels"] == ["a", EVIL, "c"]
    assert chart["lines"][0]["values"] == [1.0, "inf", None]
    assert chart["lines"][1]["values"] == ["nan", 1e-30, 0.12346]
    assert details == [[[EVIL, -1.0, 1.0, [1, 2]]], []]


def test_nothing_is_fetched() -> None:
    page = page_html(PAGE)
    assert not re.search(r"""\b(src|srcset|action)=|@import|url\(|href="(?!data:,")""", page)
    assert set(re.findall(r"https?://[^\"' ]+", page)) == {"http://www.w3.org/2000/svg"}
    assert "default-src 'none'" in page


def test_the_policy_allows_the_scripts_of_the_page_and_no_others() -> None:
    page = page_html(PAGE)
    scripts = set(re.findall(r"<script>(.*?)</script>", page, re.DOTALL))
    digests = {
        base64.b64encode(hashlib.sha256(script.encode()).digest()).decode() for script in scripts
    }
    assert set(re.findall(r"sha256-([^' &]+)", html.unescape(page))) == digests
    assert "unsafe-inline'; script-src 'sha256" in html.unescape(page)


def test_a_chart_is_told_in_words() -> None:
    chart = Chart("rms", (0.0, 1.0, 2.0), ("a", "b", "c"), (Line("out", (1.0, 256.0, math.inf)),))
    told = html.unescape(page_html(Page("", sections=(Section("", charts=(chart,)),))))
    assert (
        'data-told="rms. out: from 1 at a to 256 at b, between 1 and 256, '
        'not finite at 1 of 3 places, the first c."'
    ) in told


def test_the_empty_page_is_small() -> None:
    assert len(page_html(Page("nothing"))) < 50_000


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"labels": ("a",)}, "Got 1 for 'labels' and 2 places"),
        ({"lines": (Line("rms", (1.0,)),)}, "Got 1 for 'rms' and 2 places"),
        ({"rows": (0, 1, 2)}, "Got 3 for 'rows' and 2 places"),
    ],
)
def test_a_chart_has_one_entry_for_each_place(changed: dict[str, Any], message: str) -> None:
    given = {"x": (0.0, 1.0), "labels": ("a", "b"), "lines": (), **changed}
    with pytest.raises(ArgumentError, match=message):
        Chart("t", **given)


def test_without_jinja2_the_error_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "jinja2", None)
    with pytest.raises(FaninError, match=r"pip install 'fanin\[report\]'"):
        page_html(Page(""))
