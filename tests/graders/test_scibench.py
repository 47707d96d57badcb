"""Every SciBench problem's reference, written in many ways and spoilt in many ways."""

import json
import re
from pathlib import Path

import pytest

from rcsd.graders.answers import grade
from rcsd.graders.answers.units import parse_unit
from rcsd.types import Grading

SCIBENCH = Path(__file__).parents[3] / "shared" / "data" / "scibench_dev.jsonl"

pytestmark = pytest.mark.skipif(not SCIBENCH.exists(), reason="needs ../shared/data")

SUPERSCRIPTS = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")


PROBLEMS = (
    [json.loads(line) for line in SCIBENCH.read_text().splitlines()] if SCIBENCH.exists() else []
)


def _forms(problem: dict[str, str]) -> tuple[list[str], list[str]]:
    """The reference written in several ways, and spoilt in several ways."""
    number = float(problem["answer_number"].strip().replace("\u2212", "-").replace(",", ""))
    unit = parse_unit(problem["unit"])
    absolute = number * unit.factor
    mantissa, exponent = f"{absolute:.6e}".split("e")
    latex = re.sub(r"\\mathrm\{10\^\{?-?\d+\}?\}|10\^\{?-?\d+\}?", "", problem["unit"])
    latex = latex.strip(" $\r\n")
    raised = str(int(exponent)).translate(SUPERSCRIPTS)
    right = [
        rf"So we find \boxed{{{problem['answer_number'].strip()}}}.",
        f"Answer: {absolute:.7g} {unit.written}",
        rf"\[ \boxed{{x = {mantissa} \times 10^{{{int(exponent)}}} \, {latex}}} \]",
        f"**Final Answer:** {mantissa} \u00d7 10{raised} {unit.written}",
        rf"Thus \boxed{{{absolute:.2g}\ \text{{{unit.written}}}}}",
        f"We did it. Therefore, the result is approximately {absolute:.4g} {unit.written}.",
    ]
    wrong = [f"Answer: {number * 1.06:.9g}", f"Answer: {number * 0.94:.9g}"]
    wrong += [rf"\boxed{{{number / 10:.9g} {unit.written}}}", rf"\boxed{{{-number:.9g}}}"]
    if unit.written:
        other = "kg" if "kg" not in unit.written else "V"
        wrong.append(f"Answer: {number * unit.factor:.9g} {other}")
    return right, wrong if number else []


@pytest.mark.parametrize("problem", PROBLEMS, ids=lambda each: each["problemid"].strip())
def test_a_reference_is_right_however_it_is_written_and_wrong_when_spoilt(problem: dict[str, str]):
    assert parse_unit(problem["unit"]).readings
    grading = Grading("number", unit=problem["unit"], tolerance=0.05)
    for texts, verdict in zip(_forms(problem), (True, False), strict=True):
        for text in texts:
            assert grade(text, problem["answer_number"], grading).verdict is verdict, text
