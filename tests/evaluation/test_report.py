import re
import subprocess
import sys
import xml.etree.ElementTree as ElementTree
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from rcsd.errors import DataError, UserError
from rcsd.evaluation.report import (
    FIGURES,
    Arm,
    CriterionShares,
    Curve,
    Difference,
    Estimate,
    HeadroomRow,
    Relation,
    ReportPage,
    Sample,
    SampleAnswer,
    SampleCriterion,
    figure_svg,
    terminal_table,
    write_report,
)
from rcsd.evaluation.report.figures import MAX_POINTS, curve_figure, score_figure
from rcsd.evaluation.report.scales import (
    Scale,
    round_scale,
    share_scale,
    spanning_scale,
    tick_label,
)
from rcsd.evaluation.report.shapes import Bar, Label, Line, Mark, Trace, arm_styles
from rcsd.evaluation.report.tables import NOTHING
from rcsd.evaluation.report.text import MINUS, number, p_value_text, shortened, wrapped
from rcsd.evaluation.statistics import Interval
from rcsd.redact import visible_text

VOID_TAGS = {"meta", "link", "br", "hr", "img", "input"}
SECTIONS = (
    "scores",
    "differences",
    "rubrics",
    "criteria",
    "headroom",
    "relations",
    "curves",
    "samples",
    "facts",
)
NASTY = 'a < b & c "d" <script>alert(1)</script> </pre><img src=x onerror=alert(2)> {{ 7 * 7 }}'


class Structure(HTMLParser):
    """Checks that tags nest, and collects tags, ids, addresses and text."""

    def __init__(self, text: str) -> None:
        super().__init__(convert_charrefs=True)
        self.open: list[str] = []
        self.tags: list[str] = []
        self.ids: list[str] = []
        self.addresses: list[str] = []
        self.handlers: list[str] = []
        self.words: list[str] = []
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self._note(tag, attrs)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self._note(tag, attrs)
        if tag not in VOID_TAGS:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open, f"</{tag}> closes nothing"
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] != "style":
            self.words.append(data)

    def _note(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        for name, value in attrs:
            if name == "id":
                self.ids.append(value or "")
            if name in ("href", "src", "srcset", "action", "data", "poster", "xlink:href"):
                self.addresses.append(value or "")
            if name.startswith("on"):
                self.handlers.append(name)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.words).split())


def full_page(answer: str = "E = P t\n\\boxed{126 kJ}") -> ReportPage:
    interval = Interval(0.5, 0.25, 0.75, 40)
    return ReportPage(
        title="Does the rubric teach?",
        subtitle="micro, seed 0, 212 seconds",
        lead=("The student gains 0.42.", "The placebo gains less."),
        arms=(Arm("base", "before training"), Arm("rcsd", "gold rubrics", highlight=True)),
        estimates=(
            Estimate("base", "new_numbers", "score", Interval(0.08, 0.05, 0.11, 40)),
            Estimate("base", "new_templates", "score", Interval(0.06, 0.02, 0.1, 30)),
            Estimate("rcsd", "new_numbers", "score", interval),
            Estimate("rcsd", "new_numbers", "accuracy", Interval(0.61, 0.52, 0.73, 38)),
        ),
        differences=(
            Difference("rcsd - base", "new_numbers", "score", Interval(0.42, 0.3, 0.5, 40), 0.0002),
        ),
        rubrics=(Estimate("learned", "new_numbers", "f1", interval),),
        headroom=(HeadroomRow("gold rubric shown", Interval(0.93, 0.91, 0.95, 40)),),
        curves=(
            Curve("rcsd", "divergence", "nats per token", (1, 2, 3), (0.5, 0.3, 0.2)),
            Curve("shuffled", "divergence", "nats per token", (1, 2, 3), (0.6, 0.5, 0.4)),
        ),
        relations=(
            Relation("headroom and gain", "headroom", "gain", (("rcsd", 0.85, 0.42),), "r = 0.91"),
        ),
        criteria=(
            CriterionShares("states the formula", {"base": 0.41, "rcsd": 0.95}, num_verdicts=320),
            CriterionShares("leaves out the unit", {"base": 0.38, "rcsd": 0.0}, violation=True),
        ),
        samples=(
            Sample(
                question="How much energy?",
                answers=(
                    SampleAnswer("base", "2100", (False, None), 0.0, False),
                    SampleAnswer("rcsd", answer, (True, False), 1.0, True),
                ),
                criteria=(SampleCriterion("boxes it", 3), SampleCriterion("no unit", -2)),
                reference_answer="126 kJ",
            ),
        ),
        facts={"seed": 0, "dropped prompts": 2},
    )


