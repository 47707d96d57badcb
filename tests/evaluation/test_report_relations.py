"""Two numbers of each arm: marks where the numbers say, names that can be read."""

import itertools
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rcsd.evaluation.report import Arm, Curve, Relation, ReportPage, figure_svg, write_report
from rcsd.evaluation.report.figures import WIDE, curve_figure, relation_figure
from rcsd.evaluation.report.shapes import Label, Line, Mark, Panel
from rcsd.evaluation.report.text import text_width

Points = tuple[tuple[str, float, float], ...]


def page_of(points: Points) -> ReportPage:
    relation = Relation("headroom and gain, set", "headroom", "gain", points, "r = 0.50")
    arms = tuple(Arm(name, highlight=name == "rcsd") for name, _, _ in points)
    return ReportPage("page", arms=arms, relations=(relation,))


def panel_of(*points: tuple[str, float, float]) -> Panel:
    [panel] = relation_figure(page_of(points)).panels
    return panel


def names_of(panel: Panel) -> dict[str, Label]:
    """The labels of the arms, by what they say: all that is neither title nor axis."""
    labels = [s for s in panel.shapes if isinstance(s, Label) and s.css == "tick"]
    return {label.text: label for label in labels if not label.text.startswith("x: ")}


def boxes_of(panel: Panel) -> list[tuple[float, float, float]]:
    """Left end, right end and height of each name."""
    return [(s.x, s.x + text_width(s.text, 11), s.y) for s in names_of(panel).values()]


def test_a_mark_lies_where_its_two_numbers_say_and_has_its_arms_colour() -> None:
    # Axes from 0 to 1: x from 44 to 370 - 6 = 364, y from 330 up to 34.
    panel = panel_of(("rcsd", 0.5, 0.25), ("origin", 0.0, 0.0), ("far", 1.0, 1.0))
    marks = [(s.x, s.y, s.css) for s in panel.shapes if isinstance(s, Mark)]
    assert marks == [  # from the top
        (pytest.approx(364), pytest.approx(34), "marker m0 a2"),
        (pytest.approx(204), pytest.approx(256), "marker m0 a0"),
        (pytest.approx(44), pytest.approx(330), "marker m0 a1"),
    ]
    names = names_of(panel)
    assert (names["rcsd"].x, names["rcsd"].y) == pytest.approx((212, 260))
    [title] = [s for s in panel.shapes if isinstance(s, Label) and s.css == "title"]
    assert (title.text, title.note) == ("headroom and gain, set", "r = 0.50")
    assert "x: headroom · y: gain" in [s.text for s in panel.shapes if isinstance(s, Label)]
    assert panel.description == (
        "headroom and gain, set. rcsd: 0.50, 0.25; origin: 0.00, 0.00; far: 1.00, 1.00"
    )


def test_a_name_at_the_right_edge_stands_left_of_its_mark() -> None:
    name = names_of(panel_of(("rcsd", 1.0, 1.0), ("low", 0.0, 0.0)))["rcsd"]
    assert name.x == pytest.approx(364 - 8 - text_width("rcsd", 11))


def test_names_of_the_same_place_stand_below_each_other() -> None:
    panel = panel_of(*((f"arm {n}", 0.5, 0.5) for n in range(5)))
    heights = sorted(label.y for label in names_of(panel).values())
    assert all(b - a >= 12 for a, b in itertools.pairwise(heights))
    assert len({(s.x, s.y) for s in panel.shapes if isinstance(s, Mark)}) == 1


def test_numbers_below_zero_have_their_place_and_zero_is_on_the_axis() -> None:
    panel = panel_of(("worse", -0.2, -0.1), ("better", 0.2, 0.1))
    marks = [(s.x, s.y) for s in panel.shapes if isinstance(s, Mark)]
    assert marks[0][0] > marks[1][0]
    assert marks[0][1] < marks[1][1]
    assert [s.text for s in panel.shapes if isinstance(s, Label)].count("0") == 2
    assert any(isinstance(s, Line) for s in panel.shapes)


@given(
    st.lists(
        st.tuples(
            st.text("abc ", min_size=1, max_size=90).filter(str.strip),
            st.floats(-1, 1),
            st.floats(-1, 1),
        ),
        min_size=1,
        max_size=12,
        unique_by=lambda point: point[0],
    )
)
def test_names_never_leave_the_panel_nor_cover_each_other(
    points: list[tuple[str, float, float]],
) -> None:
    [panel] = relation_figure(page_of(tuple(points))).panels
    boxes = boxes_of(panel)
    for left, right, height in boxes:
        assert 0 <= left < right <= WIDE + 1e-9
        assert 0 < height < panel.height
    for (a, b, h), (c, d, k) in itertools.combinations(boxes, 2):
        assert abs(h - k) >= 12 or b <= c or d <= a


def test_a_relation_is_well_formed_svg_and_stands_in_the_page(tmp_path: Path) -> None:
    page = page_of((("rcsd", 0.5, 0.25), ("a & b < c", 0.4, 0.1)))
    root = ElementTree.fromstring(figure_svg(page, "relations"))
    assert "a & b < c" in [label.text for label in root.findall(".//{*}text")]
    write_report(page, tmp_path / "report.html")
    text = (tmp_path / "report.html").read_text()
    assert 'id="relations"' in text
    assert "Did headroom tell?" in text
    assert "a &amp; b &lt; c" in text


def test_curves_say_what_their_x_axis_counts() -> None:
    curves = tuple(
        Curve(arm, "score on new numbers", "0 to 1", (0.0, 50.0, 100.0), (0.1, 0.2, 0.4), "tokens")
        for arm in ("rcsd", "sft")
    )
    [panel] = curve_figure(ReportPage("page", curves=curves)).panels
    assert "tokens" in [s.text for s in panel.shapes if isinstance(s, Label)]
    assert panel.description.startswith("score on new numbers (0 to 1) by tokens: rcsd from 0.10")


@pytest.mark.parametrize("place", [(float("nan"), 0.1), (0.1, float("inf"))])
def test_a_point_without_a_place_is_refused(place: tuple[float, float]) -> None:
    with pytest.raises(ValueError, match="'rcsd' in 'title' has no place"):
        Relation("title", "x", "y", (("rcsd", *place),))
