import itertools
import random
from collections import Counter
from typing import get_args

import pytest

from rcsd.data.world.families import TEMPLATES, Draft
from rcsd.data.world.problems import (
    Split,
    Style,
    demands,
    drawn_problem,
    example,
    examples,
    problems,
    redraw_draft,
    written_answer,
)
from rcsd.data.world.reading import ALWAYS, NEVER, read_rubric
from rcsd.errors import DataError
from rcsd.graders.answers import grade_example
from rcsd.graders.checks import met
from rcsd.graders.code import CodeJudge
from rcsd.types import Criterion, Example, Rubric, rubric_score

SPLITS = get_args(Split)
STRONG = Style(principle=True, formula=True, steps=True, unit=True, boxed=True, answer_line=False)
FORMS = ("formula", "principle", "unit", "no unit", "boxed", "answer line", "no working")


def drawn(name: str, num_drafts: int = 20) -> list[tuple[Draft, Example]]:
    rng = random.Random(name)
    source = (drawn_problem(TEMPLATES[name], rng) for _ in range(num_drafts))
    return [(problem.draft, example(problem, rng, "e")) for problem in source]


def right(row: Example, text: str) -> bool | None:
    return grade_example(row, text).verdict


@pytest.mark.parametrize("name", TEMPLATES)
def test_right_answers_meet_every_demand_and_habits_fail_the_method_and_the_answer(name: str):
    for draft, row in drawn(name):
        assert redraw_draft(row) == draft
        assert row.rubric is not None
        assert row.solution is not None
        text = written_answer(draft, (True,) * len(draft.forks), STRONG)
        verdicts = CodeJudge().verdicts(row, text)
        assert verdicts == [criterion.weight > 0 for criterion in row.rubric.criteria], text
        assert right(row, text) is True, text
        assert right(row, row.solution) is True
        text = written_answer(draft, (False,) * len(draft.forks), STRONG)
        verdicts = CodeJudge().verdicts(row, text)
        pairs = zip(row.rubric.criteria, verdicts, strict=True)
        titles = Counter(criterion.title for criterion, verdict in pairs if verdict)
        assert titles["method"] < len(draft.forks), text
        assert titles["mistake"] == 1, text
        assert right(row, text) is False, text
        assert rubric_score(row.rubric, verdicts) < 0.8, text


@pytest.mark.parametrize("name", TEMPLATES)
def test_marks_tell_right_from_habit_at_each_fork_and_each_form_apart(name: str):
    for draft, _ in drawn(name):
        for choices in draft.workings:
            text = written_answer(draft, choices, STRONG)
            for fork, choice in zip(draft.forks, choices, strict=True):
                assert met(fork.right_mark, text) == choice, text
                assert met(fork.habit_mark, text) != choice, text
    for draft, _ in drawn(name, 5):
        every = demands(draft)
        for bits in itertools.product((True, False), repeat=6):
            style = Style(*bits)
            text = written_answer(draft, (True,) * len(draft.forks), style)
            assert {
                key: met(demand.check, text) for key, demand in every.items() if key in FORMS
            } == {
                "formula": style.formula,
                "principle": style.principle,
                "unit": style.unit,
                "no unit": not style.unit,
                "boxed": style.boxed,
                "answer line": style.answer_line,
                "no working": not style.steps,
            }, text


def test_gold_rubrics_have_four_to_eight_criteria_some_of_them_negative():
    for row in examples("train", 300, 0) + examples("new_templates", 100, 0):
        assert row.rubric is not None
        assert 4 <= len(row.rubric.criteria) <= 8
        assert {"method", "mistake", "unit", "boxed"} <= {c.title for c in row.rubric.criteria}


@pytest.mark.parametrize("split", SPLITS)
def test_the_same_seed_gives_the_same_examples(split: Split):
    rows = examples(split, 50, 0)
    assert rows == examples(split, 50, 0)
    assert rows != examples(split, 50, 1)
    assert len({row.id for row in rows}) == len({row.question for row in rows}) == 50


def test_splits_share_no_question_and_no_numbers():
    questions = [{row.question for row in examples(split, 100, 0)} for split in SPLITS]
    drawn_from = [itertools.islice(problems(split, random.Random(0)), 200) for split in SPLITS]
    numbers = [{(p.template.name, p.draft.right.steps) for p in of} for of in drawn_from]
    for sets in (questions, numbers):
        for a, b in itertools.combinations(sets, 2):
            assert not a & b


@pytest.mark.parametrize(
    ("tags", "field"),
    [
        ({}, "tags.template"),
        ({"template": "kelvin"}, "tags.draws"),
        ({"template": "kelvin", "draws": "x"}, "tags.draws"),
        ({"template": "kelvin", "draws": "1 0 1"}, "tags.draws"),
    ],
)
def test_tags_that_do_not_lead_to_the_question_are_refused(tags: dict[str, str], field: str):
    with pytest.raises(DataError, match="example 'e'") as caught:
        redraw_draft(Example("e", "What is 30 C on the Kelvin scale?", tags=tags))
    assert caught.value.field == field


def test_no_more_problems_than_there_are_is_an_error(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("rcsd.data.world.problems.TEMPLATES", {"kelvin": TEMPLATES["kelvin"]})
    with pytest.raises(DataError, match="fewer than 30 distinct problems"):
        examples("new_numbers", 30, 0)


# Criteria read back from their words


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
    for row in examples(split, 200, 3):
        assert row.rubric is not None
        assert read_rubric(row, bare(row.rubric)) == row.rubric


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
        ("Ends with the unit mol/L.", "unit", {"type": "unit", "unit": "mol/L"}),
        (
            "Ends without a unit.",
            "no unit",
            {"type": "not", "check": {"type": "unit", "unit": "K"}},
        ),
        (r"Ends with a result in \boxed{}.", "boxed", {"type": "boxed"}),
        ("Is clear and complete.", "general", ALWAYS),
        ("Finds the way.", "unread", None),
        ("Finds nan s on the way.", "unread", None),
        ("It is great.", "unread", None),
    ],
)
def test_sentences_are_read(text: str, title: str, check: object):
    found = read_as(text)
    assert (found.text, found.title, found.check) == (text, title, check)


def test_what_is_read_can_be_judged():
    texts = ("Is right.", "Shows the working.", "It keeps the time in minutes.", "Is great.")
    row, written = kelvin(), Rubric(tuple(Criterion(text, 1) for text in texts))
    read = Example(row.id, row.question, rubric=read_rubric(row, written))
    for text, verdicts in {
        "30 + 273 = 303. The answer is 303 K.": [True, True, False, None],
        "303 K": [True, False, False, None],
        " ": [False, False, False, None],
    }.items():
        assert CodeJudge().verdicts(read, text) == verdicts
