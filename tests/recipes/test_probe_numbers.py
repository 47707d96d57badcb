"""The probe's numbers by hand and by law, and the verdict: each rule, and what it says."""

from collections.abc import Sequence
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.support.asked import answers

from rcsd.evaluation.statistics import Interval
from rcsd.graders.grade import Graded
from rcsd.recipes.probe_numbers import (
    CHANCE,
    MAX_CUT_SHARE,
    MIN_QUESTIONS,
    MIN_SENSITIVITY,
    SOLVED,
    STUDENT,
    TEACHER,
    Answers,
    ContextHeadroom,
    GradedGap,
    Headroom,
    Ranking,
    Sensitivity,
    advise,
    graded_value,
    measure_headroom,
    measure_ranking,
    measure_sensitivity,
)

# Headroom and sensitivity, by hand


def test_headroom_is_the_paired_difference_of_what_is_graded_and_the_rest_is_counted() -> None:
    student = answers(STUDENT, [0, 1, None, float("nan"), 0])
    teacher = answers(TEACHER, [1, 1, 1, 1], left_out={"q4": "too long"})
    headroom = measure_headroom(student, [teacher])
    gain = headroom.gain(TEACHER)
    assert gain is not None
    assert (headroom.metric, gain.mean, gain.n) == ("score", 0.5, 2)
    assert headroom.gain("answer") is headroom.gain(STUDENT) is None
    assert [of.counts for of in headroom.contexts] == [(5, 0, 0, 2), (4, 1, 0, 0)]
    means = [of.mean.mean if of.mean else None for of in headroom.contexts]
    assert means == [pytest.approx(1 / 3), 1.0]


def test_a_few_scores_do_not_push_out_many_accuracies() -> None:
    rows = {f"q{n}": Graded(f"q{n}", "?", "", 1, True, (), None, False) for n in range(8)}
    rows["q0"] = replace(rows["q0"], score=0.0)
    right = {id: replace(row, right=True) for id, row in rows.items()}
    headroom = measure_headroom(Answers(STUDENT, rows), [Answers(TEACHER, right)])
    assert headroom.metric == "accuracy"
    assert headroom.gain(TEACHER) == Interval(1, 1, 1, 8)


def test_where_nothing_can_be_graded_there_is_no_headroom() -> None:
    headroom = measure_headroom(answers(STUDENT, [None]), [answers(TEACHER, [None])])
    assert (headroom.metric, headroom.contexts[0].mean, headroom.gain(TEACHER)) == (None,) * 3


def test_content_sensitivity_is_the_share_of_the_headroom_that_shuffling_loses() -> None:
    student, own = answers(STUDENT, [0.0] * 4), answers(TEACHER, [0.8] * 4)
    for placebo, share in (([0.2] * 4, 0.75), ([0.8] * 4, 0.0), ([0.0] * 4, 1.0)):
        measured = measure_sensitivity(student, own, answers("shuffled", placebo), "score")
        assert measured is not None
        assert measured.share is not None
        assert measured.share.mean == pytest.approx(share)
        assert measured.gap.mean == pytest.approx(0.8 * share)


def test_a_share_of_no_headroom_is_undefined_with_a_reason() -> None:
    student, own = answers(STUDENT, [0, 1, 0, 1]), answers(TEACHER, [1, 0, 0, 1])
    measured = measure_sensitivity(student, own, answers("shuffled", [0] * 4), "score")
    assert measured is not None
    assert (measured.share, measured.gap.mean) == (None, 0.5)
    assert "may be 0" in measured.undefined
    assert measure_sensitivity(student, own, Answers("shuffled", {}), "score") is None


def test_a_grade_is_the_score_or_whether_the_answer_is_right_and_none_if_there_is_none() -> None:
    row = Graded("q0", "?", "", 1, True, (None,), float("nan"), True)
    assert (graded_value(row, "score"), graded_value(row, "accuracy")) == (None, 1.0)
    row = replace(row, score=0.5, right=None)
    assert (graded_value(row, "score"), graded_value(row, "accuracy")) == (0.5, None)


# Ranking


def completion(index: int, score: float, gap: float, question: str = "q") -> GradedGap:
    return GradedGap(index, question, score, gap)


def test_auc_counts_the_pairs_of_a_question_that_the_gap_orders_as_the_score() -> None:
    # Of q: 1 over 0.5 right, 1 over 0 right, 0.5 over 0 a tie. Of r: equal scores, no pair.
    group = [completion(0, 1, 4), completion(1, 0.5, 1), completion(2, 0, 1)]
    others = [completion(3, 1, 9, "r"), completion(4, 1, 1, "r")]
    ranking = measure_ranking(TEACHER, [*group, *others])
    assert ranking.num_pairs == 3
    assert ranking.auc is not None
    assert ranking.auc.mean == pytest.approx(2.5 / 3)
    assert ranking.auc.n == 1  # one question
    assert measure_ranking(TEACHER, others) == Ranking(TEACHER, 0, None)


def test_the_lead_of_the_teacher_is_paired() -> None:
    own = [completion(0, 1, 2), completion(1, 0, 1)]
    placebo = [completion(0, 1, 1), completion(1, 0, 2)]
    ranking = measure_ranking("shuffled", placebo, own=own)
    assert (ranking.auc, ranking.lead) == (Interval(0, 0, 0, 1), Interval(1, 1, 1, 1))


