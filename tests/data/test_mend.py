import json
from dataclasses import asdict

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rcsd.data.importers.mend import parse_written
from rcsd.errors import DataError

ONE = {"description": "Essential Criteria: Names it.", "title": "Name", "weight": 5}
TWO = {"description": "Negative Criteria: Must not omit it.", "title": "Gap", "weight": -1}
LIST = json.dumps([ONE, TWO])


def test_json_is_read_strictly_first():
    assert asdict(parse_written(LIST)) == {"items": [ONE, TWO], "repairs": [], "dropped": []}


@pytest.mark.parametrize(
    ("text", "repairs"),
    [
        (f"I think [not] so. {{}}\n</think>\n{LIST}", ["JSON taken from after the reasoning"]),
        (f"First a draft.\nSo, the rubric:\n{LIST}\n", ["JSON taken from after the reasoning"]),
        (f"```json\n{LIST}\n```", ["code fence removed"]),
        (
            f"Hm.</think>\n```json\n{LIST}\n```",
            ["JSON taken from after the reasoning", "code fence removed"],
        ),
    ],
)
def test_json_is_taken_out_of_what_stands_around_it(text: str, repairs: list[str]):
    written = parse_written(text)
    assert written.items == [ONE, TWO]
    assert [name for name, _ in written.repairs] == repairs


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (f"A draft: {LIST} But wait, what about", "no whole JSON list at its end"),
        (f"So the list is {LIST[:-20]}", "no whole JSON list at its end"),
        ("Only words.", "no whole JSON list"),
        ("[", "holds no criterion"),
        ('[{"description": "Essen', "within the first criterion"),
        ('{"description": "x"}', "expected a JSON list, got dict"),
        (f"{LIST} and more", "after the criteria comes"),
    ],
)
def test_nothing_is_made_of_drafts_and_fragments(text: str, message: str):
    with pytest.raises(DataError, match=message):
        parse_written(text)


def test_a_cut_off_list_keeps_its_whole_criteria_and_lists_the_fragment():
    written = parse_written(f"[{json.dumps(ONE)},\n{json.dumps(TWO)[:30]}")
    assert written.items == [ONE]
    assert written.repairs == [("cut off: whole criteria kept", "1 criteria")]
    assert written.dropped == ["rubric[1]: cut off: " + repr(json.dumps(TWO)[:30])]


@given(st.integers(min_value=0, max_value=len(LIST)))
def test_wherever_a_list_is_cut_no_criterion_is_invented(length: int):
    try:
        items = parse_written(LIST[:length]).items
    except DataError:
        return
    assert items == [ONE, TWO][: len(items)]


def test_latex_keeps_its_backslashes():
    raw = r'[{"description": "Derives $\vec{S} \times \frac{2}{3} \rho$.\nNew", "weight": 1}]'
    written = parse_written(raw)
    assert written.items[0]["description"] == "Derives $\\vec{S} \\times \\frac{2}{3} \\rho$.\nNew"
    assert written.repairs == [("backslash of LaTeX doubled", "4 times")]
    proper = r'[{"description": "Derives $\\times$, a\ttab and \u00e9.", "weight": 1}]'
    assert parse_written(proper).repairs == []


@pytest.mark.parametrize(
    "text",
    [
        r"States the result,\ne.g. 3 m/s, where\nu is the speed.",
        r"States:\r\ne.g. 3 m/s",
        r"\textra credit for\tan equation, as in\text. 3",
        r"Column\ttwo, \\times and \u00e9",
    ],
)
def test_valid_json_is_not_taken_for_latex(text: str):
    raw = f'[{{"description": "{text}", "weight": 1}}]'
    assert asdict(parse_written(raw)) == {"items": json.loads(raw), "repairs": [], "dropped": []}


@pytest.mark.parametrize("end", ["", "\\", "\\u", "\\u00e"])
def test_a_cut_is_no_sign_of_latex(end: str):
    whole = r'{"description": "A result,\ne.g. 3 m/s", "weight": 1}'
    written = parse_written(f'[{whole}, {{"description": "Names{end}')
    assert written.items == [json.loads(whole)]
    assert [name for name, _ in written.repairs] == ["cut off: whole criteria kept"]


@pytest.mark.parametrize("other", [r"\vec{S}", r"\times", r"\text{Hz}", r"\tan x", r"\tan\theta"])
def test_a_new_line_counts_as_latex_beside_other_latex(other: str):
    written = parse_written(rf'[{{"description": "${other}$ and $\nu$", "weight": 1}}]')
    assert written.items[0]["description"] == rf"${other}$ and $\nu$"
    assert [name for name, _ in written.repairs] == ["backslash of LaTeX doubled"]


def test_a_broken_criterion_is_mended_alone_and_word_for_word():
    broken = '{"description": "Uses \'orbital overlap." "title": "Terms", "weight": 6}'
    written = parse_written(f"[{json.dumps(ONE)}, {broken}, {json.dumps(TWO)}]")
    mended = {"description": "Uses 'orbital overlap.", "title": "Terms", "weight": 6}
    assert written.items == [ONE, mended, TWO]
    assert [name for name, _ in written.repairs] == ["mended by json-repair"]
    last = parse_written(f"[{json.dumps(ONE)}, {broken}]")
    assert last.items == [ONE, mended]
