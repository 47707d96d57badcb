import pytest

from rcsd.data.checks import parse_check
from rcsd.errors import DataError, RubricError
from rcsd.graders import checks
from rcsd.graders.checks import met
from rcsd.graders.code import CodeJudge
from rcsd.types import Criterion, Example, Rubric

# By hand: check, a text that meets it, a text that does not


def contains(text: str) -> dict:
    return {"type": "contains", "text": text}


def expression(text: str) -> dict:
    return {"type": "expression", "text": text}


def number(value: float, **more: float) -> dict:
    return {"type": "number", "value": value, **more}


def unit(name: str) -> dict:
    return {"type": "unit", "unit": name}


BOXED = {"type": "boxed"}
FORMULA = {"type": "before", "first": "E = 1/2 m v^2", "then": r"\d\s*[*/+-]|\d \w+ ="}
LINE = {"type": "matches", "pattern": r"(?m)^Answer:"}

MET = [
    (contains("power is energy  per time"), "So POWER is\nenergy per time."),
    (LINE, "so\nAnswer: 5"),
    (FORMULA, "We use e = 1/2 m v^2. 4 * 4 = 16."),
    (number(180), "that is 180 s"),
    (number(1000), "about 1,000 W"),
    (number(-4), "x = - 4"),
    (number(4), "12-4"),
    (number(4), "Steps:\n- 4 * 180"),
    (number(30000), r"$3 \times 10^{4}$ or 3e4"),
    (number(0.003), "3 · 10^-3"),
    (number(3.14159, tolerance=0.01), "3.14"),
    (expression("4 * 180"), "E = 4*180 = 720"),
    (expression("4 * 180"), r"$4 \times 180$"),
    (expression("720 / 4"), r"\frac{720}{4}"),
    (expression("3 min = 180 s"), r"3\,\text{min}=180\,\text{s}, so"),
    (BOXED, r"\boxed{\frac{1}{2}}"),
    (unit("m"), r"\boxed{5\,\text{m}}"),
    (unit("kg m/s"), "The answer is 72 kg·m/s."),
    (unit("J"), "The answer is 720 J of energy."),
    ({"type": "final_number", "value": 720}, r"4 * 180 = 9. \boxed{720 J}"),
    ({"type": "any", "checks": [BOXED, number(3)]}, "3"),
    ({"type": "all", "checks": [BOXED, number(3)]}, r"\boxed{3}"),
    ({"type": "not", "check": BOXED}, "5"),
]
NOT_MET = [
    (contains("energy per time"), "energy per unit time"),
    (LINE, "the Answer: 5"),
    (FORMULA, "4 * 4 = 16. E = 1/2 m v^2."),
    (number(180), "1800 and 0.180 and 180.5 and x180"),
    (number(2), "5 m^2 in s^-2 of H2O with V2"),
    (number(1000), "1,0000 or 21,000"),
    (number(3.14159), "3.14"),
    (expression("4 * 180"), "4 * 1800"),
    (expression("4 * 180"), "4 * 180^2"),
    (expression("180 / 4"), "1,180 / 4"),
    (expression("4 * 180"), "2^4 * 180"),
    (BOXED, r"\boxed{ } and \boxed{5"),
    (unit("m"), "The answer is 5 m/s."),
    (unit("m"), "The answer is 5 M."),
    (unit("N"), "The answer is 5 N m."),
    (unit("m"), "The answer is 5."),
    ({"type": "final_number", "value": 720}, r"\boxed{72}, not 720"),
    ({"type": "any", "checks": [BOXED, number(3)]}, "4"),
    ({"type": "all", "checks": [BOXED, number(3)]}, "3"),
    ({"type": "not", "check": BOXED}, r"\boxed{5}"),
]


@pytest.mark.parametrize(("check", "text"), MET)
def test_a_check_is_met(check: dict, text: str):
    assert met(check, text)


