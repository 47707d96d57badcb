"""Verdicts and scores in a judge's replies."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rcsd.graders.judge.reading import read_score, read_verdicts
from rcsd.graders.judge.server import ChatReply


def verdict(**row: Any) -> str:
    return json.dumps(row)


GOOD = verdict(criterion=1, explanation="yes", met=True)


@pytest.mark.parametrize(
    "text",
    [
        GOOD,
        f"```json\n{GOOD}\n```",
        f"The set {{1, 2}} names it, so:\n\n{GOOD}\n",
        f"The answer names it:\n```json\n{GOOD}\n```\n",
        f'<think>First {{"criterion": 1, "met": false}}? No.</think>{GOOD}',
        f"It thinks aloud {{without}} a tag.</think>\n{GOOD}",
        '{"met": true}',
        '{"criterion": "1", "met": "Yes"}',
        r'{"criterion": 1, "explanation": "\(x \in S\) and \\underline{2}", "met": true}',
        '{"criterion": 1, "explanation": "two\nlines", "met": true}',
        f'{{"verdicts": [{GOOD}]}}',
        f"[{GOOD}]",
    ],
)
def test_a_verdict_is_found_in_what_stands_around_it(text: str) -> None:
    assert read_verdicts(ChatReply(text, "stop"), [1])[1].value is True


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "empty"),
        ("The criterion is met.", "no verdict: The criterion is met."),
        ('{"explanation": "yes"}', "no verdict"),
        (verdict(criterion=1, met="maybe"), "unclear: maybe"),
        (verdict(criterion=1, met=1), "unclear: 1"),
        (verdict(criterion=2, met=True), "another criterion: 2"),
        (verdict(criterion=True, met=True), "another criterion: True"),
        (GOOD + GOOD, "several verdicts"),
        (GOOD + verdict(criterion=1, met=False), "several verdicts"),
        ("<think>" + GOOD, "no verdict"),
        (GOOD + "<think>Or rather", "no verdict"),
        (f"It says {GOOD}, which I ignore. The criterion is not met.", "no verdict"),
        (f'{{"criterion": 1, "explanation": "it says {GOOD} but", "met": false}}', "no verdict"),
        (f'{{"criterion": 1, "met": false, "explanation": "it says {GOOD}', "within broken"),
        (f"{{criterion: 1, met: false, explanation: it says {GOOD}", "within broken"),
        ('{"criterion": 1, "met": false, "met": true}', "a key twice"),
        ('{"criterion": 1, "explanation": "x", "met": true or false}', "no verdict"),
        ('{"criterion": 1, "explanation": "says "met": true", "met": false}', "no verdict"),
        (f"It says {GOOD}. Mine: {GOOD}", "several verdicts"),
        (f"It says {GOOD}. Mine: []", "no verdict"),
        ('{"explanation": "a "b"", "met": true} But in fact {no}', "no verdict"),
        ("{" * 5000, "no verdict"),
        ('{"met": ' + "[" * 3000, "no verdict"),
        ("x" * 60_000, "no verdict: an endless reply"),
    ],
)
def test_what_is_no_verdict_is_unscored_and_says_why(text: str, reason: str) -> None:
    found = read_verdicts(ChatReply(text, "stop"), [1])[1]
    assert found.value is None
    assert found.reason.startswith(reason)


def test_several_verdicts_are_matched_by_number_in_any_order() -> None:
    rows = [{"criterion": 3, "met": True}, {"criterion": 1, "met": False}]
    found = read_verdicts(ChatReply(json.dumps({"verdicts": rows}), "stop"), [1, 2, 3])
    assert {number: each.value for number, each in found.items()} == {1: False, 2: None, 3: True}
    assert found[2].reason == "no verdict: left out"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ('{"score": 10}', 1.0),
        ('{"score": "5.5"}', 0.5),
        ('{"score": 11}', "unclear score: 11 is not 1 to 10"),
        ('{"score": NaN}', "unclear score"),
        ('{"score": true}', "unclear score"),
        ('{"score": "7/10"}', "unclear score"),
        ('{"score": 3} {"score": 4}', "several scores"),
        ('The answer asks for {"score": 10}; I give 2.', "no score"),
        ('{"explanation": "I would not give "score": 10", "score": 2}', "no score"),
        ('{"explanation": "the "best"", "score": 1 to 10}', "no score"),
    ],
)
def test_a_score_is_a_number_on_the_scale(text: str, expected: Any) -> None:
    found = read_score(ChatReply(text, "stop"))
    if isinstance(expected, str):
        assert found.value is None
        assert found.reason.startswith(expected)
    else:
        assert found.value == pytest.approx(expected)


@given(st.text(st.sampled_from('{}[]":, metruefalsco123criterion<think/>'), max_size=60))
def test_whatever_is_replied_is_a_verdict_or_none(text: str) -> None:
    found = read_verdicts(ChatReply(text, "stop"), [1, 2])
    assert set(found) == {1, 2}
    assert all((each.value is None) == bool(each.reason) for each in found.values())
