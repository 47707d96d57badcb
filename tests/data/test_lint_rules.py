from pathlib import Path

import pytest

from rcsd.data.check import check_rubrics, rubric_findings
from rcsd.data.importers import import_rows
from rcsd.data.rows import write_jsonl
from rcsd.data.words import text_similarity
from rcsd.data.world.problems import examples
from rcsd.types import Criterion, Example, Rubric

RAR = Path(__file__).parents[3] / "shared" / "data" / "rar_science_dev.jsonl"


def example(*criteria: tuple[str, float]) -> Example:
    return Example("a", "Why?", rubric=Rubric(tuple(Criterion(*each) for each in criteria)))


def lint(*criteria: tuple[str, float]) -> list[tuple[str, str | None]]:
    """Rule and field of each finding."""
    return [(f.rule, f.field) for f in rubric_findings([(1, example(*criteria))])]


FINE = (
    ("Names Rayleigh scattering.", 5),
    ("Says how it depends on the wavelength.", 3),
    ("Blames reflection from the sea.", -4),
)

# Words


def test_similarity_is_high_for_one_demand_in_two_wordings_alone():
    demand = "Explains how scattering depends on the wavelength."
    assert text_similarity(demand, "The answer must say how scattering depends on wavelength") > 0.8
    assert text_similarity(demand, "Names scattering.") < 0.7
    assert text_similarity(demand, "...") == 0.0


# Rules


def test_a_good_rubric_has_no_finding():
    assert lint(*FINE) == []


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
    assert lint(*criteria) == [(rule, field)]


def test_criteria_that_differ_in_a_figure_do_not_repeat_each_other():
    demands = [
        (f"Accurately calculates the moles of {acid} from molarity times volume in liters.", weight)
        for acid, weight in (("HClO4", 3), ("H2SO4", 2))
    ]
    assert lint(*FINE, *demands) == []


# Files


def test_a_file_without_rubrics_is_an_error_of_the_whole_file(tmp_path: Path):
    write_jsonl([Example("a", "Why?"), Example("b", "How?")], tmp_path / "rows.jsonl")
    report = check_rubrics(tmp_path / "rows.jsonl")
    (first,) = report.findings
    assert (first.rule, first.severity, first.id, first.line) == ("no rubric", "error", None, None)
    assert first.message == "no rubric in the file: none of its rows (2) has one"


def test_the_worlds_gold_is_clean(tmp_path: Path):
    write_jsonl(examples("train", 100, 0), tmp_path / "world.jsonl")
    assert check_rubrics(tmp_path / "world.jsonl").findings == ()


@pytest.mark.skipif(not RAR.exists(), reason="needs ../shared/data")
def test_rars_gold_is_clean(tmp_path: Path):
    write_jsonl(import_rows(str(RAR), "rar")[0], tmp_path / "rar.jsonl")
    assert check_rubrics(tmp_path / "rar.jsonl").findings == ()
