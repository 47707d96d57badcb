from pathlib import Path

import pytest

from rcsd.data.rows import read_jsonl, write_jsonl
from rcsd.data.rubric import parse_rubric, rubric_rows
from rcsd.data.world.problems import GENERALITIES, SPLITS, Split, examples
from rcsd.data.world.reading import ALWAYS, NEVER, read_rubric
from rcsd.errors import DataError
from rcsd.graders.code import CodeJudge
from rcsd.types import Criterion, Example, Rubric

QUESTION = "What is 30 C on the Kelvin scale?"


def kelvin() -> Example:
    """A problem whose right procedure adds 273 and whose habit subtracts from it."""
    rows = [row for row in examples("train", 400, 0) if row.tags["template"] == "kelvin"]
    return rows[0]


def read_as(text: str, weight: float = 1) -> Criterion:
    written = Rubric((Criterion(text, weight), Criterion("Is right.", 1)))
    return read_rubric(kelvin(), written).criteria[0]


def bare(rubric: Rubric) -> Rubric:
    """Text and points alone, as a model writes them."""
    return Rubric(tuple(Criterion(c.text, c.weight) for c in rubric.criteria))


@pytest.mark.parametrize("split", SPLITS)
def test_every_gold_criterion_reads_back_to_its_own_demand(split: Split):
    for row in examples(split, 300, 3):
        assert row.rubric is not None
        assert read_rubric(row, bare(row.rubric)) == row.rubric


def test_it_does_so_after_a_file(tmp_path: Path):
    rows = examples("train", 100, 0)
    write_jsonl(rows, tmp_path / "rows.jsonl")
    for row in read_jsonl(tmp_path / "rows.jsonl"):
        assert row.rubric is not None
        again = read_rubric(row, bare(row.rubric))
        assert rubric_rows(again) == rubric_rows(row.rubric)
        assert parse_rubric(rubric_rows(again)) == again


def test_reading_twice_changes_nothing():
    row = kelvin()
    assert row.rubric is not None
    once = read_rubric(row, bare(row.rubric))
    assert read_rubric(row, once) == once


@pytest.mark.parametrize("weight", [6, -6])
def test_a_phrase_of_this_problem_gets_its_forks_mark_whatever_the_sign(weight: float):
    right = read_as("The working adds 273.", weight)
    habit = read_as("It subtracts from 273.", weight)
    assert (right.title, right.weight, right.check is not None) == ("method", weight, True)
    assert (habit.title, habit.weight, habit.check is not None) == ("mistake", weight, True)
    assert right.check != habit.check


@pytest.mark.parametrize(
    ("text", "title", "check"),
    [
        ("The working converts the minutes to seconds.", "foreign", NEVER),
        ("Finds 180 s on the way.", "value", {"type": "number", "value": 180.0}),
        ("Finds  180 s on\nthe way", "value", {"type": "number", "value": 180.0}),
        ("Ends with the unit mol/L.", "unit", {"type": "unit", "unit": "mol/L"}),
        (
            "Ends without a unit.",
            "no unit",
            {"type": "not", "check": {"type": "unit", "unit": "K"}},
        ),
        (r"Ends with a result in \boxed{}.", "boxed", {"type": "boxed"}),
        ("Is clear and complete.", "general", ALWAYS),
        ("Is right.", "general", ALWAYS),
        ("Finds the way.", "unread", None),
        ("Finds much on the way.", "unread", None),
        ("Finds nan s on the way.", "unread", None),
        ("It is great.", "unread", None),
        ("Names Rayleigh scattering.", "unread", None),
    ],
)
def test_sentences_are_read(text: str, title: str, check: object):
    found = read_as(text)
    assert (found.text, found.title, found.check) == (text, title, check)


def verdicts(text: str, *criteria: str) -> list[bool | None]:
    row, written = kelvin(), Rubric(tuple(Criterion(c, 1) for c in criteria))
    given = Example(row.id, row.question, rubric=read_rubric(row, written))
    return CodeJudge().verdicts(given, text)


def test_what_is_read_can_be_judged():
    asked = ("Is right.", "Shows the working.", "It keeps the time in minutes.", "Is great.")
    assert verdicts("30 + 273 = 303. The answer is 303 K.", *asked) == [True, True, False, None]
    assert verdicts("303 K", *asked) == [True, False, False, None]
    assert verdicts(" ", *asked) == [False, False, False, None]


def test_generalities_are_met_by_every_answer():
    general = [text for text in GENERALITIES if text != "Shows the working."]
    assert verdicts("303 K", *general) == [True] * len(general)


def test_an_example_from_elsewhere_is_refused():
    with pytest.raises(DataError, match="no problem of the rubric world"):
        read_rubric(Example("1", QUESTION), Rubric((Criterion("Is right.", 1),)))
