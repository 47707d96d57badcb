"""Verdicts on numbers and on their units, and the rules that make one of them."""

import json
from pathlib import Path
from typing import Any

import pytest

from rcsd.data.world.problems import examples
from rcsd.evaluation.record import read_record
from rcsd.graders.answers import grade, grade_example
from rcsd.graders.answers.quantities import combine
from rcsd.graders.grade import Graded, grade_file, grade_text
from rcsd.types import Example, Grading, UnitRule, UnitVerdict

# Reference and unit asked for, answer; verdicts on the number and on the unit.
CASES = [
    ("3.2", "m", r"\boxed{3.2 m}", True, "right"),
    ("3.2", "m", r"\boxed{320\ \text{cm}}", True, "right"),
    ("3.2", "m", "Answer: 3.2", True, "absent"),
    ("3.2", "m", "Answer: 3.2 kg", True, "wrong"),
    ("3.2", "m", "Answer: 9 kg", False, "wrong"),
    ("3.2", "m", "Answer: 9", False, "absent"),
    ("3.2", "m", "Answer: 9 m", False, "right"),
    ("3.2", "m", "Answer: 3.2 km", False, "right"),  # which converts, to another number
    ("3.2", "m", "Answer: 3.2 blarghs", True, None),
    ("3.2", "m", "Answer: 9 blarghs", None, None),  # which may convert
    ("3.2", "m", "Answer: about 3 to 4 m", None, None),
    ("3.2", "m", "I do not know.", False, None),
    ("3.2", "m", r"\boxed{\sqrt{10.24}\ \text{m}}", True, "right"),
    ("3.2", "m", r"\boxed{\sqrt{10.24}}", True, "absent"),
    ("3.2", "", "Answer: 3.2", True, "none asked"),
    ("3.2", "", "Answer: 3.2 m", True, "none asked"),
    ("5.85", "$10^4$", "Answer: 5.85", True, "none asked"),
    ("5.85", "$10^4$ K", "Answer: 58500 K", True, "right"),
    ("3.2", "blarghs", "Answer: 3.2 blarghs", True, "right"),
    ("3.2", "blarghs", "Answer: 3.2", True, "absent"),
    ("3.2", "blarghs", "Answer: 3.2 kg", True, None),
    ("0", "m", "Answer: 0 kg", True, "wrong"),
    ("0", "m", "Answer: 1e-12 m", None, "right"),
    ("20", "%", "Answer: 0.2", True, "absent"),
    ("20", "%", "Answer: 20%", True, "right"),
    ("3.2", "m", "Answer: 3.2 m or 3.2 kg", True, None),
    ("3.2", "m", "Answer: 3.2 m or 9 m", None, "right"),
]


@pytest.mark.parametrize(("reference", "unit", "text", "number", "of_unit"), CASES)
def test_number_and_unit_have_a_verdict_each(
    reference: str, unit: str, text: str, number: bool | None, of_unit: UnitVerdict | None
):
    found = grade(text, reference, Grading("number", unit=unit))
    assert (found.number_right, found.unit_verdict) == (number, of_unit)
    assert found.verdict is combine(number, of_unit, "accept_absent")


@pytest.mark.parametrize(
    ("number", "unit", "accept_absent", "ignore", "require"),
    [
        (True, "right", True, True, True),
        (True, "none asked", True, True, True),
        (True, "absent", True, True, False),
        (True, "wrong", False, True, False),
        (True, None, None, True, None),
        (False, None, False, False, False),
        (False, "absent", False, False, False),
        (None, "right", None, None, None),
        (None, "absent", None, None, False),
        (None, "wrong", False, None, False),
        (None, None, None, None, None),
    ],
)
def test_each_rule_makes_one_verdict_of_both(
    number: bool | None,
    unit: UnitVerdict | None,
    accept_absent: bool | None,
    ignore: bool | None,
    require: bool | None,
):
    rules: tuple[UnitRule, ...] = ("accept_absent", "ignore", "require")
    verdicts = [combine(number, unit, rule) for rule in rules]
    assert verdicts == [accept_absent, ignore, require]


@pytest.mark.parametrize(
    ("text", "grading", "reference"),
    [
        ("B", Grading("choice", ("3 m", "4 m")), "B"),
        (r"\boxed{3x}", Grading("math"), "3x"),
        ("salt", Grading("text"), "salt"),
    ],
)
def test_other_kinds_have_one_verdict_which_no_rule_changes(
    text: str, grading: Grading, reference: str
):
    found = grade(text, reference, grading)
    assert (found.verdict, found.number_right, found.unit_verdict) == (True, None, None)
    row = grade_text(Example("a", "?", reference, grading=grading), text)
    assert row.by_units("require") == row


def test_rows_and_graded_files_have_both_verdicts_and_keep_the_unit_asked_for(tmp_path: Path):
    row = grade_text(Example("a", "?", "3.2 m"), "Answer: 3.2 kg")
    assert (row.right, row.number_right, row.unit_verdict) == (False, True, "wrong")
    assert Graded.from_row(json.loads(json.dumps(row.row()))) == row
    file, out = tmp_path / "a.jsonl", tmp_path / "b.jsonl"
    answer = {"completion": "3.2", "reference": "3.2", "unit": "m", "kind": "number"}
    file.write_text(json.dumps(answer) + "\n")
    grade_file(file, out)
    found = json.loads(out.read_text())
    assert found | {"unit": "m", "verdict": True, "number_right": True} == found
    assert found["unit_verdict"] == "absent"


def test_the_worlds_answers_are_graded_by_the_same_code():
    example = examples("new_numbers", 1, 0)[0]
    number, unit = (example.reference_answer or "").split(" ", 1)
    for text, verdicts in (
        (f"Answer: {number} {unit}", (True, True, "right")),
        (f"Answer: {number}", (True, True, "absent")),
        (f"Answer: {number} candela", (False, True, "wrong")),
    ):
        found = grade_example(example, text)
        assert (found.verdict, found.number_right, found.unit_verdict) == verdicts


def test_an_evaluation_follows_the_rule_it_is_given_and_says_so(tmp_path: Path, rcsd: Any):
    rows = [{"question": "How far?", "reference_answer": "3.2 m"}]
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    file = tmp_path / "eval.yaml"
    data = f"{{own: {{type: jsonl, path: {tmp_path / 'rows.jsonl'}}}}}"
    file.write_text(f"model: {{path: 'builtin:micro'}}\nmax_tokens: 4\nout: {tmp_path / 'o'}\n")
    with file.open("a") as end:
        end.write(f"units: require\ndata: {data}\n")
    code, out, _ = rcsd("eval", str(file))
    assert code == 0
    record = read_record(tmp_path / "o")
    assert record.config.units == "require"
    summary = json.loads((tmp_path / "o" / "summary.json").read_text())
    assert summary["units"] == "require"
    out = " ".join(out.split())
    assert "accuracy (ungraded as wrong)" in out
