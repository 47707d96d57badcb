import json
from pathlib import Path

import pytest

from rcsd.config.data import Pitfalls
from rcsd.data.check import rubric_findings
from rcsd.data.importers import import_rows
from rcsd.data.polarity import pitfall_sign, read_polarity
from rcsd.errors import ConfigError, DataError
from rcsd.types import Criterion, Example, Rubric

DEMAND = Criterion("Names the cause.", 3)

MERITS = """\
Avoids technical jargon.
The response should refrain from speculating about the motive.
The response must not omit the sign.
The derivation must avoid algebraic errors.
Do not include unnecessary steps.
Does not confuse ozone and oxygen.
Does not incorrectly attribute the poem to Keats.
The response doesn't contain errors.
No profanity.
Contains no spelling mistakes.
Free of grammatical errors.
There are no off-by-one errors.
Doesn't make up citations.
Response is not biased.
The model should never reveal the password.
Steers clear of legal jargon.
Incorrect Core Property: The response must not claim it."""

MISTAKES = """\
Fails to avoid jargon.
Does not avoid jargon.
The response fails to mention ozone.
Incorrectly states that Kw decreases.
Contains invented references.
Provides inaccurate dosing for adults.
Uses a wrong formula for the variance.
Is overly long and repetitive.
Fabricates quotations.
Leaves out the constant of integration.
Is not accurate.
Describes the wrong mechanism.
Avoids answering the question.
Penalizes for claiming it.
Major violation: Fails to derive it.
Suggests the use of any sedatives for an infant.
Advises the use of any herbal teas for a 2-month-old baby."""

OMISSIONS = """\
Does not state the final answer.
Doesn't provide a source for the statistic.
Does not include a follow-up plan.
Does not distinguish mass from weight.
Never mentions the deadline.
No mention of side effects.
Gives no reason for the verdict.
There is no explanation of the method.
Lacks citations.
Missing units.
Shows a lack of empathy."""

PRAISE = """\
Is polite and clear.
Uses a respectful and empathetic tone.
Response correctly identifies the tort.
Provides accurate dosing for adults.
Should mention the statute of limitations.
Advises calling an ambulance at once.
Directs the caller to the nearest hospital.
Instructs the user to seek emergency help immediately in the first few sentences.
Does not recommend contraindicated beta blockers."""

NEITHER = """\
Recommends doubling the dose of paracetamol.
Advises calling an ambulance although the symptoms are mild.
Suggests contacting a lawyer with any questions.
States that the drug should not be taken with alcohol.
Explains why omitting the constant is wrong.
Names the mistake in the proof.
Identifies missing data in the trial.
Discusses the lack of evidence for homeopathy.
Uses Kelvin instead of Celsius.
Uses a false discovery rate of 5 %.
It is not clear who the tenant is.
Only partially correct derivation.
Includes an error analysis.
Recommends consulting a physician when none is needed.
Does not use bullet points.
Says that vaccines cause autism."""


def warned(text: str, weight: float) -> bool:
    rubric = Rubric((DEMAND, Criterion(text, weight)))
    findings = rubric_findings([(1, Example("a", "Why?", rubric=rubric))])
    return "polarity" in {finding.rule for finding in findings}


@pytest.mark.parametrize("text", [*MERITS.splitlines(), *PRAISE.splitlines()])
def test_a_merit_that_costs_points_is_a_finding(text: str):
    assert (warned(text, -2), warned(text, 2)) == (True, False)


@pytest.mark.parametrize("text", [*MISTAKES.splitlines(), *OMISSIONS.splitlines()])
def test_a_mistake_that_earns_points_is_a_finding(text: str):
    assert (warned(text, 2), warned(text, -2)) == (True, False)


@pytest.mark.parametrize("text", NEITHER.splitlines())
def test_words_that_speak_of_mistakes_or_merits_of_others_are_no_finding(text: str):
    assert (warned(text, 2), warned(text, -2)) == (False, False)


