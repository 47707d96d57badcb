import pytest
from rcsd.graders.answers.plain import answer_verdict, final_answer, plain_text, quantity

from rcsd.engines.scripted import ScriptedEngine
from rcsd.graders.code import CodeJudge
from rcsd.graders.grade import sample_and_grade
from rcsd.types import Completion, Decoding, Example


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        (r"\boxed{1} then \boxed{720 J}. The answer is 3.", "720 J"),
        (r"\boxed{\frac{1}{2}}", r"\frac{1}{2}"),
        (r"\boxed{5} and \boxed{}", "5"),
        (r"{\boxed{\sqrt{5}}} and }{", r"\sqrt{5}"),
        (r"The answer is 3 m. \boxed{5", "3 m"),
        ("Answer: 5 m\nThe answer is 3.", "5 m"),
        ("Answer: 4\nAnswer: 5 m.", "5 m"),
        ("**Answer:** 5 m", "5 m"),
        ("## Final Answer:\n5 m", "5 m"),
        ("The answer is 3.5 J. This is large.", "3.5 J"),
        ("The answer is: **approx. 5 m**.", "approx. 5 m"),
        ("The answer is 3. No, the answer is 4!", "4"),
        ("The answer is 720 J.\nWell done.", "720 J"),
        ("It is 5 m.", None),
        ("Answer:", None),
        ("", None),
    ],
)
def test_the_final_answer_is_found(text: str, answer: str | None):
    assert final_answer(text) == answer


@pytest.mark.parametrize(
    ("text", "reference", "verdict"),
    [
        ("The answer is 360 J.", "360 J", True),
        ("The answer is 360.", "360 J", True),
        ("The answer is 363 J.", "360 J", True),
        ("The answer is 364 J.", "360 J", False),
        ("The answer is 360 kJ.", "360 J", False),
        ("The answer is 360 J/s.", "360 J", False),
        ("The answer is 360 J of energy.", "360 J", True),
        ("The answer is 360 or 370.", "360 J", False),
        (r"\boxed{E = 4 * 90 = 360\,\text{J}}", "360 J", True),
        (r"\boxed{3.6 \times 10^{2}~\mathrm{J}}", "360 J", True),
        ("The answer is 1,360 J.", "1360 J", True),
        ("It is 360 J.", "360 J", False),
        ("The answer is much.", "360 J", False),
        ("The answer is 0.5 mol/L.", "0.5 mol/L", True),
        ("The answer is 5 kg*m/s.", "5 kg m/s", True),
        ("The answer is 9 m^3/s.", "9 m^3/s", True),
        ("The answer is 9 m^2/s.", "9 m^3/s", False),
        ("The answer is \u22123.", "-3", True),
        ("The answer is 3.", "-3", False),
        ("The answer is 8 neutrons.", "8", True),
        ("The answer is 0.001 m.", "1e-3 m", True),
        ("The answer is 0.", "0", True),
        ("The answer is 50%.", "50 %", True),
        ("The answer is Red  light.", "red light", True),
        ("The answer is crimson light.", "red light", None),
        ("Light.", "red light", None),
        ("The answer is 5 years.", "5 years ago", None),
        ("The answer is A = i/2.", "A = i/√13", None),
        ("The answer is 2.", "2 and 3", None),
    ],
)
def test_an_answer_is_graded(text: str, reference: str, verdict: bool | None):
    assert answer_verdict(text, reference) is verdict


def test_the_tolerance_is_relative_to_the_reference():
    assert answer_verdict("The answer is 110.", "100", tolerance=0.1) is True
    assert answer_verdict("The answer is -110.", "-100", tolerance=0.09) is False
    assert answer_verdict("The answer is 0.001.", "0", tolerance=0.5) is False


def test_plain_text_has_one_spelling_of_arithmetic():
    text = r"3\,\text{min} \times 1{,}000" + " \u00f7 m² \u2212 2**3"
    assert plain_text(text).split() == ["3", "min", "*", "1000", "/", "m^2", "-", "2^3"]


def test_the_quantity_is_on_the_right_side():
    assert quantity("E = - 5 J") == (-5.0, " J")
    assert quantity("none") is None


def test_accuracy_counts_only_references_of_which_a_wrong_answer_can_be_told() -> None:
    examples = [Example("n", "?", "3 J"), Example("w", "?", "Paris")]
    engine = ScriptedEngine(
        [Completion((1,), text, finished=True) for text in ("Answer: 3 J", "Answer: Paris")]
    )
    rows = sample_and_grade(engine, examples, [(1,), (1,)], Decoding(4), CodeJudge())
    assert [row.right for row in rows] == [True, None]
