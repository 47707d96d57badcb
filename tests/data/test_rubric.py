import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rcsd.data.rubric import parse_rubric, rubric_rows
from rcsd.errors import RubricError
from rcsd.types import Criterion, Rubric, rubric_score

ROWS = [
    {"criterion": "Converts.", "weight": 6, "title": "method", "check": {"type": "boxed"}},
    {"criterion": "States é = mc².", "weight": 0.5},
    {"criterion": "Guesses.", "weight": -4},
]

# By hand


def test_rows_become_a_rubric_and_rows_again():
    rubric = parse_rubric(ROWS)
    assert rubric.criteria[0] == Criterion("Converts.", 6, "method", {"type": "boxed"})
    assert rubric.criteria[2] == Criterion("Guesses.", -4)
    assert rubric_rows(rubric) == ROWS


@pytest.mark.parametrize(
    ("verdicts", "score"),
    [
        ([True, True, False], 1.0),
        ([True, False, False], 6 / 6.5),
        ([True, True, True], 2.5 / 6.5),
        ([False, True, True], 0.0),  # -3.5 points, clipped
        ([False, False, False], 0.0),
    ],
)
def test_the_score_is_points_over_positive_points(verdicts: list[bool], score: float):
    assert rubric_score(parse_rubric(ROWS), verdicts) == pytest.approx(score)


def test_an_unscored_criterion_makes_the_score_unknown():
    assert math.isnan(rubric_score(parse_rubric(ROWS), [True, None, False]))


# Laws

WEIGHTS = st.lists(st.integers(-5, 5).filter(bool), max_size=6)


@settings(derandomize=True, deadline=None, max_examples=50)
@given(WEIGHTS, st.integers(1, 5), st.data())
def test_the_score_lies_between_0_and_1_and_a_violation_never_raises_it(
    weights: list[int], positive: int, data: st.DataObject
):
    rubric = Rubric(tuple(Criterion("c", weight) for weight in [*weights, positive]))
    size = len(rubric.criteria)
    verdicts = data.draw(st.lists(st.booleans(), min_size=size, max_size=size))
    score = rubric_score(rubric, verdicts)
    assert 0 <= score <= 1
    for index, criterion in enumerate(rubric.criteria):
        met = rubric_score(rubric, [*verdicts[:index], True, *verdicts[index + 1 :]])
        unmet = rubric_score(rubric, [*verdicts[:index], False, *verdicts[index + 1 :]])
        assert (met >= unmet) if criterion.weight > 0 else (met <= unmet)


# Errors


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ({"criterion": "a"}, "expected a list of criteria, got dict"),
        ([{"criterion": "a", "weight": -1}], "positive weight"),
        (["a"], r"\[0\]: expected an object with criterion, weight"),
        ([{"criterion": "a", "weight": 1, "points": 2}], r"\[0\]\.points: unknown field"),
        ([{"weight": 1}], r"\[0\]\.criterion: the criterion is missing"),
        ([{"criterion": "a", "weight": True}], r"\[0\]\.weight: expected a number, got True"),
        ([{"criterion": "a", "weight": math.inf}], r"\[0\]\.weight"),
        ([{"criterion": "a", "weight": 1, "title": 3}], r"\[0\]\.title"),
        ([{"criterion": "a", "weight": 1, "check": "boxed"}], r"\[0\]\.check"),
    ],
)
def test_a_malformed_rubric_is_refused_where_it_is_wrong(value: object, message: str):
    with pytest.raises(RubricError, match=message):
        parse_rubric(value)


def test_verdicts_must_be_as_many_as_criteria():
    with pytest.raises(ValueError, match="2 verdicts for 3 criteria"):
        rubric_score(parse_rubric(ROWS), [True, False])