@given(st.lists(st.tuples(st.integers(-3, 3), st.integers(0, 2)), min_size=2, max_size=5))
def test_reversed_gaps_reverse_the_auc(rows: list[tuple[int, int]]) -> None:
    group = [completion(n, score, gap) for n, (gap, score) in enumerate(rows)]
    ranking = measure_ranking(TEACHER, group)
    other = measure_ranking(TEACHER, [replace(of, gap=-of.gap) for of in group])
    if ranking.auc is not None and other.auc is not None:
        assert other.auc.mean == pytest.approx(1 - ranking.auc.mean)


# The verdict


def interval(mean: float, half: float = 0.05, n: int = 64) -> Interval:
    return Interval(mean, mean - half, mean + half, n)


def context(name: str, gain: Interval | None, mean: float = 0.7) -> ContextHeadroom:
    return ContextHeadroom(name, (64, 0, 0, 0), interval(mean), gain)


def headroom(
    *contexts: ContextHeadroom, without: float = 0.1, num_cut: int = 0, metric: str | None = "score"
) -> Headroom:
    student = ContextHeadroom(STUDENT, (64, 0, num_cut, 0), interval(without), None)
    return Headroom("score" if metric else None, (student, *contexts))


def sensitivity(placebo: str, gap: float, share: float) -> Sensitivity:
    return Sensitivity(placebo, interval(gap), interval(share), "")


GOOD = context(TEACHER, interval(0.6))
NONE = context(TEACHER, interval(0.02))
READS = [sensitivity("shuffled", 0.5, 0.8), sensitivity("generic", 0.5, 0.8)]
RANKS = [Ranking(TEACHER, 99, interval(0.8))]
LOW = [sensitivity("shuffled", 0.2, MIN_SENSITIVITY - 0.06)]
UNSURE = [sensitivity("shuffled", 0.2, MIN_SENSITIVITY - 0.04)]
UNDEFINED = [Sensitivity("shuffled", interval(0.3), None, "may be 0")]
OTHERS = [context("answer", interval(0.2)), context("solution", interval(0.4))]
WIDE = context("rubric+answer", interval(0.9, half=1.0))  # its interval reaches 0
FEW = context(TEACHER, interval(0.9, n=MIN_QUESTIONS - 1))


@pytest.mark.parametrize(
    ("measured", "sensitivities", "verdict", "reason"),
    [
        (headroom(GOOD), READS, "train", "0.80 [0.75, 0.85] of the headroom is lost with shuffled"),
        (headroom(GOOD), [], "train", "Headroom 0.60 [0.55, 0.65] over 64 questions"),
        (headroom(GOOD), UNSURE, "train", ""),
        (headroom(GOOD), UNDEFINED, "train", ""),
        (headroom(GOOD), LOW, "fix the rubrics", "Only 0.44 [0.39, 0.49] of the headroom is lost"),
        (headroom(NONE, *OTHERS, WIDE), [], "use another context", "set views.teacher=solution"),
        (headroom(NONE, context("generic", interval(0.5))), [], "don't", "its interval has 0"),
        (headroom(NONE, context("answer", interval(0.0))), READS, "don't", "sft"),
        (headroom(context(TEACHER, interval(-0.3))), [], "don't", "makes answers worse"),
        (headroom(NONE, without=SOLVED), [], "don't", "already answers well"),
        (headroom(FEW), READS, "cannot tell", f"view: 7; a verdict needs {MIN_QUESTIONS}"),
        (headroom(GOOD, metric=None), [], "cannot tell", "Add checks to criteria"),
    ],
)
def test_the_first_rule_that_holds_decides(
    measured: Headroom, sensitivities: Sequence[Sensitivity], verdict: str, reason: str
) -> None:
    advice = advise(measured, sensitivities, RANKS)
    assert advice.verdict == verdict
    assert any(reason in text for text in advice.reasons)
    assert advice.warnings == ()


@pytest.mark.parametrize("placebo", ["generic", "shuffled", "random", "reduced", "noisy"])
def test_an_empty_placebo_that_helps_as_much_as_gold_condemns_the_rubrics(placebo: str) -> None:
    advice = advise(headroom(GOOD), [*READS, sensitivity(placebo, 0.04, 0.7)], RANKS)
    # A part of the rubric may do as well as the complete one.
    partial = placebo in ("reduced", "noisy")
    assert advice.verdict == ("train" if partial else "fix the rubrics")


def test_everything_else_is_a_warning_and_leaves_the_verdict() -> None:
    measured = headroom(GOOD, num_cut=int(64 * MAX_CUT_SHARE) + 1)
    lead = Ranking("shuffled", 99, interval(0.5), interval(0.0))
    advice = advise(measured, READS, [Ranking(TEACHER, 99, interval(CHANCE)), lead])
    assert advice.verdict == "train"
    for part, warning in zip(
        ("than chance", "with shuffled rubrics", "cut off"), advice.warnings, strict=True
    ):
        assert part in warning
    assert "no ranking is measured" in advise(measured, READS, []).warnings[0]
