"""Missing verdicts leave bounds; wrong ones are taken out of scores."""

import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from tests.cli.test_cli import said
from tests.evaluation.test_record import made

from rcsd.errors import DataError
from rcsd.evaluation.compare.noise import read_rates
from rcsd.evaluation.compare.sets import AnsweredSet, compare_sets
from rcsd.evaluation.compare.unscored import arm_bounds
from rcsd.evaluation.statistics import ErrorRates
from rcsd.graders.base import judgement_of
from rcsd.graders.grade import Graded
from rcsd.types import Criterion, Example, Rubric

RUBRIC = Rubric(
    (
        Criterion("Says 4.", 2, "value"),
        Criterion("Shows.", 2, "way"),
        Criterion("Guesses.", -1, "no"),
    )
)
EXAMPLES = [Example(f"q{n}", f"q{n}?", "4", None, RUBRIC) for n in range(2)]
RATES = {"sensitivity": 0.9, "num_met": 900, "specificity": 0.8, "num_unmet": 800}


def judged(id: str, *verdicts: bool | None, right: bool | None = None) -> Graded:
    found = judgement_of(RUBRIC, verdicts, [""] * 3)
    return Graded(
        id, f"{id}?", "4", 3, True, found.verdicts, found.score, right, bounds=found.bounds
    )


def a_set(**arms: list[list[Graded]]) -> AnsweredSet:
    return AnsweredSet("own", EXAMPLES, arms, {})


# By hand


def test_bounds_take_missing_verdicts_for_and_against_each_arm():
    arms = {
        "base": [[judged("q0", True, False, False), judged("q1", None, True, False)]],
        "new": [[judged("q0", True, True, None), judged("q1", True, True, False)]],
    }
    found = arm_bounds(arms, "score", EXAMPLES, [("new", "base")])
    assert found is not None
    base, new = found.means
    assert (base.low, base.high, base.num_unscored) == (0.5, 0.75, 1)
    assert (new.low, new.high, new.num_unscored) == ((0.75 + 1) / 2, 1, 1)
    [difference] = found.differences
    assert (difference.low, difference.high) == (0.875 - 0.75, 1 - 0.5)
    assert found.num_questions == 2


def test_where_every_verdict_is_there_nothing_is_open():
    arms = {"a": [[judged("q0", True, True, False), judged("q1", False, True, True)]]}
    assert arm_bounds(arms, "score", EXAMPLES) is None


def test_an_ungraded_answer_may_be_right_or_wrong():
    rows = [judged("q0", True, True, True, right=True), judged("q1", True, True, True)]
    found = arm_bounds({"a": [rows]}, "accuracy", EXAMPLES)
    assert found is not None
    assert (found.means[0].low, found.means[0].high) == (0.5, 1.0)
    # A question without a reference asks for no answer.
    others = [EXAMPLES[0], replace(EXAMPLES[1], reference_answer=None)]
    assert arm_bounds({"a": [rows]}, "accuracy", others) is None


def test_scores_and_criteria_are_freed_of_a_judges_errors():
    base = [judged("q0", False, False, True), judged("q1", True, False, False)]
    new = [judged("q0", True, True, False), judged("q1", True, True, False)]
    [score], criteria = _freed(base, new, ErrorRates(0.9, 10_000, 0.8, 10_000))
    # Points: base (-1/4, 2/4), new (1, 1); all points (2 + 2 - 1) / 4.
    means = {arm: of.mean for arm, of in score.corrected.means}
    assert means["base"] == pytest.approx((0.125 - 0.2 * 0.75) / 0.7)
    assert means["new"] == pytest.approx((1 - 0.2 * 0.75) / 0.7)
    assert score.corrected.differences[0][2].mean == pytest.approx(0.875 / 0.7)
    value = next(of for of in criteria if of.criterion == "value")
    assert dict(value.corrected.means)["base"].mean == pytest.approx((0.5 - 0.2) / 0.7)


def _freed(base: list[Graded], new: list[Graded], rates: ErrorRates) -> Any:
    found = compare_sets([a_set(base=[base], new=[new])], [("new", "base")], ["score"], rates=rates)
    return found.metrics, found.criteria


