from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import pytest

from rcsd.data.world.problems import examples
from rcsd.data.written import read_completions
from rcsd.errors import DataError
from rcsd.evaluation.rubric_agreement import (
    criterion_pairs,
    measure_agreement,
    measure_rows,
    order_agreement,
)
from rcsd.types import Criterion, Example, Rubric

NONE: Mapping[str, list[str]] = {}


def says(word: str, weight: float) -> Criterion:
    return Criterion(f"{word.title()}.", weight, check={"type": "contains", "text": word})


def rubric(*criteria: Criterion) -> Rubric:
    return Rubric(criteria)


def example(*criteria: Criterion, id: str = "a") -> Example:
    return Example(id, "Why?", rubric=Rubric(criteria))


GOLD = example(says("scattering", 6), says("wavelength", 3), says("reflection", -1))

# Matching


def test_exact_matches_need_the_same_check_and_the_same_sign():
    written = rubric(
        Criterion("In other words.", 1, check={"type": "contains", "text": "wavelength"}),
        says("reflection", 2),
        says("scattering", 4),
        Criterion("Says scattering.", 4),
    )
    assert GOLD.rubric is not None
    assert criterion_pairs(GOLD.rubric, written, True) == [(0, 2), (1, 0)]


def test_of_criteria_with_one_check_those_of_one_title_are_paired():
    check = {"type": "number", "value": 180}
    gold = rubric(Criterion("a", 6, "method", check), Criterion("b", 4, "value", check))
    written = rubric(Criterion("c", 9, "value", check), Criterion("d", 1, "method", check))
    assert criterion_pairs(gold, written, True) == [(0, 1), (1, 0)]


def test_text_matches_maximise_the_summed_similarity():
    gold = rubric(
        Criterion("States that Rayleigh scattering of sunlight makes the sky blue.", 5),
        Criterion("Explains how scattering depends on the wavelength.", 3),
        Criterion("Blames reflection from the sea.", -2),
    )
    written = rubric(
        Criterion(
            "The response must explain how scattering depends on the wavelength of light.", 4
        ),
        Criterion("The answer mentions that Rayleigh scattering makes the sky look blue.", 2),
        Criterion("Blames reflection from the sea.", 2),
        Criterion("Is clear.", 1),
    )
    assert criterion_pairs(gold, written, False) == [(0, 1), (1, 0)]


def test_criteria_match_by_checks_where_a_source_reads_them_else_by_text():
    plain = example(Criterion("Says scattering.", 6))
    written = {"a": rubric(Criterion("Says scattering.", 2))}
    assert measure_agreement([plain], written, NONE).f1.mean == 1
    world = examples("train", 1, 0)
    assert world[0].rubric is not None
    reworded = [replace(c, text="Says so.") for c in world[0].rubric.criteria]
    assert measure_agreement(world, {world[0].id: rubric(*reworded)}, NONE).f1.mean == 1


# By hand


def test_precision_and_recall_are_shares_of_points():
    written = rubric(says("scattering", 2), says("scattering", 1), says("sky", -5))
    found = measure_agreement([GOLD], {"a": written}, NONE)
    row = found.rows[0]
    assert row.num_pairs == 1
    assert row.precision == pytest.approx(2 / 8)  # said twice: the second time is in vain
    assert row.recall == pytest.approx(6 / 10)
    assert row.f1 == pytest.approx(2 * 0.25 * 0.6 / 0.85)
    assert (found.num_rows, found.num_written, found.num_pairs) == (1, 3, 1)
    assert found.precision.mean == pytest.approx(0.25)
    assert found.verdict_agreement is None


@pytest.mark.parametrize(
    ("gold", "written", "expected"),
    [
        ([3, 2, 1], [9, 5, 4], 1.0),
        ([3, 2, 1], [1, 2, 3], 0.0),
        ([3, 2, 1], [0, 0, 0], 0.5),
        ([3, 2, 1], [2, 2, 1], 2.5 / 3),
        ([3, 3, 1], [1, 5, 0], 1.0),  # what gold does not order is not looked at
        ([1, 1, 1], [1, 2, 3], None),
        ([1], [1], None),
    ],
)
def test_order_agreement_is_the_share_of_ordered_pairs(
    gold: list[float], written: list[float], expected: float | None
):
    assert order_agreement(gold, written) == (None if expected is None else pytest.approx(expected))


def test_answers_are_ordered_by_points_that_are_not_clipped():
    gold = example(says("good", 1), says("bad", -2), says("worse", -3))
    texts = {"a": ["bad", "worse"]}  # both score 0
    written = {"a": rubric(says("good", 1), says("bad", -1), says("worse", -2))}
    found = measure_agreement([gold], written, texts)
    assert found.verdict_agreement is not None
    assert found.verdict_agreement.mean == 1.0


def test_criteria_without_a_verdict_order_nothing_and_are_counted():
    written = {"a": rubric(says("scattering", 1), Criterion("Is deep.", 9))}
    texts = {"a": ["scattering", "nothing", "wavelength"]}
    found = measure_agreement([GOLD], written, texts)
    assert found.rows[0].num_unscored == found.num_unscored == 1
    # Gold: 6, 0, 3; written: 1, 0, 0; so two pairs alike and one tie.
    assert found.rows[0].verdict_agreement == pytest.approx(2.5 / 3)


def test_a_missing_rubric_is_an_error_and_counts_as_one_that_says_nothing_in_training():
    other = example(says("sky", 1), id="b")
    written, texts = {"b": rubric(says("sky", 1))}, {"a": ["scattering", "no"], "b": ["sky", "no"]}
    with pytest.raises(DataError, match=r"no written rubric for 1 of 2 gold ids: 'a'"):
        measure_agreement([GOLD, other], written, texts)
    rows = measure_rows([GOLD, other], written, texts)
    assert [(row.precision, row.recall, row.f1) for row in rows] == [(0, 0, 0), (1, 1, 1)]
    assert [row.verdict_agreement for row in rows] == [0.5, 1.0]


# Files


def test_completions_are_read_by_id(tmp_path: Path):
    path = tmp_path / "rows.jsonl"
    path.write_text('{"id": "a", "text": "x"}\n{"id": "z", "text": "y"}\n{"id": "a", "text": ""}\n')
    assert read_completions([path, path], [GOLD]) == {"a": ["x", "", "x", ""]}
    assert read_completions([], [GOLD]) == {}


@pytest.mark.parametrize(
    ("line", "gold", "message"),
    [
        ('{"text": "x"}', GOLD, r"rows.jsonl:1: field 'id'"),
        ('{"id": "z", "text": "x"}', GOLD, "no completion is of a gold row"),
        ('{"id": "a", "text": "x"}', example(Criterion("Deep.", 1)), "no criterion of gold has"),
    ],
)
def test_completions_that_order_nothing_are_named(
    tmp_path: Path, line: str, gold: Example, message: str
):
    (tmp_path / "rows.jsonl").write_text(line + "\n")
    with pytest.raises(DataError, match=message):
        read_completions([tmp_path / "rows.jsonl"], [gold])


def test_no_gold_and_gold_without_a_rubric_are_errors():
    with pytest.raises(DataError, match="no gold row"):
        measure_agreement([], {}, NONE)
    with pytest.raises(DataError, match="has no rubric"):
        measure_agreement([Example("a", "Why?")], {"a": rubric(says("x", 1))}, NONE)
