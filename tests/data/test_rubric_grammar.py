"""The language of rubrics: what it holds, what it refuses, and that all of it can be read."""

import json
import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rcsd.config import RubricGrammar
from rcsd.data.importers import import_rows
from rcsd.data.rubric import parse_rubric, rubric_json, rubric_regex

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


def test_weights_of_either_sign_are_held_in_one_form_alone():
    for weight in ("1", "99", "100", "0.25", "0.05", "1.0", "99.99"):
        assert holds(rows(weight, f"-{weight}"))
    for weight in (
        "0",
        "-0",
        "0.00",
        "01",
        "101",
        "100.5",
        "+1",
        "1.",
        ".5",
        "1.125",
        "1e1",
        "NaN",
    ):
        assert not holds(rows("1", weight))


@pytest.mark.parametrize(
    "text",
    ["[]", "", "null", row(), f"[{row()}", f"[{row()},{row()}]", f"[{row()}, ]", f"[{row()}]\n",
     '[{"criterion":"a", "weight": 1}]', '[{"weight": 1, "criterion": "a"}]',
     '[{"criterion": "a"}]', '[{"criterion": "a", "weight": 1, "title": "b"}]'],
)  # fmt: skip
def test_what_is_no_list_of_criteria_in_our_form_is_refused(text: str):
    assert not holds(text)


def test_texts_are_held_but_for_empty_ones_raw_quotes_other_escapes_and_controls():
    for text in ("a", "A b.", r"\"", r"\\", r"\/", "/", "é", "水", "🧪", "a\u00a0b", "[{", "}],"):
        assert holds(f"[{row(text)}]")
    # json.dumps escapes control characters as \n or \u001f: such rubrics are outside the language.
    wrong = ["", " ", "  a", '"', 'a"b', "\\", "a\\", r"\n", r"\u0041", r"\a"]
    for text in [
        *wrong,
        *(f"a{c}b" for c in "\n\t\x00\x1f\x7f\x85\u2028\u2029"),
        "\u200b",
        "\ufeff",
    ]:
        assert not holds(f"[{row(text)}]")


def test_the_longest_text_counts_characters_and_an_escape_as_one():
    for character in ("a", "é", "🧪", r"\"", r"\\"):
        assert holds(f"[{row(character * MAX_CHARACTERS)}]")
        assert not holds(f"[{row(character * (MAX_CHARACTERS + 1))}]")
    assert holds(f"[{row()}]", rubric_regex(1, 1))
    assert not holds(f"[{row('ab')}]", rubric_regex(1, 1))


def test_bounds_without_room_are_refused():
    for bounds in ((0, 5), (5, 0)):
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