def test_the_command_tells_bounds_and_what_is_left_without_the_judges_errors(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    base = made(tmp_path / "base", [0, math.nan, 0, 1])
    new = made(tmp_path / "new", [1, 1, 0, 1], "other")
    rates = tmp_path / "judge.json"
    rates.write_text(json.dumps(RATES | {"kappa": 0.7}), "utf-8")
    words = ["compare", base, new, "--judge-noise", rates]
    code, out, _ = said(monkeypatch, capsys, *map(str, words), "--format", "markdown")
    assert code == 0
    assert "completions without a verdict: base: 1. Over all 4 questions" in out
    assert "base between 0.25 and 0.50; new - base between +0.25 and +0.50" in out
    assert "**own: freed of the judge's errors**" in out
    assert "as if it erred as often on every arm and criterion" in out
    assert "| score | new - base | +0.71 [" in out  # verdicts differ by 2 of 4, over 0.7
    code, out, _ = said(monkeypatch, capsys, *map(str, words), "--format", "json")
    metrics = {row["metric"]: row for row in json.loads(out)["metrics"]}
    assert metrics["score"]["bounds"]["means"][0] == {
        "arm": "base",
        "low": 0.25,
        "high": 0.5,
        "num_unscored": 1,
    }
    assert metrics["score"]["corrected"]["differences"][0]["mean"] == pytest.approx(0.5 / 0.7)
    assert metrics["accuracy"]["corrected"] is metrics["accuracy"]["bounds"] is None
    rates.write_text(json.dumps(RATES | {"sections": [{"type": "model", "asks": {}}]}), "utf-8")
    code, out, _ = said(monkeypatch, capsys, *map(str, words), "--format", "json")
    assert "measured of another judge than that of base, new" in json.loads(out)["notes"][0]
    code, out, _ = said(
        monkeypatch, capsys, *map(str, words), "--metric", "accuracy", "--format", "json"
    )
    assert "--judge-noise changes nothing here" in json.loads(out)["notes"][-1]


# Errors


def test_answers_that_were_scored_as_a_whole_have_no_verdicts_to_correct():
    whole = [replace(judged(f"q{n}", True, True, True), verdicts=()) for n in range(2)]
    one = AnsweredSet("own", EXAMPLES, {"a": [whole]}, {})
    with pytest.raises(DataError, match="'q0' was scored as a whole"):
        compare_sets([one], [], ["score"], rates=ErrorRates(0.9, 9, 0.9, 9))


def test_rates_of_a_judge_that_may_be_a_coin_are_refused():
    rows = [judged("q0", True, True, True), judged("q1", True, True, True)]
    with pytest.raises(DataError, match="nobody can tell this judge"):
        compare_sets([a_set(a=[rows])], [], ["score"], rates=ErrorRates(0.6, 5, 0.6, 5))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"sensitivity": None}, "expected a number sensitivity, got None"),
        ({"num_met": "many"}, "expected a number num_met, got 'many'"),
        ({"specificity": 0.1}, "no more than 1"),
    ],
)
def test_a_file_without_usable_rates_is_refused(
    tmp_path: Path, changes: dict[str, Any], message: str
):
    path = tmp_path / "judge.json"
    path.write_text(json.dumps(RATES | changes), "utf-8")
    with pytest.raises(DataError, match=message):
        read_rates(path)


def test_bounds_of_pass_at_k_are_of_questions_and_not_of_completions() -> None:
    questions = [Example(f"q{n}", "?", "4") for n in range(20)]
    rows = [
        Graded(question.id, "?", "", 1, True, (), None, None if n == sample == 0 else sample == 3)
        for n, question in enumerate(questions)
        for sample in range(4)
    ]
    of_questions = {}
    for metric in ("accuracy_avg@4", "pass@1", "pass@4"):
        found = arm_bounds({"own": [rows]}, metric, questions)
        assert found is not None
        of_questions[metric] = (found.means[0].low, found.means[0].high)
    assert of_questions["pass@4"] == (1.0, 1.0)
    assert of_questions["pass@1"] == of_questions["accuracy_avg@4"] == (0.25, 0.2625)
