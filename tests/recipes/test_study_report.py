"""What a study says of its numbers: sentences and curves, from points made up by hand."""

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

from rcsd.recipes.standings import Content, Prediction, Standing
from tests.support.points import point, rows, settings, trained

from rcsd.evaluation.compare import ArmDifference, ArmMean, ArmsCompared
from rcsd.evaluation.report.text import number
from rcsd.evaluation.statistics import Interval
from rcsd.io import write_json
from rcsd.recipes.study_report import reported, sentences
from rcsd.runs import RunFolder

NAN = math.nan


# Sentences


def standing(moment: Any = "tokens", metric: str = "score", left_out: int = 0) -> Standing:
    means = {"base": 0.1, "rcsd": 0.5, "low": 0.2, "near": 0.45, "high": 0.7}
    differences = [
        ArmDifference("rcsd", "base", Interval(0.4, 0.3, 0.5, 9), 0.001, 0.004),
        ArmDifference("low", "base", Interval(0.1, 0.01, 0.2, 9), 0.02, 0.03),
        ArmDifference("rcsd", "low", Interval(0.3, 0.01, 0.5, 9), 0.02, 0.06),
        ArmDifference("rcsd", "near", Interval(0.05, -0.1, 0.2, 9), 0.4, 0.8),
        ArmDifference("rcsd", "high", Interval(-0.2, -0.3, -0.1, 9), 0.002, 0.01),
    ]
    of = tuple(ArmMean(arm, 2, Interval(m, m - 0.05, m + 0.05, 9)) for arm, m in means.items())
    compared = ArmsCompared(of, tuple(differences), 9, left_out)
    return Standing(moment, "new_numbers", metric, compared)


def test_a_sentence_names_who_scores_less_who_more_and_who_cannot_be_told_apart() -> None:
    arms = {"rcsd": {}, "low": {}, "near": {}, "high": {}}
    study = settings(arms, "rcsd", budget={"tokens": 48000, "seconds": 45})
    prediction = Prediction("new_numbers", {"a": 0.0}, {"a": 0.0}, 0.876)
    silent = Prediction("new_templates", {"a": 0.0}, {"a": 0.0}, None)
    found = sentences(study, [standing(), standing("seconds")], [prediction, silent])
    told = (
        "on new numbers, rcsd scores 0.50 [0.45, 0.55]. More than: base 0.10*; low 0.20. Less "
        "than: high 0.70*. Not clearly other than: near 0.45."
    )
    assert found == [
        f"After 48,000 tokens, {told}",
        f"After 45 s, {told}",
        "Headroom before training and gain correlate with r = 0.88 over 1 arms on new numbers.",
    ]


def test_score_and_accuracy_are_told_each() -> None:
    study = settings({"rcsd": {}}, "rcsd")
    scored, right = sentences(study, [standing(), standing(metric="accuracy")], [])
    assert "rcsd scores 0.50 [0.45, 0.55]. More than: base" in scored
    assert "rcsd is right in 0.50 [0.45, 0.55]. More than: base" in right
    assert sentences(study, [], []) == ["No held-out question was graded in all arms."]


def test_a_sentence_tells_what_content_was_worth() -> None:
    study = settings({"rcsd": {}}, "rcsd")
    content = Content("set", "rcsd", Interval(0.8, 0.7, 0.9, 4), Interval(0.5, 0.4, 0.6, 4))
    told = sentences(study, [], [], [content, replace(content, sensitivity=None)])
    assert told[1:] == [
        "On set, 0.80 [0.70, 0.90] of the headroom of rcsd hangs on what its rubrics say; it gains "
        "0.50 [0.40, 0.60] more than with shuffled ones."
    ]


# The page


def test_curves_are_means_over_seeds_from_the_base_to_where_arms_are_compared(
    tmp_path: Path,
) -> None:
    study = settings({"rcsd": {}, "sft": {}}, "rcsd", out=str(tmp_path))
    write_json(tmp_path / "run.json", {"config": {"steps": 3}})
    runs = {
        # The second seed's steps jumped over the first evaluation; both went on past the budget.
        "rcsd": [
            [point(40, 1, 0.9, 0.9), point(100, 2, 0.4, 0.6), point(140, 3, 0.0, 0.0)],
            [point(120, 1, 0.6, 0.8), point(160, 2, 0.0, 0.0)],
        ],
        "sft": [[point(50, 1, 0.2, 0.2), point(100, 2, 0.3, 0.3)]] * 2,
    }
    base = rows(0.1, NAN)
    outcome = reported(study, "Test", trained(base, runs, folder=RunFolder(tmp_path)))
    page = outcome.report.read_text()
    # Of the base the one question that is graded; at the end means of 0.5 and 0.7, not of zeros.
    said = f"rcsd from {number(0.1)} to {number(0.6)}; sft from {number(0.1)} to {number(0.3)}"
    assert f"score on set (0 to 1) by tokens, means over seeds: 2: {said}" in page
    assert outcome.summary["spent"]["rcsd"] == {
        "tokens": [100, 120],
        "seconds": [2, 1],
        "tokens_at_end": [140, 160],
        "seconds_at_end": [3, 2],
    }
