"""The page as a reader meets it: in chromium, without a network, by mouse, keys and thumb."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, expect

from fanin.probing.rows import Histogram, SignalRow, Statistics, WeightRow
from fanin.probing.showing.html import report_page
from fanin.probing.signal_report import SignalReport

pytestmark = pytest.mark.browser

EVIL = "</script><script>alert(1)</script>"
Opener = Callable[..., Page]


def report(factor: float = 1.0, *, name: str = "fc", recipe: str = "kaiming") -> SignalReport:
    """Twelve layers whose rms grows by a factor; the last two are not finite if it is large."""
    broken = 10 if factor > 100 else 12
    rows, weights = [], []
    for i in range(12):
        rms = factor**i
        counts = Histogram(-rms, rms, (1, 4, 9, 4, 1))
        output = Statistics((8, 16), "float32", 0.0, rms, rms, 4 * rms, 0.5, histogram=counts)
        if i >= broken:
            output = Statistics((8, 16), "float32", 0.0, 0.0, 0.0, 0.0, 0.0, nans=128)
        rows.append(SignalRow(i, f"{name}{i}", "Linear", 0, i + 1, True, output, output))
        weights.append(
            WeightRow(f"{name}{i}.weight", (16, 16), 0.25, 0.2501, 0.2501, 1.0, 4.0, counts)
        )
    return SignalReport(tuple(rows), tuple(weights), title="MLP", recipe=recipe, seed=0)


@pytest.fixture
def open_page(browser: Browser, tmp_path: Path) -> Iterator[Opener]:
    """Opens a page with the network cut; complaints of the browser and requests fail the test."""
    complaints: list[str] = []
    requests: list[str] = []
    contexts = []

    def opened(text: str, *, width: int = 1280, dark: bool = False, touch: bool = False) -> Page:
        path = tmp_path / "report.html"
        path.write_text(text, encoding="utf-8")
        context = browser.new_context(
            viewport={"width": width, "height": 844},
            color_scheme="dark" if dark else "light",
            offline=True,
            has_touch=touch,
        )
        contexts.append(context)
        page = context.new_page()
        page.on("console", lambda message: complaints.append(message.text))
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.on("dialog", lambda dialog: (complaints.append("a dialog"), dialog.dismiss()))
        page.on("request", lambda request: requests.append(request.url))
        page.goto(path.as_uri())
        return page

    yield opened
    for context in contexts:
        context.close()
    assert complaints == []
    assert [url for url in requests if not url.startswith(("file:", "data:"))] == []


def names(page: Page, table: int = 0) -> list[str]:
    return page.locator("table").nth(table).locator("tbody tr:visible th").all_inner_texts()


def test_a_page_has_its_verdict_and_draws_its_charts(
    open_page: Opener, record_property: Callable[[str, object], None]
) -> None:
    page = open_page(report_page(report()))
    expect(page.locator(".headline")).to_contain_text("healthy")
    expect(page.locator(".chart .plot > svg")).to_have_count(5)
    assert page.locator(".chart path.curve[d^=M][d*=L]").count() >= 4
    expect(page.locator(".histogram svg[role=img]").first).to_have_attribute(
        "aria-label", "output: 19 values between -1 and 1, most in -0.2 … 0.2"
    )
    first = "performance.getEntriesByName('first chart')[0].startTime"
    record_property("first chart, ms", page.evaluate(first))


def test_what_is_not_finite_is_a_cross_and_its_row_is_chosen(open_page: Opener) -> None:
    page = open_page(report_page(report(1000.0)))
    assert page.locator(".chart").first.locator(".broken").count() > 0
    expect(page.locator(".details h3").first).to_have_text("fc10")


def test_hovering_names_the_layer(open_page: Opener) -> None:
    page = open_page(report_page(report()))
    plot = page.locator(".plot").first
    plot.hover(position={"x": 55, "y": 100})
    expect(plot.locator(".tip")).to_contain_text("fc0")
    page.mouse.move(0, 0)
    expect(plot.locator(".tip")).to_be_hidden()


def test_keys_walk_zoom_and_choose_in_a_chart(open_page: Opener) -> None:
    page = open_page(report_page(report()))
    plot = page.locator(".plot").first
    back = page.get_by_role("button", name="Show all").first
    plot.focus()
    page.keyboard.press("End")
    page.keyboard.press("ArrowLeft")
    expect(page.locator(".unseen").first).to_contain_text("fc10, rms 1, std 1")
    page.keyboard.press("Enter")
    expect(page.locator(".details h3").first).to_have_text("fc10")
    expect(back).to_be_disabled()
    page.keyboard.press("+")
    expect(back).to_be_enabled()
    page.keyboard.press("0")
    expect(back).to_be_disabled()


def test_dragging_zooms_and_a_double_click_shows_all(open_page: Opener) -> None:
    page = open_page(report_page(report()))
    box = page.locator(".plot").first.bounding_box()
    assert box is not None
    back = page.get_by_role("button", name="Show all").first
    page.mouse.move(box["x"] + 150, box["y"] + 80)
    page.mouse.down()
    page.mouse.move(box["x"] + 300, box["y"] + 80, steps=3)
    page.mouse.up()
    expect(back).to_be_enabled()
    page.mouse.dblclick(box["x"] + 200, box["y"] + 80)
    expect(back).to_be_disabled()


def test_the_legend_hides_a_curve(open_page: Opener) -> None:
    page = open_page(report_page(report()))
    chart = page.locator(".chart").first
    curves = chart.locator(".plot path.curve")
    expect(curves).to_have_count(2)
    chart.get_by_role("button", name="std").press("Enter")
    expect(curves).to_have_count(1)
    expect(chart.get_by_role("button", name="std")).to_have_attribute("aria-pressed", "false")


def test_keys_sort_by_value_and_back(open_page: Opener) -> None:
    page = open_page(report_page(report(0.1)))
    heading = page.locator("table").first.locator("th", has_text="rms").first
    heading.get_by_role("button").focus()
    for order, first in (("ascending", "fc11"), ("descending", "fc0")):
        page.keyboard.press("Enter")
        expect(heading).to_have_attribute("aria-sort", order)
        assert names(page)[0] == first
    page.keyboard.press("Enter")
    assert heading.get_attribute("aria-sort") is None
    by_name = page.locator("table").first.locator("thead button").first
    by_name.press("Enter")
    assert names(page)[:3] == ["fc0", "fc1", "fc2"], "numbers in names count as numbers"


def test_words_filter_and_arrows_choose_among_what_is_left(open_page: Opener) -> None:
    page = open_page(report_page(report()))
    page.get_by_role("searchbox").first.press_sequentially("linear fc1")
    assert names(page) == ["fc1", "fc10", "fc11"]
    expect(page.locator("output").first).to_have_text("3 of 12 rows")
    page.locator("tbody button[tabindex='0']").first.focus()
    page.keyboard.press("ArrowDown")
    page.keyboard.press("Enter")
    expect(page.locator(".details h3").first).to_have_text("fc10")
    expect(page.locator(".details").first.locator(".histogram")).to_have_count(3)


def test_every_picture_has_its_numbers(open_page: Opener) -> None:
    page = open_page(report_page(report()))
    pictures = page.locator(".chart, .histogram")
    for i in range(pictures.count()):
        pictures.nth(i).locator("summary").press("Enter")
        expect(pictures.nth(i).locator("details.data td").nth(9)).to_be_attached()


@pytest.mark.parametrize("dark", [False, True])
def test_the_theme_follows_the_system_and_the_button(open_page: Opener, dark: bool) -> None:
    page = open_page(report_page(report()), dark=dark)
    paper = "getComputedStyle(document.body).backgroundColor"
    colours = {True: "rgb(20, 23, 28)", False: "rgb(246, 247, 249)"}
    assert page.evaluate(paper) == colours[dark]
    page.locator("#theme").press("Enter")
    assert page.evaluate(paper) == colours[not dark]


@pytest.mark.parametrize("others", [(), (report(1000.0, recipe="a recipe with a long name"),)])
def test_a_phone_scrolls_tables_in_their_boxes_only(
    open_page: Opener, others: tuple[SignalReport, ...]
) -> None:
    page = open_page(report_page(report(name="a" * 80), others=others), width=390, touch=True)
    assert page.evaluate("document.documentElement.scrollWidth") == 390
    box = page.locator(".box").first
    assert box.evaluate("box => box.scrollWidth > box.clientWidth")
    page.locator(".plot").first.tap(position={"x": 60, "y": 80})
    expect(page.locator(".tip").first).to_contain_text("a0")


def test_names_are_text(open_page: Opener) -> None:
    page = open_page(report_page(report(name=EVIL, recipe=EVIL), others=[report()]))
    page.get_by_role("tab").first.click()
    assert names(page, table=2)[0] == f"{EVIL}0"
    expect(page.locator(".details h3").first).to_have_text(f"{EVIL}0 | fc0")
    page.locator(".plot").first.focus()
    page.keyboard.press("Home")
    expect(page.locator(".tip").first).to_contain_text(EVIL)


def test_runs_share_charts_and_have_tabs(open_page: Opener) -> None:
    runs = [report(), report(0.1, recipe="lecun"), report(1000.0, recipe="normal(std=1)")]
    page = open_page(report_page(runs[0], others=runs[1:]))
    expect(page.locator(".chart").first.locator(".plot path.curve")).to_have_count(3)
    tabs = page.get_by_role("tab")
    assert tabs.all_inner_texts() == ["kaiming", "lecun", "normal(std=1)"]
    tabs.first.focus()
    page.keyboard.press("ArrowLeft")
    expect(tabs.nth(2)).to_be_focused()
    expect(page.locator("[role=tabpanel]:visible .headline")).to_contain_text("explodes")
    assert page.locator("[role=tabpanel]:visible path.curve[d*=L]").count() >= 2


def test_without_scripts_everything_is_there_to_read(browser: Browser, tmp_path: Path) -> None:
    path = tmp_path / "report.html"
    path.write_text(report_page(report(), others=[report(0.1)]), encoding="utf-8")
    context = browser.new_context(java_script_enabled=False)
    page = context.new_page()
    page.goto(path.as_uri())
    expect(page.get_by_text("the tables hold the numbers")).to_be_visible()
    expect(page.locator("[role=tabpanel]:visible")).to_have_count(2)
    context.close()
