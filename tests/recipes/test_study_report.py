"""Report of a study, from points made up by hand: arithmetic, sentences, curves; no model."""

import math
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
from tests.support.points import ends, point, result, rows, settings

from rcsd.evaluation.compare import ArmDifference, ArmMean, ArmsCompared
from rcsd.evaluation.statistics import Interval
from rcsd.evaluation.text import number
from rcsd.io import write_json
from rcsd.recipes.arms import ArmComparison
from rcsd.recipes.study_config import Study
from rcsd.recipes.study_report import (
    TeacherWorth,
    around_seconds,
    at_tokens,
    compare_at,
    correlation,
    describe,
    report,
    solution_values,
    teacher_worths,
)
from rcsd.runs import RunFolder
from rcsd.types import Criterion, Example, Rubric

NAN = math.nan
GROUPS = {"method": {"type": "grpo", "rewards": [{"type": "answer"}]}, "completions_per_example": 2}


# Equal tokens, equal seconds


def test_equal_tokens_are_the_first_evaluation_that_has_them() -> None:
    points = [point(40, 1, 0.1), point(100, 2, 0.2), point(130, 3, 0.3)]
    assert at_tokens(points, 100) is points[1]
    assert at_tokens(points, 99.5) is points[1]
    assert at_tokens(points, 101) is points[2]
    assert at_tokens(points, 1) is points[0]


@pytest.mark.parametrize(
    ("seconds", "before", "after", "share"),
    [
        (1.0, 0, 1, 0.25),  # before the first evaluation: on the way from the base
        (4.0, 0, 1, 1.0),
        (5.0, 1, 2, 0.5),
        (6.0, 1, 2, 1.0),
        (9.0, 2, 2, 1.0),  # after the last: the last
    ],
)
def test_equal_seconds_lie_between_the_evaluations_before_and_after(
    seconds: float, before: int, after: int, share: float
) -> None:
    points = [point(0, 0, 0.0), point(10, 4, 1.0), point(20, 6, 2.0)]
    found = around_seconds(points, seconds)
    assert found == (points[before], points[after], share)


def test_scores_in_equal_time_are_interpolated_from_the_base_question_by_question() -> None:
    study = settings({"rcsd": {}}, "rcsd", budget={"tokens": 100, "seconds": 3.0})
    seeds = [
        # 3 of 4 seconds on the way from the base: 0.75 of the gain.
        [point(100, 4, 1.0, 0.2), point(200, 9, 0.0, 0.0)],
        # Exactly on the second evaluation.
        [point(50, 1, 0.0, 0.0), point(150, 3, 0.6, 0.4)],
    ]
    [one] = compare_at(study, result(rows(0.2, 0.2), {"rcsd": seeds}), "seconds")
    means = {mean.arm: mean.interval.mean for mean in one.compared.means}
    assert means["rcsd"] == pytest.approx(np.mean([[0.8, 0.2], [0.6, 0.4]]))
    assert means["base"] == pytest.approx(0.2)
    [difference] = one.compared.differences
    assert difference.interval.mean == pytest.approx(0.5 - 0.2)
    # At equal tokens the same runs are elsewhere: at 100 and at 150 tokens.
    [one] = compare_at(study, result(rows(0.2, 0.2), {"rcsd": seeds}), "tokens")
    means = {mean.arm: mean.interval.mean for mean in one.compared.means}
    assert means["rcsd"] == pytest.approx(np.mean([[1.0, 0.2], [0.6, 0.4]]))


def test_an_evaluation_exactly_on_the_moment_needs_no_grade_before_it() -> None:
    study = settings({"rcsd": {}}, "rcsd", budget={"tokens": 100, "seconds": 4.0}, seeds=[0])
    runs = {"rcsd": [[point(50, 2, NAN, 0.1), point(100, 4, 0.9, 0.1)]]}
    [one] = compare_at(study, result(rows(0.5, 0.1), runs), "seconds")
    assert one.compared.num_left_out == 0
    runs = {"rcsd": [[point(50, 2, NAN, 0.1), point(100, 5, 0.9, 0.1)]]}
    [one] = compare_at(study, result(rows(0.5, 0.1), runs), "seconds")
    assert (one.compared.num_compared, one.compared.num_left_out) == (1, 1)


# Differences


def pairs_of(study: Study) -> list[tuple[str, str]]:
    found = result(rows(0.1, 0.2), {label: ends(0.3, 0.4) for label in study.labels})
    [one] = compare_at(study, found, "tokens")
    return [(d.left, d.right) for d in one.compared.differences]


ARMS = {
    "rcsd": {"rubrics": ["gold", "shuffled", "generic"]},
    "criterion": {"run": {"method": {"type": "criterion"}}, "rubrics": ["gold", "shuffled"]},
    "lonely": {"rubrics": ["shuffled"]},
}


