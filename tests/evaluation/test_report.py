"""The page, its tables and numbers: complete, escaped, self-contained, the same every time."""

import re
from html.parser import HTMLParser
from pathlib import Path

import pytest

from rcsd.evaluation.report import (
    Arm,
    CriterionShares,
    Curve,
    Estimate,
    ReportPage,
    Sample,
    SampleAnswer,
    write_report,
)
from rcsd.evaluation.statistics import Interval
from rcsd.evaluation.text import MINUS, NOTHING, interval_text, number, p_value_text
from rcsd.types import Criterion

HALF = Interval(0.5, 0.4, 0.6, 3)
VOID_TAGS = {"meta", "link", "br", "hr", "img", "input"}
FIGURES = ("scores", "differences", "rubrics", "criteria", "headroom", "curves")
SECTIONS = (*FIGURES, "samples", "facts")


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
            Estimate("rcsd - base", "new_numbers", "score", Interval(0.42, 0.3, 0.5, 40), 0.0002),
        ),
        rubrics=(Estimate("learned", "new_numbers", "f1", interval),),
        headroom={"gold rubric shown": Interval(0.93, 0.91, 0.95, 40)},
        curves=(
            Curve("rcsd", "divergence", "nats per token", (1, 2, 3), (0.5, 0.3, 0.2)),
            Curve("shuffled", "divergence", "nats per token", (1, 2, 3), (0.6, 0.5, 0.4)),
        ),
        criteria=(
            CriterionShares("states the formula", {"base": 0.41, "rcsd": 0.95}, False, 320),
            CriterionShares("leaves out the unit", {"base": 0.38, "rcsd": 0.0}, True, 320),
        ),
        samples=(
            Sample(
                question="How much energy?",
                answers=(
                    SampleAnswer("base", "2100", (False, None), 0.0, False),
                    SampleAnswer("rcsd", answer, (True, False), 1.0, True),
                ),
                criteria=(Criterion("boxes it", 3), Criterion("no unit", -2)),
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
    assert [name for name in structure.ids if name in SECTIONS] == list(SECTIONS)
    assert len(set(structure.ids)) == len(structure.ids)
    for words in (
        "Does the rubric teach?",
        "micro, seed 0, 212 seconds",
        "The placebo gains less.",
        "0.61 [0.52, 0.73]",
        "new numbers n = 38 to 40",
        "+0.42 [+0.30, +0.50] p < 0.001",
        "n = 320",
        "Reference answer: 126 kJ",
        "boxes it +3 ✗ not met ✓ met",
        f"no unit {MINUS}2 ? unscored ✓ avoided",
        "score 1.00 ✓ right answer",
        "dropped prompts 2",
    ):
        assert words in structure.text
    assert structure.text.count("95% bootstrap intervals") == 4  # at every figure with whiskers


def test_every_figure_has_a_title_its_numbers_in_words_and_a_sentence_on_what_to_see(
    tmp_path: Path,
):
    text = html_of(full_page(), tmp_path)
    drawings = re.findall(r'<svg [^>]*role="img" aria-labelledby="(\S+) (\S+)"', text)
    assert len(drawings) == 8
    for title, description in drawings:
        assert re.search(rf'<title id="{title}">[^<]+</title>', text)
        assert re.search(rf'<desc id="{description}">[^<]*[0-9][^<]*</desc>', text)
    assert text.count('<p class="look">') == 6
    assert "rcsd - base new numbers: +0.42 [+0.30, +0.50]" in text
    assert "leaves out the unit, base: 0.38; leaves out the unit, rcsd: 0.00" in text
    assert "divergence (nats per token) by step: rcsd from 0.50 to 0.20; shuffled from" in text


def test_sections_without_rows_are_left_out(tmp_path: Path):
    page = ReportPage("A run", curves=(Curve("train", "loss", "nats", (1, 2), (2.0, 1.0)),))
    structure = Structure(html_of(page, tmp_path))
    assert structure.ids[:2] == ["curves", "curves-title"]
    assert not {*SECTIONS} - {"curves"} & {*structure.ids}
    assert structure.addresses[:2] == ["data:,", "#curves"]
    assert "legend" not in re.sub(r"<style>.*?</style>", "", html_of(page, tmp_path), flags=re.S)


def test_page_loads_nothing_and_runs_nothing(tmp_path: Path):
    text = html_of(full_page(), tmp_path)
    structure = Structure(text)
    assert all(a.startswith("#") or a == "data:," for a in structure.addresses)
    assert {a[1:] for a in structure.addresses if a.startswith("#")} <= set(structure.ids)
    assert not {"script", "iframe", "object", "embed", "base", "img"} & set(structure.tags)
    assert not re.search(r"https?:|url\(|@import|javascript:", text)
    assert "default-src 'none'" in text
    assert 'name="viewport"' in text
    assert len(text) < 150_000


@pytest.mark.parametrize("verdicts", [(True,), ()])  # none: the judge scored the answer as one
def test_explanations_of_a_judge_are_shown_and_escaped(tmp_path: Path, verdicts: tuple[bool, ...]):
    answer = SampleAnswer("a", "4", verdicts, 1.0, explanations=("<script>\u202eyes</script>",))
    page = ReportPage("t", samples=(Sample("2 + 2?", (answer,), (Criterion("Says 4.", 1),)),))
    text = html_of(page, tmp_path)
    assert text.count("&lt;script&gt;&lt;U+202E&gt;yes&lt;/script&gt;") == 1
    assert "script" not in Structure(text).tags


def test_rows_that_would_hide_each_other_are_refused():
    row = Estimate("a", "s", "m", HALF)
    with pytest.raises(ValueError, match="twice"):
        ReportPage("t", differences=(row, row))


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


def test_signs_and_what_is_missing_are_written_out():
    assert number(0.12, signed=True) == "+0.12"
    assert [p_value_text(p) for p in (0.0002, 0.034, None)] == ["< 0.001", "0.034", NOTHING]
    assert interval_text(None) == NOTHING