def html_of(page: ReportPage, folder: Path) -> str:
    write_report(page, folder / "report.html")
    return (folder / "report.html").read_text(encoding="utf-8")


# The page


def test_full_page_has_every_section_and_number(tmp_path: Path):
    structure = Structure(html_of(full_page(), tmp_path))
    assert [name for name in structure.ids if not name.endswith("-title")] == list(SECTIONS)
    assert len(set(structure.ids)) == len(structure.ids)
    for words in (
        "Does the rubric teach?",
        "micro, seed 0, 212 seconds",
        "The placebo gains less.",
        "0.61 [0.52, 0.73]",
        "new numbers n = 38 to 40",
        "+0.42 [+0.30, +0.50] < 0.001 40",
        "share of answers, lower is better",
        "n = 320",
        "Reference answer: 126 kJ",
        "boxes it +3 ✗ not met ✓ met",
        f"no unit {MINUS}2 ? unscored ✓ avoided",
        "score 1.00 ✓ right answer",
        "dropped prompts 2",
    ):
        assert words in structure.text


def test_sections_without_rows_are_left_out(tmp_path: Path):
    page = ReportPage("A run", curves=(Curve("train", "loss", "nats", (1, 2), (2.0, 1.0)),))
    structure = Structure(html_of(page, tmp_path))
    assert structure.ids == ["curves", "curves-title"]
    assert structure.addresses == ["data:,", "#curves"]
    assert "legend" not in re.sub(r"<style>.*?</style>", "", html_of(page, tmp_path), flags=re.S)


def test_page_with_a_title_alone_is_a_page(tmp_path: Path):
    assert "Empty" in Structure(html_of(ReportPage("Empty"), tmp_path)).text


def test_page_loads_nothing_and_runs_nothing(tmp_path: Path):
    text = html_of(full_page(), tmp_path)
    structure = Structure(text)
    assert all(a.startswith("#") or a == "data:," for a in structure.addresses)
    assert {a[1:] for a in structure.addresses if a.startswith("#")} <= set(structure.ids)
    assert not {"script", "iframe", "object", "embed", "base", "img"} & set(structure.tags)
    assert not re.search(r"https?:|url\(|@import|javascript:", text)
    assert "default-src 'none'" in text
    assert 'name="viewport"' in text
    assert "prefers-color-scheme: dark" in text
    assert len(text) < 100_000


def nasty_page() -> ReportPage:
    curve = Curve(NASTY, NASTY, NASTY, (1, 2), (1.0, 2.0))
    return ReportPage(
        title=NASTY,
        subtitle=NASTY,
        lead=(NASTY,),
        arms=(Arm(NASTY, NASTY),),
        estimates=(Estimate(NASTY, NASTY, NASTY, Interval(0.5, 0.4, 0.6, 3)),),
        differences=(Difference(NASTY, NASTY, NASTY, Interval(0.5, 0.4, 0.6, 3)),),
        rubrics=(Estimate(NASTY, NASTY, NASTY, Interval(0.5, 0.4, 0.6, 3)),),
        headroom=(HeadroomRow(NASTY, Interval(0.5, 0.4, 0.6, 3)),),
        curves=(curve, Curve("other", NASTY, NASTY, (1, 2), (1.0, 2.0))),
        relations=(Relation(NASTY, NASTY, NASTY, ((NASTY, 0.5, 0.5),), NASTY),),
        criteria=(CriterionShares(NASTY, {NASTY: 0.5}),),
        samples=(
            Sample(
                NASTY,
                (SampleAnswer(NASTY, NASTY, (True,)),),
                (SampleCriterion(NASTY, 1),),
                reference_answer=NASTY,
            ),
        ),
        facts={NASTY: NASTY},
        interval_note=NASTY,
    )


def test_no_text_of_any_field_becomes_markup(tmp_path: Path):
    text = html_of(nasty_page(), tmp_path)
    structure = Structure(text)
    assert not {"script", "img"} & set(structure.tags)
    assert structure.handlers == []
    assert "<script" not in text
    assert structure.text.count(NASTY) >= 15
    for name in FIGURES:
        tags = {element.tag for element in ElementTree.fromstring(figure_svg(nasty_page(), name))}
        assert not any("script" in tag or "img" in tag for tag in tags)