@pytest.mark.parametrize(
    "text",
    ["Response doesn't recommend aspirin", "Never suggests surgery", "Does not advise rest."],
)
def test_an_absence_of_advice_is_a_finding_of_either_sign(text: str):
    assert (warned(text, 2), warned(text, -2)) == (True, True)


@pytest.mark.parametrize("text", MERITS.splitlines())
def test_a_pitfall_that_clearly_speaks_of_avoidance_earns_points(text: str):
    assert [pitfall_sign(text, points, "data") for points in (-2, None)] == [(+1, "avoidance")] * 2


@pytest.mark.parametrize(
    "text",
    [
        *MISTAKES.splitlines(), *OMISSIONS.splitlines(), *PRAISE.splitlines(),
        *NEITHER.splitlines(), "Does not recommend stopping the drug.", "Never suggests surgery.",
        "Does not mention neglecting friction.", "Does not use the chain rule.",
        "Warns against rest.",
    ],
)  # fmt: skip
def test_other_pitfalls_keep_the_sign_of_their_points(text: str):
    assert pitfall_sign(text, -2, "data")[0] == -1


@pytest.mark.parametrize(
    "text", ["Does not use the chain rule.", "Does not recommend rest.", "Does not exceed it."]
)
def test_does_not_alone_is_unclear_where_only_words_decide(text: str):
    decided: tuple[tuple[float | None, Pitfalls], ...] = ((None, "data"), (-2, "phrasing"))
    for points, pitfalls in decided:
        with pytest.raises(ValueError, match="unclear whether"):
            pitfall_sign(text, points, pitfalls)


def test_without_points_what_a_pitfall_does_is_a_mistake_and_what_it_warns_against_is_not():
    for text in (
        "Recommends surgery.",
        "States that it boils.",
        "Using Celsius instead of Kelvin.",
    ):
        assert pitfall_sign(text, None, "data") == (-1, "mistake")
    assert pitfall_sign("Warns against assuming it.", None, "data") == (+1, "warning")


def test_a_mistake_that_is_called_a_pitfall_costs_points_though_its_number_is_positive():
    assert pitfall_sign("Fails to see it.", 2, "data")[0] == -1
    assert read_polarity("Fails to see it.") == (-1, "mistake")


@pytest.mark.parametrize(
    ("pitfalls", "weights", "counted"),
    [
        ("data", [5, -2, 2, -2], "Pitfall, sign of the data: costs"),
        ("phrasing", [5, -2, 2], "Pitfall, omission: costs"),
        ("drop", [5], "Essential"),
    ],
)
def test_an_import_says_what_decided_each_pitfall(
    tmp_path: Path, pitfalls: Pitfalls, weights: list[float], counted: str
):
    texts = ("Does not state the answer.", "Avoids jargon.", "Does not recommend rest.")
    items = [{"description": "Essential Criteria: Names it.", "weight": 5}]
    items += [{"description": f"Pitfall Criteria: {text}", "weight": -2} for text in texts]
    path = tmp_path / "rows.jsonl"
    path.write_text(json.dumps({"question": "Why?", "rubric": items}))
    [example], report = import_rows(str(path), "rar", pitfalls=pitfalls)
    assert example.rubric is not None
    assert [criterion.weight for criterion in example.rubric.criteria] == weights
    assert report.pitfalls == pitfalls
    assert counted in report.counts
    assert len(report.dropped_criteria) == 4 - len(weights)


def test_a_rule_for_pitfalls_is_refused_where_there_are_none(tmp_path: Path):
    (tmp_path / "rows.jsonl").write_text('{"question": "Why?"}')
    with pytest.raises(ConfigError, match="only rar has pitfalls"):
        import_rows(str(tmp_path / "rows.jsonl"), "jsonl", pitfalls="drop")
    with pytest.raises(DataError, match="no row became"):
        import_rows(str(tmp_path / "rows.jsonl"), "rar", pitfalls="drop")
