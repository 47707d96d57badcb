"""The language of rubrics: what it holds, what it refuses, and that all of it can be read."""

import json
import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rcsd.config import RubricGrammar
from rcsd.data.importers import import_rows
from rcsd.data.rubric import parse_rubric, rubric_json
from rcsd.data.rubric_grammar import rubric_regex

RAR = Path(__file__).parents[3] / "shared" / "data" / "rar_science_dev.jsonl"
MAX_CRITERIA, MAX_CHARACTERS = 4, 20
RUBRICS = rubric_regex(MAX_CRITERIA, MAX_CHARACTERS)


def holds(text: str, regex: str = RUBRICS) -> bool:
    return re.fullmatch(regex, text) is not None


def row(text: str = "a", weight: str = "1") -> str:
    return f'{{"criterion": "{text}", "weight": {weight}}}'


def rows(*weights: str) -> str:
    return f"[{', '.join(row(weight=weight) for weight in weights)}]"


# By hand


@pytest.mark.parametrize("weight", ["1", "99", "100", "0.25", "0.05", "1.0", "99.99"])
def test_weights_of_either_sign_are_held(weight: str):
    assert holds(rows(weight, f"-{weight}"))


@pytest.mark.parametrize(
    "weight",
    ["0", "-0", "0.00", "01", "101", "100.5", "+1", "1.", ".5", "1.125", "1e1", "NaN", "", "--1"],
)
def test_weights_that_are_zero_or_in_another_form_are_refused(weight: str):
    assert not holds(rows("1", weight))


@pytest.mark.parametrize(
    "text",
    [
        "[]",
        "",
        "null",
        row(),
        f"[{row()}",
        f"[{row()},{row()}]",
        f"[{row()}, ]",
        f"[{row()}]\n",
        '[{"criterion":"a", "weight": 1}]',
        '[{"weight": 1, "criterion": "a"}]',
        '[{"criterion": "a"}]',
        '[{"criterion": "a", "weight": 1, "title": "b"}]',
    ],
)
def test_what_is_no_list_of_criteria_in_our_form_is_refused(text: str):
    assert not holds(text)


@pytest.mark.parametrize(
    "text",
    ["a", "A b.", r"\"", r"\\", r"\/", "/", r"a \"b\" c", "é", "水", "🧪", "a\u00a0b", "[{", "}],"],
)
def test_texts_are_held(text: str):
    assert holds(f"[{row(text)}]")


@pytest.mark.parametrize(
    "text",
    ["", " ", "  a", '"', 'a"b', "\\", "a\\", r"\n", r"\u0041", r"\a", "a\nb", "a\tb", "a\x00b",
     "a\x1fb", "a\x7fb", "a\x85b", "a\u2028b", "a\u2029b", "\u200b", "\ufeff"],
)  # fmt: skip
def test_texts_that_are_empty_or_hold_raw_quotes_other_escapes_or_controls_are_refused(text: str):
    # json.dumps escapes control characters as \n or \u001f: such rubrics are outside the language.
    assert not holds(f"[{row(text)}]")


def test_the_longest_text_counts_characters_and_an_escape_as_one():
    for character in ("a", "é", "🧪", r"\"", r"\\"):
        assert holds(f"[{row(character * MAX_CHARACTERS)}]")
        assert not holds(f"[{row(character * (MAX_CHARACTERS + 1))}]")
    assert holds(f"[{row()}]", rubric_regex(1, 1))
    assert not holds(f"[{row('ab')}]", rubric_regex(1, 1))


@pytest.mark.parametrize("bounds", [(0, 5), (5, 0), (-1, 5), (0, 0)])
def test_bounds_without_room_are_refused(bounds: tuple[int, int]):
    with pytest.raises(ValueError, match="room for one criterion"):
        rubric_regex(*bounds)


# Laws


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
