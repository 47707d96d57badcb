"""The probe's numbers: gains, content sensitivity, ranking; by hand and by law."""

from collections.abc import Sequence
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.support.asked import SAYS_YES, answers, question

from rcsd.evaluation.statistics import Interval
from rcsd.graders.grade import Graded
from rcsd.recipes.probe import measure_leakage
from rcsd.recipes.probe_numbers import (
    MIN_QUESTIONS,
    TEACHER,
    Answers,
    GradedGaps,
    Leakage,
    graded_value,
    measure_headroom,
    measure_ranking,
)
from rcsd.recipes.probe_numbers import (
    measure_sensitivity as sensitivity,
)
from rcsd.types import Criterion

# Headroom, by hand


def test_headroom_is_the_paired_difference_of_mean_scores() -> None:
    asked = [question(n, SAYS_YES) for n in range(4)]
    found = measure_headroom(
        asked, answers("student", [0, 0, 0, 1]), [answers(TEACHER, [1, 1, 0, 1])]
    )
    gain = found.gain(TEACHER)
    assert gain is not None
    assert (gain.without.mean, gain.with_context.mean, gain.gain.mean) == (0.25, 0.75, 0.5)
    assert (found.metric, gain.gain.n) == ("score", 4)
    assert found.gain("answer") is None


def test_what_cannot_be_graded_is_left_out_of_the_pair_and_counted() -> None:
    asked = [question(n, SAYS_YES) for n in range(4)]
    student = answers("student", [0, None, float("nan"), 0])
    found = measure_headroom(
        asked, student, [answers(TEACHER, [1, 1, 1], left_out={"q3": "too long"})]
    )
    gain = found.gain(TEACHER)
    assert gain is not None
    assert (gain.gain.mean, gain.gain.n) == (1.0, 1)
    assert found.student.num_unscored == 2
    assert (found.contexts[0].counts.num_answers, found.contexts[0].counts.num_left_out) == (3, 1)


def test_without_scores_headroom_is_told_in_accuracy_over_numeric_references() -> None:
    asked = [question(n, reference="7 Pa") for n in range(3)]
    asked.append(question(3, reference="Rayleigh scattering"))

    def graded(name: str, rights: Sequence[bool | None]) -> Answers:
        rows = answers(name, [None] * 4).rows.items()
        given = zip(rows, rights, strict=True)
        return Answers(name, "rubric", {i: replace(row, right=r) for (i, row), r in given})

    # No answer to a reference that is no number is graded: none could be called wrong.
    found = measure_headroom(
        asked,
        graded("student", [False, False, True, None]),
        [graded(TEACHER, [True, True, True, None])],
    )
    gain = found.gain(TEACHER)
    assert gain is not None
    assert (found.metric, gain.gain.n) == ("accuracy", 3)
    assert gain.gain.mean == pytest.approx(2 / 3)
    assert found.student.num_ungraded == 1


def test_a_few_scores_do_not_push_out_many_accuracies() -> None:
    asked = [question(n, reference="7") for n in range(MIN_QUESTIONS)]
    rows = {e.id: Graded(e.id, "?", "", 1, True, (), None, False) for e in asked}
    rows["q0"] = replace(rows["q0"], score=0.0)
    assert measure_headroom(asked, Answers("student", "none", rows), []).metric == "accuracy"


def test_where_nothing_can_be_graded_there_is_no_headroom() -> None:
    found = measure_headroom([question(0)], answers("s", [None]), [answers(TEACHER, [None])])
    assert (found.metric, found.score, found.gain(TEACHER)) == (None, None, None)


def test_content_sensitivity_is_the_share_of_the_headroom_that_shuffling_loses() -> None:
    asked = [question(n, SAYS_YES) for n in range(4)]
    student, own = answers("student", [0.0] * 4), answers(TEACHER, [0.8] * 4)
    for placebo, share in (([0.2] * 4, 0.75), ([0.8] * 4, 0.0), ([0.0] * 4, 1.0)):
        found = sensitivity(asked, student, own, answers("shuffled", placebo), "score")
        assert found is not None
        assert found.share is not None
        assert found.share.mean == pytest.approx(share)
        assert found.gap.mean == pytest.approx(0.8 * share)


def test_a_share_of_no_headroom_is_undefined_and_says_why() -> None:
    asked = [question(n, SAYS_YES) for n in range(4)]
    student, own = answers("student", [0, 1, 0, 1]), answers(TEACHER, [1, 0, 0, 1])
    found = sensitivity(asked, student, own, answers("shuffled", [0, 0, 0, 0]), "score")
    assert found is not None
    assert (found.share, found.gap.mean) == (None, 0.5)
    assert "may be 0" in found.undefined
    assert sensitivity(asked, student, own, Answers("shuffled", "rubric", {}), "score") is None


