"""Figures: shapes where the numbers say, labels that can be read, the same bytes every time."""

import math
import re
from xml.etree import ElementTree

import pytest
from tests.evaluation.test_report import FIGURES, full_page

from rcsd.evaluation.plots import WIDE, figures, round_ticks
from rcsd.evaluation.report import CriterionShares, Curve, Estimate, ReportPage
from rcsd.evaluation.statistics import Interval
from rcsd.evaluation.svg import HEX, panel_svg, tick_text
from rcsd.evaluation.text import MINUS

NAN = float("nan")
NASTY = 'a < b & c "d" <script>alert(1)</script> $\\frac{1}{2}$ 物 {{ 7 * 7 }}'


def drawing(page: ReportPage, name: str, place: int = 0) -> ElementTree.Element:
    return ElementTree.fromstring(panel_svg(figures(page)[name].panels[place], "test"))


def lines(root: ElementTree.Element, colour: str) -> list[list[tuple[float, float]]]:
    """Corners of the open paths of a colour."""
    paths = [
        path.attrib["d"]
        for path in root.iter("path")
        if f"stroke: var(--{colour})" in path.attrib["style"] and "z" not in path.attrib["d"]
    ]
    pairs = [re.findall(r"[ML] ([\d.]+) ([\d.]+)", path) for path in paths]
    return [[(float(x), float(y)) for x, y in corners] for corners in pairs]


def marks(root: ElementTree.Element) -> list[tuple[float, float, str]]:
    """Markers: where they are, and their colour."""
    return [
        (float(use.attrib["x"]), float(use.attrib["y"]), use.attrib["style"].split("--")[-1][:2])
        for use in root.iter("use")
    ]


def texts(root: ElementTree.Element) -> dict[str, tuple[float, float]]:
    return {t.text or "": (float(t.attrib["x"]), float(t.attrib["y"])) for t in root.iter("text")}


def curve_page(values: tuple[float, ...]) -> ReportPage:
    return ReportPage("p", curves=(Curve("train", "loss", "", tuple(range(len(values))), values),))


# All figures


@pytest.mark.parametrize("name", FIGURES)
def test_a_figure_is_in_theme_colours_with_all_labels_inside(name: str):
    for panel in figures(full_page())[name].panels:
        text = panel_svg(panel, "test")
        root = ElementTree.fromstring(text)
        left, top, width, height = map(float, root.attrib["viewBox"].split())
        assert (left, top) == (0, 0)
        for label in root.iter("text"):
            assert 0 <= float(label.attrib["x"]) <= width
            assert 0 <= float(label.attrib["y"]) <= height
        assert "var(--ink)" in text
        assert not re.search(r"#[0-9a-f]{6}|nan|inf|url\(|font-family|https?:", text)
        assert {*re.findall(r"var\(--([\w-]+)\)", text)} <= {*HEX}
        assert panel_svg(panel, "test") == text


def test_no_name_becomes_markup_or_mathematics():
    interval = Interval(0.5, 0.4, 0.6, 3)
    page = ReportPage(
        NASTY,
        estimates=(Estimate(NASTY, NASTY, NASTY, interval), Estimate(NASTY, "b", NASTY, interval)),
        criteria=(CriterionShares(NASTY, {NASTY: 0.5}, False, 3),),
    )
    for name in ("scores", "criteria"):
        root = drawing(page, name)
        assert not any("script" in element.tag for element in root.iter())
        assert any(NASTY in (element.text or "") for element in root.iter())


# Dots and bars


def test_whisker_and_marker_lie_where_the_numbers_say():
    # Four letters of 12.5 * 0.56 and 16: the axis goes from 44 (0) to 350 - 46 = 304 (1).
    interval = Interval(0.5, 0.25, 0.75, 9)
    root = drawing(
        ReportPage("p", estimates=(Estimate("base", "test", "score", interval),)), "scores"
    )
    [whisker] = lines(root, "a0")
    assert whisker == [pytest.approx((109, 47)), pytest.approx((239, 47))]
    assert marks(root) == [(pytest.approx(174), pytest.approx(47), "a0")]
    ticks = {text: x for text, (x, _) in texts(root).items()}
    assert {name: ticks[name] for name in ("0", "0.25", "1")} == pytest.approx(
        {"0": 44, "0.25": 109, "1": 304}
    )
    assert ticks["0.50"] == WIDE


def test_a_difference_whose_interval_holds_zero_is_grey():
    page = full_page()
    crossing = Estimate("a - b", "new_numbers", "score", Interval(0.1, -0.1, 0.3, 9))
    page = ReportPage("p", differences=(*page.differences, crossing))
    assert [colour for _, _, colour in marks(drawing(page, "differences"))] == ["a0", "a1"]


def test_bars_are_as_long_as_their_shares_and_violations_have_a_panel_of_their_own():
    widths = []
    for place in (0, 1):
        root = drawing(full_page(), "criteria", place)
        for path in root.iter("path"):
            if re.search(r"fill: var\(--a\d\)", path.attrib["style"]):
                xs = [float(x) for x in re.findall(r"[ML] ([\d.]+)", path.attrib["d"])]
                widths.append((max(xs) - min(xs)) / (WIDE - 46))
    assert widths == pytest.approx([0.41, 0.95, 0.38, 0.0], abs=1e-3)
    assert "lower is better" in figures(full_page())["criteria"].panels[1].description


# Lines


def test_values_that_are_not_finite_break_the_line_and_are_counted():
    root = drawing(curve_page((1.0, 0.5, NAN, 0.25, math.inf, 0.0)), "curves")
    [line] = lines(root, "a0")
    assert [y for _, y in line] == pytest.approx([32, 103, 138.5, 174], abs=0.1)
    assert len(marks(root)) == 2  # 0.25 alone between gaps, and the last value
    assert "step · 2 not finite, left out" in texts(root)
    assert (
        "train from 1.00 to 0.00" in figures(curve_page((1.0, 0.0)))["curves"].panels[0].description
    )


# Scales and labels


@pytest.mark.parametrize(
    ("values", "ticks"),
    [
        ([-0.03, 0.17], [f"{MINUS}0.05", "0", "0.05", "0.1", "0.15", "0.2"]),
        ([70.0, 110.0], ["70", "80", "90", "100", "110"]),
        ([200.0, 2000.0], ["0", "500", "1,000", "1,500", "2,000"]),
        ([0.0], ["0", "0.2", "0.4", "0.6", "0.8", "1"]),
        ([-2.0], [f"{MINUS}3", f"{MINUS}2.5", f"{MINUS}2", f"{MINUS}1.5", f"{MINUS}1"]),
    ],
)
def test_ticks_are_round_and_hold_all_values(values: list[float], ticks: list[str]):
    assert [tick_text(tick) for tick in round_ticks(values, 5)] == ticks
