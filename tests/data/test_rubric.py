import json
import math
import re
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rcsd.config import RubricGrammar
from rcsd.data.importers import import_rows
from rcsd.data.rubric import parse_rubric, rubric_json, rubric_regex, rubric_rows
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


@settings(derandomize=True, deadline=None, max_examples=50)
@given(st.lists(st.tuples(st.integers(-5, 5).filter(bool), st.booleans()), max_size=6))
def test_the_score_lies_between_0_and_1_and_a_violation_never_raises_it(
    drawn: list[tuple[int, bool]],
):
    rubric = Rubric(tuple(Criterion("c", weight) for weight, _ in [*drawn, (1, True)]))
    verdicts = [verdict for _, verdict in [*drawn, (1, True)]]
    assert 0 <= rubric_score(rubric, verdicts) <= 1
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


# The language of rubrics that a model may write

RAR = Path(__file__).parents[3] / "shared" / "data" / "rar_science_dev.jsonl"
MAX_CRITERIA, MAX_CHARACTERS = 4, 20
RUBRICS = re.compile(rubric_regex(MAX_CRITERIA, MAX_CHARACTERS))


def written(text: str = "a", weight: str = "1") -> str:
    return f'{{"criterion": "{text}", "weight": {weight}}}'


@pytest.mark.parametrize("weight", ["1", "99", "100", "0.25", "0.05", "1.0", "99.99"])
def test_weights_of_either_sign_are_held(weight: str):
    assert RUBRICS.fullmatch(f"[{written(weight=weight)}, {written(weight='-' + weight)}]")


@pytest.mark.parametrize(
    "text", ["A b.", r"\"", r"\\", r"\/", "水", "a\u00a0b", "[{", "}],", "🧪" * 20]
)
def test_texts_are_held_to_the_longest(text: str):
    assert RUBRICS.fullmatch(f"[{written(text)}]")


@pytest.mark.parametrize(
    "text",
    [
        "[]", "null", written(), f"[{written()}", f"[{written()},{written()}]", f"[{written()}]\n",
        '[{"weight": 1, "criterion": "a"}]', '[{"criterion": "a"}]',
        *(f"[{written(weight=w)}]" for w in ("-1", "0", "0.00", "01", "101", "+1", "1.125", "1e1")),
        # json.dumps escapes control characters as \n or \u001f: these are outside the language.
        *(f"[{written(t)}]" for t in ("", " ", "  a", 'a"b', "a\\", r"\n", "a" * 21, "\u200b")),
        *(f"[{written(f'a{c}b')}]" for c in "\n\x00\x1f\x7f\x85\u2028"),
        f"[{', '.join([written()] * 5)}]",
    ],
)  # fmt: skip
def test_what_is_no_rubric_in_our_form_is_refused(text: str):
    assert RUBRICS.fullmatch(text) is None


@given(st.from_regex(RUBRICS, fullmatch=True))
def test_whatever_is_held_is_read_within_the_bounds(text: str):
    rubric = parse_rubric(json.loads(text))
    assert 1 <= len(rubric.criteria) <= MAX_CRITERIA
    for criterion in rubric.criteria:
        assert 1 <= len(criterion.text) <= MAX_CHARACTERS
        assert 0 < abs(criterion.weight) <= 100


@pytest.mark.skipif(not RAR.exists(), reason="needs the development rows of RaR-Science")
def test_every_gold_rubric_of_rar_can_be_written_within_the_default_bounds() -> None:
    bounds = RubricGrammar()
    regex = re.compile(rubric_regex(bounds.max_criteria, bounds.max_characters))
    for example in import_rows(str(RAR), "rar")[0]:
        assert example.rubric is not None
        assert regex.fullmatch(rubric_json(example.rubric))
