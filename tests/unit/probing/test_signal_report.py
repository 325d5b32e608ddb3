from __future__ import annotations

import json
import math
import sys
from dataclasses import astuple, replace
from html.parser import HTMLParser
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

import fanin
from fanin.errors import ArgumentError, FaninError
from fanin.probing import Histogram, SignalReport, SignalRow, Statistics, WeightRow, probe

NAMES = ("0", "1", "2", "3")


def statistics(rms: float = 1.0, *, nans: int = 0, saturated: float | None = None) -> Statistics:
    return Statistics((8, 64), "float32", 0.0, rms, rms, 4 * rms, 0.0, saturated, nans)


def report(*rms: float, **fields: str) -> SignalReport:
    """Linear layers with these rms; NaN stands for a layer of NaN."""
    rows = []
    for i, each in enumerate(rms):
        output = statistics(0, nans=512) if math.isnan(each) else statistics(each)
        rows.append(SignalRow(i, f"layer{i}", "Linear", 0, i + 1, True, output))
    return SignalReport(tuple(rows), title="Net", **fields)


@pytest.fixture(scope="module")
def probed() -> SignalReport:
    """Of a small net with an activation and a plan."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(8, 16), nn.Tanh(), nn.Linear(16, 16), nn.Linear(16, 2))
    plan = fanin.initialize(model, "xavier", seed=7)
    return probe(model, torch.randn(4, 8), plan=plan)


# Text


def test_the_text_begins_with_what_ran_and_the_verdict(probed: SignalReport) -> None:
    blocks = str(probed).split("\n\n")
    assert blocks[0] == "Sequential, xavier@1, seed 7"
    assert blocks[1] == str(probed.verdict)
    assert blocks[2].startswith("output rms ")
    assert "gradient rms" in blocks[2]
    assert blocks[3] == str(probed.table())
    assert blocks[4].startswith("note: no loss")
    assert repr(probed) == str(probed)


def test_the_table_has_a_row_for_each_call(probed: SignalReport) -> None:
    lines = str(probed.table()).splitlines()
    assert lines[0].split() == [
        *("layer", "name", "kind", "shape", "mean", "std", "rms", "max", "zeros", "saturated"),
        *("gradient", "rms"),
    ]
    assert [line.split()[:2] for line in lines[2:]] == [
        ["0", "0"],
        ["1", "Tanh"],
        ["1", "2"],
        ["2", "3"],
    ]


def test_columns_that_no_row_fills_are_left_out() -> None:
    assert "NaN" not in str(report(1.0, 1.0).table())
    head, _, first, second = str(report(1.0, math.nan).table()).splitlines()
    assert head.split()[-1] == "NaN"
    assert first.split()[-1] == "-"
    assert second.split()[-6:] == ["-"] * 5 + ["512"]


def test_a_long_table_keeps_its_ends_and_where_numbers_end() -> None:
    rms = [1.0] * 200
    rms[100] = math.nan
    made = report(*rms)
    names = [row[1] for row in made.table().rows]
    assert names[:2] == ["layer0", "layer1"]
    assert names[-1] == "layer199"
    assert "layer100" in names
    assert names.count("86 rows more") + names.count("85 rows more") == 2
    assert "table(every=True)" in str(made)
    assert len(made.table(every=True).rows) == len(made.tables()[0].rows) == 200


def test_a_table_that_would_lose_a_single_row_keeps_it() -> None:
    assert len(report(*[1.0] * 25).table().rows) == 25
    assert not report(*[1.0] * 25).table().caption


def test_the_weights_stand_beside_their_plan(probed: SignalReport) -> None:
    lines = str(probed.weights_table()).splitlines()
    assert lines[0].startswith("parameter")
    assert lines[2].split()[:3] == ["0.weight", "16×8", "0.289"]


def test_curves_are_level_where_little_changes_and_marked_where_numbers_end() -> None:
    assert "▄▄▄▄  1 … 1.01" in str(report(1.0, 1.02, 0.99, 1.01))
    assert "▁▄▇×  1 … 1e+04" in str(report(1.0, 1e2, 1e4, math.nan))


def test_a_report_without_rows_can_be_shown() -> None:
    empty = SignalReport(())
    assert "healthy" in str(empty)
    assert empty.series() == {}
    assert "healthy" in empty._repr_html_()


def test_series_have_a_point_for_each_layer(probed: SignalReport) -> None:
    series = probed.series()
    assert list(series) == ["output rms", "output std", "gradient rms"]
    assert series["output rms"].x == (0, 1, 2)
    assert series["output rms"].labels == ("0", "2", "3")
    assert math.isnan(report(1.0, math.nan).series()["output rms"].y[1])


# JSON

_numbers = st.floats(width=32)
_names = st.text(max_size=8) | st.sampled_from(["nan", "inf", "<script>"])
_shapes = st.lists(st.integers(0, 9), max_size=3).map(tuple)
_histograms = st.none() | st.builds(
    Histogram, _numbers, _numbers, st.lists(st.integers(0, 99), max_size=4).map(tuple)
)
_statistics = st.builds(
    Statistics,
    _shapes,
    _names,
    *[_numbers] * 5,
    saturated=st.none() | _numbers,
    nans=st.integers(0, 9),
    infs=st.integers(0, 9),
    histogram=_histograms,
)
_rows = st.builds(
    SignalRow,
    st.integers(0, 9),
    _names,
    _names,
    st.integers(0, 9),
    st.integers(0, 9),
    st.booleans(),
    _statistics,
    st.none() | _statistics,
    st.none() | _statistics,
)
_weights = st.builds(
    WeightRow,
    _names,
    _shapes,
    st.none() | _numbers,
    _numbers,
    _numbers,
    st.none() | _numbers,
    st.none() | _numbers,
    _histograms,
)


@given(
    rows=st.lists(_rows, max_size=3).map(tuple),
    weights=st.lists(_weights, max_size=3).map(tuple),
    loss=st.none() | _numbers,
    seed=st.none() | st.integers(0, 2**64 - 1),
    notes=st.lists(_names, max_size=2).map(tuple),
)
def test_json_and_back_is_the_identity(
    rows: tuple[SignalRow, ...],
    weights: tuple[WeightRow, ...],
    loss: float | None,
    seed: int | None,
    notes: tuple[str, ...],
) -> None:
    made = SignalReport(rows, weights, loss, "nan", "inf", seed, notes)
    text = made.to_json()
    json.loads(text, parse_constant=pytest.fail)  # no NaN that only Python reads
    assert str(astuple(SignalReport.from_json(text))) == str(astuple(made))  # nan is itself there


def test_a_probe_survives_json(probed: SignalReport) -> None:
    assert SignalReport.from_json(probed.to_json()) == probed
    assert json.loads(probed.to_json())["verdict"]["kind"] == probed.verdict.kind


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"fanin_report": 1}', "null"])
def test_text_that_is_no_report_is_refused(text: str) -> None:
    with pytest.raises(ArgumentError, match="from_json: the text that to_json wrote"):
        SignalReport.from_json(text)


def test_a_report_of_another_version_is_refused() -> None:
    text = report(1.0).to_json().replace('"fanin_report": 1', '"fanin_report": 2')
    with pytest.raises(ArgumentError, match="Got version 2"):
        SignalReport.from_json(text)


def test_a_row_without_its_fields_is_refused() -> None:
    text = report(1.0).to_json().replace('"rms"', '"size"')
    with pytest.raises(ArgumentError, match="from_json: the text that to_json wrote"):
        SignalReport.from_json(text)


# Data frame


def test_a_data_frame_has_a_row_for_each_call(probed: SignalReport) -> None:
    frame = probed.to_dataframe()
    assert list(frame["name"]) == list(NAMES)
    assert list(frame["rms"]) == [row.output.rms for row in probed.rows]
    assert frame["gradient_rms"].notna().all()
    assert frame["input_rms"].isna().all()


def test_without_pandas_the_extra_is_named(
    probed: SignalReport, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "pandas", None)
    with pytest.raises(FaninError, match=r"pip install 'fanin\[report\]'"):
        probed.to_dataframe()


# Notebook


class _Tags(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.seen: set[str] = set()

    def handle_starttag(self, tag: str, attrs: object) -> None:
        self.seen.add(tag)


def test_a_notebook_gets_the_verdict_and_escaped_names() -> None:
    made = report(*[16.0**i for i in range(1, 9)])
    row = replace(made.rows[0], name="<script>alert(1)</script>", kind="<b>")
    made = replace(made, rows=(row, *made.rows[1:]), title="<i>", notes=("<img src=x>",))
    page = made._repr_html_()
    tags = _Tags()
    tags.feed(page)
    assert "explodes: ×16 a layer" in page
    assert tags.seen == {"div", "p", "strong", "br", "pre", *("table", "thead", "tbody")} | {
        *("tr", "th", "td")
    }


# Files


@pytest.mark.parametrize(
    ("suffix", "start"), [("html", b"<!"), ("png", b"\x89PNG"), ("json", b"{")]
)
def test_a_report_is_saved_by_suffix(
    probed: SignalReport, tmp_path: Path, suffix: str, start: bytes
) -> None:
    path = tmp_path / f"report.{suffix.upper()}"
    probed.save(path)
    assert path.read_bytes().lower().startswith(start.lower())


def test_another_suffix_is_refused_and_writes_nothing(probed: SignalReport, tmp_path: Path) -> None:
    with pytest.raises(ArgumentError, match=r"\.html, \.png or \.json file"):
        probed.save(tmp_path / "report.pdf")
    with pytest.raises(ArgumentError, match=r"\.html, \.png or \.json file"):
        SignalReport.compare(probed).save(str(tmp_path / "report"))
    assert not list(tmp_path.iterdir())


# Comparison


def test_reports_side_by_side() -> None:
    runs = SignalReport.compare(
        report(1.0, 2.0, recipe="lecun@1"), report(1.0, 4.0, 16.0, recipe="kaiming@1")
    )
    assert runs.names == ("lecun@1", "kaiming@1")
    assert str(runs.table()).splitlines() == [
        "rms of outputs",
        "layer  lecun@1  kaiming@1",
        "-----  -------  ---------",
        "    0        1          1",
        "    1        2          4",
        "    2        -         16",
    ]
    assert [row[0] for row in runs.verdicts_table().rows] == list(runs.names)
    assert str(runs) == repr(runs) == f"{runs.verdicts_table()}\n\n{runs.table()}"
    assert runs._repr_html_().count("<table>") == 2
    assert [each["recipe"] for each in json.loads(runs.to_json())] == ["lecun@1", "kaiming@1"]


def test_runs_without_a_recipe_have_their_title_and_a_number() -> None:
    assert SignalReport.compare(report(1.0), report(2.0)).names == ("Net (1)", "Net (2)")
    assert SignalReport.compare(report(1.0), report(2.0), names=("a", "b")).names == ("a", "b")


def test_long_runs_are_compared_at_some_layers() -> None:
    runs = SignalReport.compare(report(*[1.0] * 100))
    assert [runs.table().rows[i][0] for i in (0, -1)] == ["0", "99"]
    assert "table(every=True)" in runs.table().caption
    assert len(runs.table(every=True).rows) == len(runs.tables()[1].rows) == 100


@pytest.mark.parametrize(("count", "names"), [(0, None), (2, ("a",))])
def test_a_comparison_needs_reports_and_a_name_for_each(
    count: int, names: tuple[str, ...] | None
) -> None:
    with pytest.raises(ArgumentError, match="a name for each"):
        SignalReport.compare(*[report(1.0)] * count, names=names)


def test_a_comparison_is_saved_under_its_names(probed: SignalReport, tmp_path: Path) -> None:
    runs = SignalReport.compare(probed, probed, names=("one", "other"))
    runs.save(tmp_path / "runs.html")
    runs.save(tmp_path / "runs.png")
    page = (tmp_path / "runs.html").read_text(encoding="utf-8")
    assert "one" in page
    assert "other" in page
    assert (tmp_path / "runs.png").stat().st_size > 1000
