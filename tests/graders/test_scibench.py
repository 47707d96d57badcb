"""Every SciBench problem's reference, written in many ways and spoilt in many ways."""

import json
import re
from collections.abc import Callable
from pathlib import Path

import pytest

from rcsd.graders.answers import grade
from rcsd.graders.answers.units import parse_unit
from rcsd.types import Grading

SCIBENCH = Path(__file__).parents[3] / "shared" / "data" / "scibench_dev.jsonl"

pytestmark = pytest.mark.skipif(not SCIBENCH.exists(), reason="needs ../shared/data")

SUPERSCRIPTS = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")


def _problems() -> list[dict[str, str]]:
    return [json.loads(line) for line in SCIBENCH.read_text().splitlines()]


def _number(problem: dict[str, str]) -> float:
    return float(problem["answer_number"].strip().replace("\u2212", "-").replace(",", ""))


def _parts(number: float) -> tuple[str, int]:
    mantissa, exponent = f"{number:.6e}".split("e")
    return mantissa.rstrip("0").rstrip("."), int(exponent)


def _written(problem: dict[str, str]) -> dict[str, str]:
    """The reference, absolute where the unit is written and holds a factor."""
    number, unit = _number(problem), parse_unit(problem["unit"])
    absolute = number * unit.factor
    mantissa, exponent = _parts(absolute)
    latex = re.sub(r"\\mathrm\{10\^\{?-?\d+\}?\}|10\^\{?-?\d+\}?", "", problem["unit"]).strip(
        " $\r\n"
    )
    return {
        "bare": rf"So we find \boxed{{{problem['answer_number'].strip()}}}.",
        "with unit": f"Answer: {absolute:.7g} {unit.written}",
        "LaTeX": rf"\[ \boxed{{x = {mantissa} \times 10^{{{exponent}}} \, {latex}}} \]",
        "scientific": f"**Final Answer:** {mantissa} \u00d7 10"
        f"{str(exponent).translate(SUPERSCRIPTS)} {unit.written}",
        "rounded": rf"Thus \boxed{{{absolute:.2g}\ \text{{{unit.written}}}}}",
        "sentence": f"We did it. Therefore, the result is approximately {absolute:.4g} "
        f"{unit.written}.",
    }


def _spoilt(problem: dict[str, str]) -> dict[str, str]:
    number, unit = _number(problem), parse_unit(problem["unit"])
    texts = {
        "6% more": f"Answer: {number * 1.06:.9g}",
        "6% less": f"Answer: {number * 0.94:.9g}",
        "ten times": rf"\boxed{{{number * 10:.9g}}}",
        "a tenth": rf"\boxed{{{number / 10:.9g} {unit.written}}}",
        "sign": rf"\boxed{{{-number:.9g}}}",
    }
    if unit.written:
        wrong = "kg" if "kg" not in unit.written else "V"
        texts["wrong unit"] = f"Answer: {number * unit.factor:.9g} {wrong}"
    return {} if number == 0 else texts


def _verdicts(
    forms: Callable[[dict[str, str]], dict[str, str]],
) -> dict[tuple[str, str, str], bool | None]:
    return {
        (problem["source"], problem["problemid"].strip(), form): grade(
            text, problem["answer_number"], Grading("number", unit=problem["unit"], tolerance=0.05)
        ).verdict
        for problem in _problems()
        for form, text in forms(problem).items()
    }


def test_all_units_are_read():
    unread = {p["unit"] for p in _problems() if not parse_unit(p["unit"]).readings}
    assert not unread


def test_a_reference_is_right_however_it_is_written():
    verdicts = _verdicts(_written)
    assert len(verdicts) > 6 * 300
    assert not {key for key, verdict in verdicts.items() if verdict is not True}


def test_a_spoilt_reference_is_wrong():
    verdicts = _verdicts(_spoilt)
    assert len(verdicts) > 5 * 300
    assert not {key for key, verdict in verdicts.items() if verdict is not False}