@pytest.mark.parametrize(("check", "text"), NOT_MET)
def test_a_check_is_not_met(check: dict, text: str):
    assert not met(check, text)


def test_every_type_of_check_has_both_kinds_of_cases():
    for cases in (MET, NOT_MET):
        assert {check["type"] for check, _ in cases} == set(checks._DECIDE)


# Errors


@pytest.mark.parametrize(
    ("check", "message"),
    [
        (None, "expected an object with a type, got None"),
        ({"type": "contain", "text": "a"}, "check type 'contain': allowed are 'contains'"),
        ({"type": "contains"}, r"contains\.text: the text is missing"),
        ({"type": "contains", "txt": "a"}, r"contains\.txt: unknown field; did you mean 'text'"),
        ({"type": "matches", "pattern": "(a"}, "is not a regular expression"),
        ({"type": "number", "value": True}, "expected a number, got True"),
        ({"type": "number", "value": float("nan")}, "finite number, got nan"),
        ({"type": "number", "value": 1, "tolerance": -1}, r"number\.tolerance: .* got -1"),
        ({"type": "any", "checks": []}, "at least 1 item"),
        ({"type": "all", "checks": [BOXED, {"type": "box"}]}, r"all\.checks\[1\]: .*'box'"),
        ({"type": "not", "check": {"type": "unit"}}, r"not\.check\.unit\.unit: the unit"),
    ],
)
def test_a_malformed_check_is_refused(check: object, message: str):
    with pytest.raises(RubricError, match=message):
        parse_check(check)


def test_a_pattern_that_backtracks_without_end_is_an_error(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(checks, "MAX_PATTERN_SECONDS", 0.1)
    endless = {"type": "matches", "pattern": r"(?:\w+\w+)+[!?]"}
    with pytest.raises(RubricError, match="took more than"):
        met(endless, "a" * 5000)


@pytest.mark.parametrize("part", [" ", "\n", "1,", "4 x ", r"\boxed{", "answer is ", "-", "^", "*"])
def test_long_texts_take_no_longer_than_their_length(part: str):
    for check in (contains("a b"), number(3), expression("4 * 180"), BOXED, unit("m")):
        met(check, part * 4_000)


def test_a_check_that_raises_is_never_a_verdict(monkeypatch: pytest.MonkeyPatch):
    def broken(check: object, text: str) -> bool:
        return 1 / 0 > 0

    monkeypatch.setitem(checks._DECIDE, "boxed", broken)
    with pytest.raises(RubricError, match="ZeroDivisionError"):
        met(BOXED, "a")


def test_a_check_that_is_nested_without_end_is_refused():
    check: dict = BOXED
    for _ in range(2000):
        check = {"type": "not", "check": check}
    with pytest.raises(RubricError, match="maximum validation depth exceeded"):
        parse_check(check)


# Judges

RUBRIC = Rubric((Criterion("Boxes.", 2, check=BOXED), Criterion("Is kind.", 1)))
EXAMPLE = Example("e", "Why?", rubric=RUBRIC)


def test_the_code_judge_leaves_criteria_without_a_check_unscored():
    assert CodeJudge().verdicts(EXAMPLE, r"\boxed{1}") == [True, None]
    [judgement] = CodeJudge().judgements([(EXAMPLE, "1")])
    assert (judgement.verdicts, judgement.bounds) == ((False, None), (0, 1 / 3))
    assert judgement.reasons == ("", "the criterion has no check")


def test_the_code_judge_names_the_criterion_that_cannot_be_judged():
    rubric = Rubric((*RUBRIC.criteria, Criterion("Odd.", 1, check={"type": "odd"})))
    with pytest.raises(RubricError, match=r"example 'e': rubric\[2\]\.check: check type 'odd'"):
        CodeJudge().verdicts(Example("e", "Why?", rubric=rubric), "")
    with pytest.raises(DataError, match="'e' has no rubric"):
        CodeJudge().verdicts(Example("e", "Why?"), "")