# Ranking, by hand


def completion(index: int, score: float, *gaps: float, asked: str = "q") -> GradedGaps:
    return GradedGaps(index, asked, score, gaps)


def test_auc_counts_the_pairs_of_a_question_that_the_sum_puts_right() -> None:
    # Of q: 1 over 0.5 right, 1 over 0 right, 0.5 over 0 a tie. Of r: equal scores, no pair.
    group = [completion(0, 1, 2, 2), completion(1, 0.5, 1), completion(2, 0, 0.5, 0.25, 0.25)]
    others = [completion(3, 1, 9, asked="r"), completion(4, 1, 1, asked="r")]
    found = measure_ranking("teacher", [*group, *others])
    assert found.num_pairs == 3
    assert found.by_sum is not None
    assert found.by_mean is not None
    assert found.by_sum.mean == pytest.approx(2.5 / 3)
    assert found.by_mean.mean == 1.0  # 2 > 1 > 1/3
    assert found.by_sum.n == 1  # one question


def test_a_placebos_ranking_is_told_beside_the_teachers() -> None:
    own = [completion(0, 1, 2), completion(1, 0, 1)]
    placebo = [completion(0, 1, 1), completion(1, 0, 2)]
    found = measure_ranking("shuffled", placebo, own=own)
    assert found.by_sum == Interval(0, 0, 0, 1)
    assert found.lead == Interval(1, 1, 1, 1)


def test_without_pairs_there_is_no_auc() -> None:
    assert measure_ranking("teacher", [completion(0, 1, 2), completion(1, 1, 1)]).by_sum is None
    assert measure_ranking("teacher", []).num_pairs == 0


def test_leakage_is_the_lint_rule_on_rubrics_with_a_reference() -> None:
    given = Criterion("Says that the answer is 360 J.", 1)
    rows = [
        question(0, SAYS_YES, given, reference="360 J"),
        question(1, SAYS_YES, reference="5 m"),
        question(2, given),
        question(3, reference="7 N"),
    ]
    assert measure_leakage(rows) == Leakage(2, 1, 0.5)
    assert measure_leakage(rows[2:]) == Leakage(0, 0, None)


def test_a_grade_is_the_score_or_whether_the_answer_is_right_and_none_if_there_is_none() -> None:
    row = Graded("q0", "?", "", 1, True, (None,), float("nan"), True)
    assert (graded_value(row, "score"), graded_value(row, "accuracy")) == (None, 1.0)
    row = replace(row, score=0.5, right=None)
    assert (graded_value(row, "score"), graded_value(row, "accuracy")) == (0.5, None)


# Laws

GAPS = st.lists(st.lists(st.integers(-3, 3), min_size=1, max_size=3), min_size=2, max_size=5)


@given(GAPS, st.data())
def test_turning_the_gaps_turns_the_auc_and_the_order_does_not_matter(
    gaps: list[list[int]], data: st.DataObject
) -> None:
    group = [completion(n, data.draw(st.integers(0, 2)), *row) for n, row in enumerate(gaps)]
    found = measure_ranking("teacher", group)
    turned = measure_ranking("teacher", [replace(w, gaps=[-g for g in w.gaps]) for w in group])
    assert measure_ranking("teacher", group[::-1]).num_pairs == found.num_pairs
    if found.by_sum is not None and turned.by_sum is not None:
        assert turned.by_sum.mean == pytest.approx(1 - found.by_sum.mean)
        assert 0 <= found.by_sum.low <= found.by_sum.high <= 1


@given(st.lists(st.sampled_from([0, 0.5, 1]), min_size=3, max_size=6), st.data())
def test_a_placebo_that_answers_as_gold_has_sensitivity_0_and_as_the_student_1(
    scores: list[float], data: st.DataObject
) -> None:
    asked = [question(n, SAYS_YES) for n in range(len(scores))]
    student = answers("student", [0.0] * len(scores))
    own = answers(TEACHER, [score or 0.5 for score in scores])
    for placebo, share in ((own, 0.0), (student, 1.0)):
        found = sensitivity(asked, student, own, replace(placebo, context="shuffled"), "score")
        assert found is not None
        assert found.share is not None
        assert (found.share.low, found.share.high) == pytest.approx((share, share))
