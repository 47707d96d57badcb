"""The probe's numbers by hand, and the verdict: each rule, and its reasons."""

import math
from collections.abc import Mapping, Sequence

import pytest

from rcsd.evaluation.bounds import graded_values
from rcsd.evaluation.statistics import Interval
from rcsd.graders.grade import Graded
from rcsd.recipes.probe import (
    MAX_CUT_SHARE,
    MIN_QUESTIONS,
    MIN_SENSITIVITY,
    SOLVED,
    STUDENT,
    TEACHER,
    ContextHeadroom,
    Sensitivity,
    advise,
    choose_metric,
    measure_headroom,
    measure_sensitivity,
)

# Headroom and sensitivity, by hand


def rows(scores: Sequence[float | None], right: bool | None = None) -> list[Graded]:
    """Answers to q0, q1, ... with these scores."""
    return [Graded(f"q{n}", "?", "", 1, True, (None,), s, right) for n, s in enumerate(scores)]


def values(*scores: float) -> Mapping[str, float]:
    return graded_values(rows(scores), "score")


def test_headroom_is_the_paired_difference_of_what_is_graded_and_the_rest_is_counted() -> None:
    student = rows([0, 1, None, math.nan, 0])
    baseline = graded_values(student, "score")
    assert baseline == {"q0": 0, "q1": 1, "q4": 0}
    alone = measure_headroom(STUDENT, student, baseline, "score")
    assert (alone.num_answers, alone.num_ungraded, alone.gain) == (5, 2, None)
    assert alone.mean is not None
    assert alone.mean.mean == pytest.approx(1 / 3)
    teacher = measure_headroom(TEACHER, rows([1, 1, 1, 1]), baseline, "score")
    assert teacher.gain is not None
    assert (teacher.gain.mean, teacher.gain.n) == (0.5, 2)


def test_a_few_scores_do_not_push_out_many_accuracies() -> None:
    few = rows([0.0, *[None] * 7], right=False)
    assert choose_metric(few) == "accuracy"
    assert choose_metric(rows([0.0] * 8, right=False)) == "score"
    assert choose_metric(rows([None])) is None


def test_content_sensitivity_is_the_share_of_the_headroom_that_shuffling_loses() -> None:
    student, own = values(*[0.0] * 4), values(*[0.8] * 4)
    for placebo, share in ((0.2, 0.75), (0.8, 0.0), (0.0, 1.0)):
        measured = measure_sensitivity(student, own, "shuffled", values(*[placebo] * 4))
        assert measured is not None
        assert measured.share is not None
        assert measured.share.mean == pytest.approx(share)
        assert measured.gap.mean == pytest.approx(0.8 * share)


def test_a_share_of_no_headroom_is_undefined_with_a_reason() -> None:
    student, own = values(0, 1, 0, 1), values(1, 0, 0, 1)
    measured = measure_sensitivity(student, own, "shuffled", values(0, 0, 0, 0))
    assert measured is not None
    assert (measured.share, measured.gap.mean) == (None, 0.5)
    assert "may be 0" in measured.undefined
    assert measure_sensitivity(student, own, "shuffled", {}) is None


# The verdict


def interval(mean: float, half: float = 0.05, n: int = 64) -> Interval:
    return Interval(mean, mean - half, mean + half, n)


def context(gain: Interval | None, mean: float = 0.7, num_cut: int = 0) -> ContextHeadroom:
    name = STUDENT if gain is None else TEACHER
    return ContextHeadroom(name, 64, num_cut, 0, interval(mean), gain)


def sensitivity(placebo: str, gap: float, share: float) -> Sensitivity:
    return Sensitivity(placebo, interval(gap), interval(share), "")


ALONE, GOOD = context(None, 0.1), context(interval(0.6))
READS = [sensitivity("shuffled", 0.5, 0.8), sensitivity("generic", 0.5, 0.8)]
LOW = [sensitivity("shuffled", 0.2, MIN_SENSITIVITY - 0.06)]
UNSURE = [sensitivity("shuffled", 0.2, MIN_SENSITIVITY - 0.04)]
UNDEFINED = [Sensitivity("shuffled", interval(0.3), None, "may be 0")]
EQUAL = [*READS, sensitivity("generic", 0.04, 0.7)]


@pytest.mark.parametrize(
    ("student", "teacher", "sensitivities", "verdict", "reason"),
    [
        (ALONE, GOOD, READS, "train", "0.80 [0.75, 0.85] of the headroom is lost with shuffled"),
        (ALONE, GOOD, UNSURE, "train", ""),
        (ALONE, GOOD, UNDEFINED, "train", ""),
        (ALONE, GOOD, LOW, "fix the rubrics", "Only 0.44 [0.39, 0.49] of the headroom is lost"),
        (ALONE, GOOD, EQUAL, "fix the rubrics", "do not help more than generic ones"),
        (ALONE, context(interval(0.02)), READS, "don't", "its interval has 0"),
        (ALONE, context(interval(-0.3)), [], "don't", "makes answers worse"),
        (context(None, SOLVED), context(interval(0.0)), [], "don't", "already answers well"),
        (
            ALONE,
            context(interval(0.9, n=MIN_QUESTIONS - 1)),
            READS,
            "cannot tell",
            f"view: 7; a verdict needs {MIN_QUESTIONS}",
        ),
    ],
)
def test_the_first_rule_that_holds_decides(
    student: ContextHeadroom,
    teacher: ContextHeadroom,
    sensitivities: Sequence[Sensitivity],
    verdict: str,
    reason: str,
) -> None:
    advice = advise("score", student, teacher, sensitivities)
    assert advice.verdict == verdict
    assert any(reason in text for text in advice.reasons)
    assert advice.warnings == ()


def test_answers_that_are_cut_off_are_a_warning_and_what_nobody_grades_has_no_verdict() -> None:
    cut = context(None, num_cut=int(64 * MAX_CUT_SHARE) + 1)
    advice = advise("score", cut, GOOD, READS)
    assert advice.verdict == "train"
    assert "7 of 64 answers are cut off" in advice.warnings[0]
    assert advise(None, ALONE, GOOD, []).verdict == "cannot tell"
