"""What of a report stands on its page."""

from __future__ import annotations

import html
import json
import math
import re
from typing import Any

import pytest

from fanin.errors import ArgumentError
from fanin.probing.rows import Histogram, SignalRow, Statistics, WeightRow
from fanin.probing.showing.html import report_page
from fanin.probing.signal_report import SignalReport

COUNTS = Histogram(-1.0, 1.0, tuple(range(40)))


def statistics(rms: float = 1.0, **changes: Any) -> Statistics:
    return Statistics((8, 4), "float32", 0.0, rms, rms, 3 * rms, 0.0, histogram=COUNTS, **changes)


def row(name: str, depth: int, *, layer: bool = True, call: int = 0, **changes: Any) -> SignalRow:
    output = statistics(**changes)
    return SignalRow(depth, name, "Linear", call, depth, layer, output, statistics(0.5))


def report(*rows: SignalRow, weights: int = 0, **changes: Any) -> SignalReport:
    held = (
        WeightRow(f"{i}.weight", (4, 4), 0.5, 0.25, 0.25, 1.0, 4.0, COUNTS) for i in range(weights)
    )
    return SignalReport(rows, tuple(held), title="Net", **changes)


def charts(page: str) -> dict[str, dict[str, Any]]:
    found = re.findall(r'<script type="application/json">(.*?)</script>', page, re.DOTALL)
    return {chart["title"]: chart for chart in map(json.loads, found)}


def lines(chart: dict[str, Any]) -> dict[str, list[Any]]:
    return {line["name"]: line["values"] for line in chart["lines"]}


def test_layers_lie_at_their_numbers_and_containers_are_not_drawn() -> None:
    page = report_page(
        report(
            row("dropout", 0, layer=False),
            row("block.fc", 1),
            row("block/relu", 1, layer=False),
            row("block", 1, layer=False),
            row("head", 2),
            row("head", 3, call=1),
            row("", 3, layer=False),
        )
    )
    chart = charts(page)["Outputs"]
    assert chart["labels"] == ["dropout", "block.fc", "block/relu", "head", "head (call 2)"]
    assert chart["x"] == [-1, 0, 0.5, 1, 2]
    assert chart["rows"] == [0, 1, 2, 4, 5]
    assert lines(chart)["rms"] == [None, 1, None, 1, 1]
    assert lines(chart)["rms between layers"] == [1, None, 1, None, None]


def test_a_layer_with_a_nan_is_not_drawn_by_its_finite_entries() -> None:
    rows = [row("0", 1), row("1", 2, nans=1), row("2", 3, infs=1)]
    page = report_page(report(*rows))
    assert lines(charts(page)["Outputs"])["rms"] == [1.0, "nan", "inf"]
    assert 'data-chosen="1"' in page


def test_a_layer_without_a_finite_entry_has_no_numbers() -> None:
    page = report_page(report(row("0", 1), row("1", 2, rms=0.0, nans=32)))
    (cells,) = re.findall(r"<th scope=\"row\">[^<]*(?:<[^>]*>)*1<.*?</tr>", page, re.DOTALL)
    assert re.findall(r"<td[^>]*>(.*?)</td>", cells, re.DOTALL).count("-") == 5


def test_parameters_stand_beside_their_plan() -> None:
    page = report_page(report(row("0", 1), weights=2))
    assert lines(charts(page)["Std of parameters"]) == {
        "observed": [0.25] * 2,
        "expected": [0.5] * 2,
    }
    assert re.search(
        r"<th scope=\"row\">.*0\.weight.*4×4.*<td>0\.5</td><td>0\.25</td><td>0\.5</td>", page
    )


def test_a_report_of_nothing_is_a_page() -> None:
    assert "Signals through Net" in report_page(report())


def test_runs_meet_by_the_numbers_of_their_layers() -> None:
    shallow = report(row("0", 1), row("2", 2), recipe="a")
    deep = report(row("0", 1), row("1", 2), row("2", 3, rms=math.inf, infs=1), recipe="b")
    page = report_page(shallow, others=[deep])
    assert "2 runs of Net" in page
    chart = charts(page)["Output rms"]
    assert chart["labels"] == ["0", "2 | 1", "2"]
    assert lines(chart) == {"a": [1, 1, None], "b": [1, 1, "inf"]}


def test_runs_have_the_names_they_are_given() -> None:
    run = report(row("0", 1), recipe="kaiming")
    page = report_page(run, others=[run], names=["before", "<after>"])
    tabs = re.findall(r'role="tab" .*?>(.*?)</button>', page)
    assert [html.unescape(tab) for tab in tabs] == ["before", "<after>"]
    with pytest.raises(ArgumentError, match="a name for each"):
        report_page(run, others=[run], names=["before"])


def test_a_thousand_layers_stay_far_below_six_megabytes() -> None:
    rows = [row(f"model.layers.{i}.mlp.projection", i + 1) for i in range(1000)]
    assert len(report_page(report(*rows, weights=1000))) < 2_000_000
