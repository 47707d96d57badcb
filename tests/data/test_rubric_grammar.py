"""The language of rubrics: what it holds, what it refuses, and that all of it can be read."""

import json
import random
import re
from pathlib import Path

import llguidance.hf
import pytest
from hypothesis import given
from hypothesis import strategies as st
from llguidance import LLMatcher
from tests.support.tiny import tiny_tokenizer

from rcsd.config import RubricGrammar
from rcsd.data.importers import import_rows
from rcsd.data.rubric import parse_rubric, rubric_json
from rcsd.data.rubric_grammar import rubric_regex

RAR = Path(__file__).parents[3] / "shared" / "data" / "rar_science_dev.jsonl"
MAX_CRITERIA, MAX_CHARACTERS = 4, 20
RUBRICS = rubric_regex(MAX_CRITERIA, MAX_CHARACTERS)
BLANKS = [chr(n) for n in range(0x110000) if chr(n).isspace()]


def holds(text: str, regex: str = RUBRICS) -> bool:
    return re.fullmatch(regex, text) is not None


def row(text: str = "a", weight: str = "1") -> str:
    return f'{{"criterion": "{text}", "weight": {weight}}}'


def rows(*weights: str) -> str:
    return f"[{', '.join(row(weight=weight) for weight in weights)}]"


# By hand


@pytest.mark.parametrize(
    "weight", ["1", "9", "10", "99", "100", "0.1", "0.25", "0.05", "1.0", "1.5", "10.5", "99.99"]
)
def test_weights_of_either_sign_are_held(weight: str):
    assert holds(rows(weight, f"-{weight}"))


@pytest.mark.parametrize(
    "weight",
    ["0", "-0", "0.0", "0.00", "00", "01", "101", "100.5", "+1", "1.", ".5", "1.125", "1e1", "NaN",
     "true", '"1"', "", "- 1", "--1"],
)  # fmt: skip
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
        f"{row()}]",
        f"[{row()}{row()}]",
        f"[{row()} {row()}]",
        f"[{row()},{row()}]",
        f"[{row()},  {row()}]",
        f"[{row()}, ]",
        f"[, {row()}]",
        f"[{row()}]\n",
        f" [{row()}]",
        f"[[{row()}]]",
        '[{"criterion":"a", "weight": 1}]',
        '[{"criterion": "a", "weight": 1,}]',
        '[{"criterion": "a" "weight": 1}]',
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


def test_no_blank_of_unicode_makes_a_text():
    assert len(BLANKS) > 25
    for blank in BLANKS:
        for text in (blank, blank * 3, f"{blank}a"):
            assert not holds(f"[{row(text)}]"), repr(text)


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


def test_halves_of_surrogate_pairs_cannot_be_written_by_a_model():
    # Python's re lets them pass; the matcher reads UTF-8, which has no bytes for them.
    wrapped = llguidance.hf.from_tokenizer(tiny_tokenizer())

    def num_accepted(content: bytes) -> tuple[int, int]:
        matcher = LLMatcher(wrapped, LLMatcher.grammar_from_regex(RUBRICS))
        tokens = wrapped.tokenize_bytes(b'[{"criterion": "a' + content)
        assert wrapped.decode_bytes(tokens).endswith(content)
        return matcher.validate_tokens(tokens), len(tokens)

    accepted, given = num_accepted("é水🧪".encode())
    assert accepted == given
    accepted, given = num_accepted("\ud800".encode("utf-8", "surrogatepass"))
    assert accepted < given


# Laws

CHARACTERS = st.characters(exclude_categories=["Cs", "Cc"], exclude_characters="\u2028\u2029")
TEXTS = st.one_of(
    st.text(CHARACTERS, min_size=1, max_size=MAX_CHARACTERS),
    st.text('"\\/ aé🧪{}[],:\u00a0', min_size=1, max_size=MAX_CHARACTERS),
).filter(lambda text: re.match(r"[\s\u200b\ue000\ufeff]", text) is None)
WEIGHTS = st.integers(1, 99).flatmap(lambda points: st.sampled_from([points, -points]))


@given(st.from_regex(RUBRICS, fullmatch=True))
def test_whatever_is_held_is_read_within_the_bounds(text: str):
    rubric = parse_rubric(json.loads(text))
    assert 1 <= len(rubric.criteria) <= MAX_CRITERIA
    for criterion in rubric.criteria:
        assert 1 <= len(criterion.text) <= MAX_CHARACTERS
        assert 0 < abs(criterion.weight) <= 100


@given(st.from_regex(RUBRICS, fullmatch=True), st.integers(0, 2**32))
def test_one_character_more_less_or_other_is_refused_or_still_a_rubric(text: str, seed: int):
    rng = random.Random(seed)
    place = rng.randrange(len(text))
    for changed in (
        text[:place] + text[place + 1 :],
        text[:place] + rng.choice('"\\,{}[] 0a-\n') + text[place:],
        text[:place] + rng.choice('"\\,{}[] 0a-\n') + text[place + 1 :],
    ):
        if holds(changed):
            assert parse_rubric(json.loads(changed)).criteria


@pytest.mark.skipif(not RAR.exists(), reason="needs the development rows of RaR-Science")
def test_every_gold_rubric_of_rar_can_be_written_within_the_default_bounds() -> None:
    bounds = RubricGrammar()
    regex = re.compile(rubric_regex(bounds.max_criteria, bounds.max_characters))
    for example in import_rows(str(RAR), "rar")[0]:
        assert example.rubric is not None
        assert regex.fullmatch(rubric_json(example.rubric))
