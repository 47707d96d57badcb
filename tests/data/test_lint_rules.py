import json
from collections.abc import Iterable
from pathlib import Path

import pytest

from rcsd.data.check import Finding, check_rubrics, rubric_findings
from rcsd.data.importers import import_rows
from rcsd.data.rows import write_jsonl
from rcsd.data.words import content_words, text_similarity
from rcsd.data.world.problems import examples
from rcsd.types import Criterion, Example, Rubric

RAR = Path(__file__).parents[3] / "shared" / "data" / "rar_science_dev.jsonl"


def example(
    *criteria: tuple[str, float], id: str = "a", question: str = "Why?", answer: str | None = None
) -> Example:
    rubric = Rubric(tuple(Criterion(text, weight) for text, weight in criteria))
    return Example(id, question, answer, rubric=rubric)


def lint(*examples: Example) -> list[Finding]:
    return list(rubric_findings(list(enumerate(examples, 1))))


def fields(findings: Iterable[Finding], rule: str) -> list[str | None]:
    """Fields of the findings of a rule."""
    return [finding.field for finding in findings if finding.rule == rule]


def rules(*criteria: tuple[str, float], **more: str) -> set[str]:
    return {finding.rule for finding in lint(example(*criteria, **more))}


FINE = (
    ("Names Rayleigh scattering.", 5),
    ("Says how it depends on the wavelength.", 3),
    ("Blames reflection from the sea.", -4),
)

# Words


def test_content_words_leave_out_how_criteria_are_phrased():
    assert content_words("The response must clearly state the Boltzmann factor.") == [
        "boltzmann", "factor",
    ]  # fmt: skip
    assert content_words("Is correct.") == ["is", "correct"]
    assert content_words(" ... ") == []


def test_similarity_is_high_for_one_demand_in_two_wordings_alone():
    demand = "Explains how scattering depends on the wavelength."
    assert text_similarity(demand, demand.upper()) == 1.0
    assert text_similarity(demand, "The answer must say how scattering depends on wavelength") > 0.8
    assert text_similarity(demand, "Names scattering.") < 0.7
    assert text_similarity(demand, "Gives the unit.") < 0.4
    assert text_similarity(demand, "...") == 0.0


# Rules


def test_a_good_rubric_has_no_finding():
    assert lint(example(*FINE)) == []


@pytest.mark.parametrize(
    ("criteria", "rule", "field"),
    [
        ([("...", 2), ("Names scattering.", 1), ("Errs.", -1)], "wordless", "rubric[0]"),
        ([*FINE, ("The response must name Rayleigh scattering.", 2)], "repeated", "rubric[3]"),
        ([*FINE, ("Avoids blaming the ocean.", -2)], "polarity", "rubric[3]"),
        ([*FINE, ("Does not confuse ozone and oxygen.", -2)], "polarity", "rubric[3]"),
        ([*FINE, ("The response fails to mention ozone.", 2)], "polarity", "rubric[3]"),
        (FINE[:1], "size", None),
        ([(f"Names item {n}.", n) for n in range(1, 22)], "size", None),
    ],
)
def test_a_mistake_is_found_where_it_is(
    criteria: list[tuple[str, float]], rule: str, field: str | None
):
    assert fields(lint(example(*criteria)), rule) == [field]


def test_criteria_that_differ_in_a_figure_do_not_repeat_each_other():
    demands = [
        (f"Accurately calculates the moles of {acid} from molarity times volume in liters.", weight)
        for acid, weight in (("HClO4", 3), ("H2SO4", 2))
    ]
    assert "repeated" not in rules(*FINE, *demands)


LONG = "wash hands after handling and avoid eating it now"


@pytest.mark.parametrize(
    ("answer", "question", "text", "is_given"),
    [
        ("A = i/√13", "Why?", "Presents the result  a=i / √13 in normal form.", True),
        ("20", "Why?", "Predicts 20 more for each step.", True),
        (LONG, "Why?", "Says to wash hands after handling and avoid eating it with bread.", True),
        ("2", "Why?", "Balances N2 + 3 H2 to 2 NH3.", False),
        ("A", "Why?", "A good answer names the sun.", False),
        ("20", "A ball of 20 g falls.", "Takes the 20 g from the question.", False),
        ("20", "Why?", "Finds 20.5 or 120 or 1,20.", False),
        ("724 N", "Why?", "Finds 1724 N or 724 Nm.", False),
    ],
)
def test_the_reference_answer_is_found_in_a_criterion_where_it_says_something(
    answer: str, question: str, text: str, is_given: bool
):
    assert ("answer given" in rules(*FINE, (text, 2), answer=answer, question=question)) == is_given


# Files


def test_a_file_without_rubrics_is_an_error_of_the_whole_file(tmp_path: Path):
    write_jsonl([Example("a", "Why?"), Example("b", "How?")], tmp_path / "rows.jsonl")
    report = check_rubrics(tmp_path / "rows.jsonl")
    (first,) = report.findings
    assert (first.rule, first.severity, first.id, first.line) == ("no rubric", "error", None, None)
    assert first.message == "no rubric in the file: none of its rows (2) has one"
    assert report.json()["rules"]["no rubric"]["num_rows"] == 0


def test_the_report_is_json_and_counts_each_rule(tmp_path: Path):
    rows = [example(*FINE, ("...", 1), ("!", 1)), example(*FINE[:1], id="b")]
    write_jsonl(rows, tmp_path / "rows.jsonl")
    value = json.loads(json.dumps(check_rubrics(tmp_path / "rows.jsonl").json()))
    assert value["rules"]["wordless"] == {"severity": "error", "num_findings": 2, "num_rows": 1}
    assert value["severities"] == {"error": 2, "warning": 1, "info": 0}
    assert value["findings"][0] == {
        "severity": "error", "rule": "wordless", "id": "a", "line": 1, "field": "rubric[3]",
        "message": "'...' holds no word",
    }  # fmt: skip


def test_the_worlds_gold_is_clean(tmp_path: Path):
    write_jsonl(examples("train", 100, 0), tmp_path / "world.jsonl")
    by_rule = check_rubrics(tmp_path / "world.jsonl").by_rule()
    counts = {rule: len({f.line for f in findings}) for rule, findings in by_rule.items()}
    assert counts.pop("answer given", 0) <= 2  # a step that happens to equal the answer
    assert counts == {}


@pytest.mark.skipif(not RAR.exists(), reason="needs ../shared/data")
def test_rars_gold_is_clean_but_gives_answers_away(tmp_path: Path):
    write_jsonl(import_rows(str(RAR), "rar")[0], tmp_path / "rar.jsonl")
    report = check_rubrics(tmp_path / "rar.jsonl")
    rows = {rule: len({f.line for f in findings}) for rule, findings in report.by_rule().items()}
    assert not report.fails("warning")
    assert 40 <= rows["answer given"] <= 65