def test_a_completion_is_shown_as_it_is(tmp_path: Path):
    structure = Structure(html_of(full_page("first\n  <b>second</b>\n\tthird"), tmp_path))
    assert "first\n  <b>second</b>\n\tthird" in structure.words


def test_control_characters_are_shown_and_not_obeyed(tmp_path: Path):
    text = html_of(full_page("\x1b[31mred\x1b[0m\x00\x07 \u202eevil\u2066 \ud800 \x9b1m"), tmp_path)
    expected = "<U+001B>[31mred<U+001B>[0m<U+0000><U+0007> <U+202E>evil<U+2066> <U+D800> <U+009B>1m"
    assert expected in Structure(text).words
    assert not re.search("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]", text)


def test_other_alphabets_and_line_ends_stay():
    assert visible_text("naïve 物理 µ→∞ 👩‍🔬\r\n\tb") == "naïve 物理 µ→∞ 👩‍🔬\n\tb"
    assert visible_text("a\rb\uffff") == "a<U+000D>b<U+FFFF>"


# Writing


def test_writing_replaces_the_old_file_and_leaves_nothing_beside_it(tmp_path: Path):
    path = tmp_path / "new" / "folder" / "report.html"
    write_report(ReportPage("first"), path)
    write_report(ReportPage("second"), path)
    assert "second" in path.read_text(encoding="utf-8")
    assert list(path.parent.iterdir()) == [path]


def test_a_path_that_cannot_be_written_is_a_user_error(tmp_path: Path):
    (tmp_path / "file").write_text("x")
    with pytest.raises(DataError, match="cannot be written"):
        write_report(ReportPage("page"), tmp_path / "file" / "report.html")
    (tmp_path / "report.html").mkdir()
    with pytest.raises(DataError, match="cannot be written"):
        write_report(ReportPage("page"), tmp_path / "report.html")
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["file", "report.html"]


def test_the_same_rows_give_the_same_bytes(tmp_path: Path):
    assert html_of(full_page(), tmp_path) == html_of(full_page(), tmp_path)


def test_report_needs_no_torch():
    code = "import sys, rcsd.evaluation.report; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)


# Figures


def test_whisker_and_marker_lie_where_the_numbers_say():
    # Four letters of 12.5 * 0.56 and a gap of 16: the axis goes from 44 (0) to 370 - 46 = 324 (1).
    page = ReportPage(
        "page",
        arms=(Arm("base"),),
        estimates=(Estimate("base", "test", "score", Interval(0.5, 0.25, 0.75, 9)),),
    )
    shapes = score_figure(page).panels[0].shapes
    whisker = next(s for s in shapes if isinstance(s, Line) and s.css.startswith("whisker"))
    marker = next(s for s in shapes if isinstance(s, Mark))
    assert (whisker.x1, marker.x, whisker.x2) == pytest.approx((114, 184, 254))
    assert whisker.y1 == whisker.y2 == marker.y == 32 + 15
    ticks = {s.text: s.x for s in shapes if isinstance(s, Label) and "tick" in s.css}
    assert ticks == pytest.approx({"0": 44, "0.25": 114, "0.50": 184, "0.75": 254, "1.00": 324})
    svg = ElementTree.fromstring(figure_svg(page, "scores"))
    lines = [e for e in svg.findall(".//{*}line") if e.get("class") == "whisker a0"]
    assert [(e.get("x1"), e.get("x2")) for e in lines] == [("114", "254")]


def test_splits_differ_by_marker_and_missing_cells_stay_empty():
    figure = score_figure(full_page())
    assert [key.marker for key in figure.keys] == ["circle", "diamond"]
    score, accuracy = figure.panels
    assert [s.marker for s in score.shapes if isinstance(s, Mark)] == [
        "circle",
        "diamond",
        "circle",
    ]
    assert [s.css for s in accuracy.shapes if isinstance(s, Mark)] == ["marker m0 a0"]