def test_differences_are_to_the_base_to_one_arm_and_to_the_own_placebos() -> None:
    labels = ["rcsd", "rcsd, shuffled", "rcsd, generic", "criterion", "criterion, shuffled"]
    labels += ["lonely, shuffled"]
    assert pairs_of(settings(ARMS, "rcsd")) == [
        *((label, "base") for label in labels),
        *(("rcsd", label) for label in labels[1:]),
        ("criterion", "criterion, shuffled"),
    ]


def test_a_question_that_one_seed_of_one_arm_cannot_be_graded_on_is_left_out_of_all() -> None:
    study = settings({"rcsd": {"rubrics": ["gold", "shuffled"]}}, "rcsd")
    runs = {
        "rcsd": [[point(100, 1, 0.5, 1.0)], [point(100, 1, 0.5, NAN)]],
        "rcsd, shuffled": ends(0.1, 0.9),
    }
    [one] = compare_at(study, result(rows(0.0, 0.0), runs), "tokens")
    means = {mean.arm: mean.interval.mean for mean in one.compared.means}
    assert means == {"base": 0.0, "rcsd": 0.5, "rcsd, shuffled": 0.1}
    [sentence] = describe(study, {"tokens": [one]}, [])
    assert sentence.endswith(" Left out: 1 questions, where not every arm could be graded.")


def test_new_templates_are_resampled_as_a_whole_and_known_ones_by_question() -> None:
    study = settings({"rcsd": {}}, "rcsd")
    runs = {"rcsd": ends(0.9, 0.8, 0.1, 0.3)}
    base = rows(0.0, 0.0, 0.0, 0.0)
    [known] = compare_at(study, result(base, runs), "tokens")
    [new] = compare_at(study, result(base, runs, templates=["a", "a", "b", "b"]), "tokens")
    assert [s.compared.means[1].interval.n for s in (known, new)] == [4, 2]
    # Two families: no p-value can be below one half.
    assert new.compared.differences[0].p_value == 0.5


# Teachers


def taught() -> tuple[Study, dict[str, Any]]:
    """Two arms with a teacher, one of them with shuffled rubrics too, and one without."""
    arms = {
        "one": {"rubrics": ["gold", "shuffled"]},
        "two": {"run": {"method": {"type": "criterion"}}},
        "grpo": {"run": GROUPS},
    }
    answers = {
        "base": rows(0.2, 0.4),
        "teachers": {"rubric": rows(0.8, 0.8), "shuffled": rows(0.2, 0.5)},
        "taught_by": {"one": "rubric", "one, shuffled": "shuffled", "two": "rubric"},
    }
    return settings(arms, "one"), answers


def worths(study: Study, runs: Any, answers: dict[str, Any]) -> dict[str, TeacherWorth]:
    found = result(runs=runs, **answers)
    comparisons = compare_at(study, found, "tokens")
    return {of.arm: of for of in teacher_worths(study, found, comparisons, "set")}


def test_headroom_and_gain_are_paired_differences_to_the_base() -> None:
    study, answers = taught()
    runs = {
        "one": [[point(100, 1, 0.6, 0.6)], [point(60, 1, 0.0, 0.0), point(110, 1, 0.8, 0.8)]],
        "one, shuffled": ends(0.2, 0.6),
        "two": ends(0.7, 0.7),
        "grpo": ends(1.0, 1.0),
    }
    found = worths(study, runs, answers)
    assert {arm: of.headroom for arm, of in found.items()} == pytest.approx(
        {"one": 0.5, "one, shuffled": 0.05, "two": 0.5}
    )
    assert {arm: of.gain for arm, of in found.items()} == pytest.approx(
        {"one": 0.4, "one, shuffled": 0.1, "two": 0.4}
    )
    assert {arm: of.is_alike for arm, of in found.items()} == {
        "one": True,
        "one, shuffled": True,
        "two": False,
    }


@pytest.mark.parametrize("missing", [None, NAN])
def test_a_set_without_scores_has_neither_headroom_nor_gain(missing: float | None) -> None:
    study, answers = taught()
    answers["base"] = rows(missing, missing)
    found = worths(study, {label: ends(0.6, 0.6) for label in study.labels}, answers)
    assert {(of.headroom, of.gain, of.sensitivity) for of in found.values()} == {(None,) * 3}


