"""Bounds of what is not graded, and baselines of guessing."""

import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from tests.evaluation.test_record import made

from rcsd.evaluation.bounds import arm_bounds, baseline_accuracies
from rcsd.graders.base import Judgement
from rcsd.graders.grade import Graded
from rcsd.types import Criterion, Example, Grading, Rubric

RUBRIC = Rubric(
    (
        Criterion("Says 4.", 2, "value"),
        Criterion("Shows.", 2, "way"),
        Criterion("Guesses.", -1, "no"),
    )
)
EXAMPLES = [Example(f"q{n}", f"q{n}?", "4", None, RUBRIC) for n in range(2)]


def judged(id: str, *verdicts: bool | None, right: bool | None = None) -> Graded:
    found = Judgement.from_verdicts(RUBRIC, verdicts, [""] * 3)
    return Graded(
        id, f"{id}?", "4", 3, True, found.verdicts, found.score, right, bounds=found.bounds
    )


# By hand


def test_bounds_take_missing_verdicts_for_and_against_each_arm():
    arms = {
        "base": [[judged("q0", True, False, False), judged("q1", None, True, False)]],
        "new": [[judged("q0", True, True, None), judged("q1", True, True, False)]],
    }
    base, new = arm_bounds(arms, "score", EXAMPLES)
    assert (base.low, base.high, base.num_unscored) == (0.5, 0.75, 1)
    assert (new.low, new.high, new.num_unscored) == ((0.75 + 1) / 2, 1, 1)


def test_an_ungraded_answer_may_be_right_or_wrong():
    rows = [judged("q0", True, True, True, right=True), judged("q1", True, True, True)]
    [found] = arm_bounds({"a": [rows]}, "accuracy", EXAMPLES)
    assert (found.low, found.high) == (0.5, 1.0)
    # A question without a reference asks for no answer.
    others = [EXAMPLES[0], replace(EXAMPLES[1], reference_answer=None)]
    assert arm_bounds({"a": [rows]}, "accuracy", others) == ()


def test_the_command_prints_bounds(tmp_path: Path, rcsd: Any):
    base = made(tmp_path / "base", [0, math.nan, 0, 1])
    new = [made(tmp_path / f"s{n}", [1, 1, 0, n], f"s{n}", seed=n) for n in (0, 1)]
    words = ["compare", f"base={base}", f"new={new[0]},{new[1]}"]
    code, out, _ = rcsd(*words)
    assert code == 0
    out = " ".join(out.split())
    assert "metric base new (2 seeds) compared left out" in out
    assert "base between 0.250 and 0.500 (completions without a value: 1)" in out
    rcsd(*words, "--json", str(tmp_path / "compared.json"))
    compared = json.loads((tmp_path / "compared.json").read_text())
    metrics = {row["metric"]: row for row in compared["metrics"]}
    bounds = {"arm": "base", "low": 0.25, "high": 0.5, "num_unscored": 1}
    assert metrics["score"]["bounds"][0] == bounds
    assert metrics["accuracy"]["bounds"] == []


def test_the_command_prints_accuracies_by_every_rule_and_what_they_move(tmp_path: Path, rcsd: Any):
    asked = [Example(f"q{n}", "?", "4 m") for n in range(10)]
    ungraded = {"right": None, "number_right": None, "unit_verdict": "right"}
    bare = {"right": True, "number_right": True, "unit_verdict": "absent"}
    changes = {f"q{n}": ungraded for n in (0, 1)} | {f"q{n}": bare for n in (2, 3)}
    base = made(tmp_path / "base", [0] * 5 + [1] * 5, examples=asked)
    new = made(tmp_path / "new", [0] * 5 + [1] * 5, "new", examples=asked, changes=changes)
    code, out, _ = rcsd("compare", f"base={base}", f"new={new}")
    assert code == 0
    out = " ".join(out.split())
    for label in ("(ungraded as wrong)", "(number alone)", "(unit required)"):
        assert f"accuracy {label} 0." in out
    assert "leaving ungraded answers out moves new - base from +0.200" in out
    assert "; new has more of them, 2, and base 0." in out


def test_bounds_of_pass_at_k_are_of_questions_and_not_of_completions() -> None:
    questions = [Example(f"q{n}", "?", "4") for n in range(20)]
    rows = [
        Graded(question.id, "?", "", 1, True, (), None, None if n == sample == 0 else sample == 3)
        for n, question in enumerate(questions)
        for sample in range(4)
    ]
    of_questions = {}
    for metric in ("accuracy_avg@4", "pass@1", "pass@4"):
        [found] = arm_bounds({"own": [rows]}, metric, questions)
        of_questions[metric] = (found.low, found.high)
    assert of_questions["pass@4"] == (1.0, 1.0)
    assert of_questions["pass@1"] == of_questions["accuracy_avg@4"] == (0.25, 0.2625)


def test_what_guessing_gives_stands_beside_an_accuracy() -> None:
    def example(reference: str, *options: str) -> Example:
        return Example("x", "?", reference, grading=Grading("choice", options))

    baselines = baseline_accuracies(
        [example("B", "x", "y"), example("z", "x", "y", "z", "w"), example("C", "A", "B", "C")]
    )
    assert baselines == {
        "chance": pytest.approx((1 / 2 + 1 / 4 + 1 / 3) / 3),
        "majority": pytest.approx(2 / 3),
        "majority_letter": "C",
    }
    assert baseline_accuracies([example("A", "x", "y"), Example("y", "?")]) == {}
    assert baseline_accuracies([Example("y", "?", "3", grading=Grading("number"))]) == {}