def test_bars_are_as_long_as_their_shares():
    from_page = FIGURES["criteria"](full_page())
    bars = [
        s
        for panel in from_page.panels
        for s in panel.shapes
        if isinstance(s, Bar) and s.css != "track"
    ]
    assert [bar.width / 324 for bar in bars] == pytest.approx([0.41, 0.95, 0.38, 0.0])
    assert [bar.css for bar in bars] == ["bar a1", "bar a0"] * 2
    assert "lower is better" in from_page.panels[1].description


def test_values_that_are_not_finite_break_the_line_and_are_counted():
    nan = float("nan")
    curve = Curve("train", "loss", "", (0, 1, 2, 3, 4), (1.0, 0.5, nan, 0.25, 0.0))
    shapes = curve_figure(ReportPage("page", curves=(curve,))).panels[0].shapes
    (trace,) = [s for s in shapes if isinstance(s, Trace)]
    assert [len(run) for run in trace.runs] == [2, 2]
    assert trace.runs[0][0][1] == 30.0
    assert trace.runs[1][1][1] == 172.0
    assert "step · 1 not finite, left out" in [s.text for s in shapes if isinstance(s, Label)]


def test_a_value_alone_between_gaps_is_still_drawn():
    nan = float("nan")
    curve = Curve("train", "loss", "", (0, 1, 2, 3, 4), (1.0, nan, 0.5, nan, 0.0))
    svg = figure_svg(ReportPage("page", curves=(curve,)), "curves")
    assert len(re.findall(r"M[\d. ]+h0", svg)) == 3


def test_a_line_of_nothing_finite_is_an_empty_panel():
    curve = Curve("train", "loss", "", (0, 1), (float("nan"), float("inf")))
    svg = figure_svg(ReportPage("page", curves=(curve,)), "curves")
    assert "2 not finite, left out" in svg


def test_long_lines_are_drawn_as_means_and_say_so():
    steps = tuple(range(4 * MAX_POINTS))
    curve = Curve("train", "loss", "", steps, tuple(float(step % 4) for step in steps))
    shapes = curve_figure(ReportPage("page", curves=(curve,))).panels[0].shapes
    (trace,) = [s for s in shapes if isinstance(s, Trace)]
    assert len(trace.runs[0]) == MAX_POINTS
    assert len({y for _, y in trace.runs[0]}) == 1  # each mean of 0, 1, 2, 3 is 1.5
    assert "step · means over up to 4 points" in [s.text for s in shapes if isinstance(s, Label)]


@pytest.mark.parametrize("name", sorted(FIGURES))
def test_every_figure_stands_alone_as_well_formed_svg(name: str):
    root = ElementTree.fromstring(figure_svg(full_page(), name))
    assert root.tag == "{http://www.w3.org/2000/svg}svg"
    left, top, width, height = map(float, root.attrib["viewBox"].split())
    assert (left, top) == (-20, -20)
    labels = root.findall(".//{*}text")
    assert labels
    for label in labels:
        assert 0 <= float(label.attrib["x"]) <= width
        assert 0 <= float(label.attrib["y"]) <= height


def test_a_figure_without_rows_or_name_is_a_user_error():
    with pytest.raises(UserError, match="no rows"):
        figure_svg(ReportPage("page"), "scores")
    with pytest.raises(
        UserError, match="there are scores, rubrics, criteria, headroom, relations, curves"
    ):
        figure_svg(full_page(), "tables")


def test_the_highlighted_arm_has_the_accent_and_else_the_first_one():
    assert arm_styles(("base", "rcsd", "x"), frozenset({"rcsd"})) == {
        "base": "a1",
        "rcsd": "a0",
        "x": "a2",
    }
    assert arm_styles(("train", "eval"), frozenset()) == {"train": "a0", "eval": "a1"}


# Scales and numbers


def test_scales_end_on_round_numbers():
    scale = round_scale([0.03, 0.17], 0, 100)
    assert (scale.low, scale.high) == (0, 0.2)
    assert [text for _, text in scale.ticks()] == ["0", "0.05", "0.10", "0.15", "0.20"]
    around_zero = round_scale([-0.03, 0.17], 0, 100)
    assert [text for _, text in around_zero.ticks()][:2] == [f"{MINUS}0.05", "0"]
    assert round_scale([70.0, 110.0], 0, 1, num_ticks=4, from_zero=False).low == 70