@pytest.mark.parametrize("against", ["one", "one, shuffled"])
def test_content_is_the_share_of_headroom_that_anothers_rubric_does_not_give(against: str) -> None:
    study, answers = taught()
    study = study.model_copy(update={"against": against})
    runs = {label: ends(0.6, 0.7) for label in study.labels} | {"one, shuffled": ends(0.2, 0.5)}
    answers |= {"base": rows(0.2, 0.3)}
    found = worths(study, runs, answers)
    assert [arm for arm, of in found.items() if of.content_gain is not None] == ["one"]
    one = found["one"]
    # Teachers: 0.8 and 0.8 with the rubric, 0.2 and 0.5 with another's, 0.2 and 0.3 without.
    assert one.sensitivity is not None
    assert one.sensitivity.mean == pytest.approx((0.6 + 0.3) / (0.6 + 0.5))
    assert one.content_gain is not None
    assert one.content_gain.mean == pytest.approx(0.3)
    assert one.content_gain.low <= 0.3 <= one.content_gain.high
    answers["teachers"]["rubric"] = rows(0.2, 0.3)  # no headroom, no share of it
    assert worths(study, runs, answers)["one"].sensitivity is None


def worth(arm: str, headroom: float | None, gain: float, is_alike: bool = True) -> TeacherWorth:
    return TeacherWorth("set", arm, headroom, gain, is_alike)


def test_r_is_pearsons_over_three_arms_or_more_that_are_alike() -> None:
    arms = [worth("a", 0.5, 0.4), worth("b", 0.05, 0.1), worth("c", 0.5, 0.1)]
    others = [worth("d", 0.5, 0.0, is_alike=False), worth("e", None, 0.3)]
    x, y = np.array([0.5, 0.05, 0.5]), np.array([0.4, 0.1, 0.1])
    dx, dy = x - x.mean(), y - y.mean()
    found = correlation([*arms, *others], "set")
    assert found is not None
    assert found[0] == pytest.approx(dx @ dy / np.sqrt(dx @ dx * (dy @ dy)))
    assert found[1] == arms
    assert correlation(arms, "other") is None
    assert correlation(arms[:2], "set") is None
    assert correlation([replace(of, gain=0.1) for of in arms], "set") is None


def test_worked_solutions_are_graded_beside_the_arms() -> None:
    check = Criterion("Boxed.", 1.0, check={"type": "boxed"})
    step = Criterion("Adds.", 3.0, check={"type": "contains", "text": "1 + 1"})
    example = Example("q", "?", "2", "1 + 1 = 2\nAnswer: 2", Rubric((step, check)))
    score, accuracy = (solution_values([example], metric) for metric in ("score", "accuracy"))
    assert score is not None
    assert accuracy is not None
    assert (score.tolist(), accuracy.tolist()) == ([0.75], [1.0])
    assert solution_values([example, replace(example, solution=None)], "score") is None


# Sentences


def comparison(metric: str = "score", left_out: int = 0) -> ArmComparison:
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
    return ArmComparison("new_numbers", metric, compared)


def test_a_sentence_names_who_scores_less_who_more_and_who_cannot_be_told_apart() -> None:
    arms = {"rcsd": {}, "low": {}, "near": {}, "high": {}}
    study = settings(arms, "rcsd", budget={"tokens": 48000, "seconds": 45})
    both = {"tokens": [comparison()], "seconds": [comparison()]}
    teachers = [worth("a", 0.0, 0.0), worth("b", 0.5, 0.4), worth("c", 0.8, 0.9)]
    others = (
        "on new numbers, rcsd scores 0.50 [0.45, 0.55]. More than: base 0.10*; low 0.20. Less "
        "than: high 0.70*. Not clearly other than: near 0.45."
    )
    assert describe(study, cast(Any, both), teachers) == [
        f"After 48,000 tokens, {others}",
        f"After 45 s, {others}",
        "Over the 3 arms that differ in the teacher's view alone, headroom before training and "
        "gain correlate with r = 0.98 on set.",
    ]


def test_a_sentence_says_what_content_was_worth() -> None:
    study = settings({"rcsd": {}}, "rcsd")
    content = replace(
        worth("rcsd", 0.5, 0.4),
        sensitivity=Interval(0.8, 0.7, 0.9, 4),
        content_gain=Interval(0.5, 0.4, 0.6, 4),
    )
    teachers = [content, replace(content, sensitivity=None)]
    assert describe(study, {"tokens": []}, teachers)[1:] == [
        "On set, 0.80 [0.70, 0.90] of the headroom of rcsd depends on the content of its rubrics; "
        "it gains 0.50 [0.40, 0.60] more than with shuffled ones."
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
    outcome = report(study, "Test", result(base, runs, folder=RunFolder(tmp_path)))
    page = outcome.report.read_text()
    # Of the base the one question that is graded; at the end means of 0.5 and 0.7, not of zeros.
    line = f"rcsd from {number(0.1)} to {number(0.6)}; sft from {number(0.1)} to {number(0.3)}"
    assert f"score on set (0 to 1) by tokens, means over seeds: 2: {line}" in page
    assert outcome.summary["spent"]["rcsd"] == {
        "tokens": [100, 120],
        "seconds": [2, 1],
        "tokens_at_end": [140, 160],
        "seconds_at_end": [3, 2],
    }