@pytest.mark.parametrize("values", [[], [0.0], [5.0], [-2.0, -2.0], [1e-9], [3e12, 3e12]])
def test_scales_of_values_without_spread_are_still_scales(values: list[float]):
    for scale in (round_scale(values, 0, 1, from_zero=False), spanning_scale(values, 0, 1)):
        assert scale.low < scale.high
        assert all(-1e-9 <= scale(value) <= 1 + 1e-9 for value in values)


def test_shares_have_the_whole_axis_unless_all_are_small():
    assert share_scale([0.1, 0.9], 0, 1).high == 1.0
    assert share_scale([0.02, 0.1], 0, 1).high == pytest.approx(0.1)
    assert share_scale([3.0, 8.0], 0, 1).high == 8.0


def test_steps_span_the_axis():
    scale = spanning_scale([1, 50], 0, 98, num_ticks=4)
    assert (scale(1), scale(50)) == (0, 98)
    assert [text for _, text in scale.ticks()] == ["20", "40"]


def test_ticks_have_the_decimals_of_their_step():
    assert tick_label(0.5, 0.25) == "0.50"
    assert tick_label(20.0, 20.0) == "20"
    assert tick_label(2.5, 2.5) == "2.5"
    assert tick_label(2e-5, 1e-5) == f"2e{MINUS}5"
    assert tick_label(1500.0, 500.0) == "1,500"
    assert Scale(0, 1, 0, 1, 0.25).ticks()[2] == (0.5, "0.50")


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0, "0.00"),
        (0.825, "0.82"),
        (-0.12, f"{MINUS}0.12"),
        (12.34, "12.3"),
        (1234.5, "1,234"),
        (0.004, "0.004"),
        (0.00003, f"3e{MINUS}5"),
    ],
)
def test_numbers_are_short(value: float, text: str):
    assert number(value) == text


def test_signs_and_p_values_are_written_out():
    assert number(0.12, signed=True) == "+0.12"
    assert number(0.0, signed=True) == "0.00"
    assert [p_value_text(p) for p in (0.0002, 0.034, None)] == ["< 0.001", "0.034", NOTHING]


def test_long_names_are_cut_or_wrapped():
    assert shortened("a long name", 40, 10) == "a long…"
    assert shortened("short", 40, 10) == "short"
    assert wrapped("one two three", 60, 10, max_lines=3) == ["one two", "three"]
    assert wrapped("one two three four five six", 60, 10, max_lines=2)[-1].endswith("…")
    assert wrapped("", 60, 10, max_lines=2) == [""]


# The terminal


def printed(page: ReportPage, width: int = 80) -> str:
    console = Console(width=width, force_terminal=False, record=True, file=None, quiet=False)
    with console.capture() as capture:
        console.print(terminal_table(page))
    return capture.get()


def test_terminal_table_fits_80_columns():
    page = full_page()
    text = printed(page)
    assert max(map(len, text.splitlines())) <= 80
    for words in ("new templates", "accuracy", "n = 30", "[0.25, 0.75]", "0.61", NOTHING):
        assert words in text
    assert "…" not in text


def test_terminal_table_obeys_no_markup_and_no_escapes():
    page = ReportPage(
        "page",
        estimates=(Estimate("[red]x\x1b[0m", "[b]s", "m", Interval(0.5, 0.4, 0.6, 3)),),
    )
    text = printed(page)
    assert "[red]x<U+001B>[0m" in text
    assert "[b]s" in text
    assert "\x1b" not in text


# Errors


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: Curve("a", "m", "", (1, 2), (1.0,)), "2 steps and 1 values"),
        (lambda: CriterionShares("k", {"a": float("nan")}), "must be in"),
        (lambda: CriterionShares("k", {"a": 1.2}), "must be in"),
        (lambda: Sample("q", (SampleAnswer("a", "t", (True,)),)), "1 verdicts on 0 criteria"),
        (lambda: ReportPage("t", arms=(Arm("a"), Arm("a"))), "unique"),
        (
            lambda: ReportPage("t", headroom=(HeadroomRow("x", Interval(float("nan"), 0, 1, 2)),)),
            "not finite",
        ),
        (
            lambda: ReportPage(
                "t", estimates=(Estimate("a", "s", "m", Interval(0.5, 0.4, 0.6, 3)),) * 2
            ),
            "twice",
        ),
    ],
)
def test_rows_that_would_mislead_are_refused(build: Any, message: str):
    with pytest.raises(ValueError, match=message):
        build()
