"""Numbers of the probe, and the verdict over them. No tensors here.

Everything is paired by question: a question counts if it is graded in all that is compared.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from rcsd.evaluation.statistics import (
    Interval,
    bootstrap_interval,
    paired_difference,
    ratio_interval,
)
from rcsd.graders.grade import Graded

STUDENT, TEACHER = "student", "teacher"
"""Contexts of the student's view, which all others are compared with, and of the teacher's."""

Metric = Literal["score", "accuracy"]
"""Share of the example's own rubric points; or whether the final answer is the reference's."""
METRICS: tuple[Metric, ...] = ("score", "accuracy")

Verdict = Literal["train", "fix the rubrics", "don't", "cannot tell"]

Values = Mapping[str, float]
"""Value of each graded question by its id."""

MIN_QUESTIONS = 8
"""Graded questions that a verdict needs: a bootstrap of fewer is far too sure of itself. A
convention of ours, as all that follow."""
MIN_SENSITIVITY = 0.5
"""Content sensitivity below which, surely, rubrics are to be fixed."""
MAX_CUT_SHARE = 0.1
"""Share of answers cut off at the token limit above which scores measure the limit."""
SOLVED = 0.95
"""Mean without help above which little is left to gain."""


@dataclass(frozen=True)
class ContextHeadroom:
    """Answers in one context, and what they gain over those in the student's view.

    Args:
        context: Its name.
        num_answers: Answers; a question has none if its prompt is too long.
        num_cut: Answers cut off at the token limit.
        num_ungraded: Answers without a grade.
        mean: Mean over the graded answers; None if there are none.
        gain: Mean of the paired differences to the student's view; None for the student's view,
            or without pairs.
    """

    context: str
    num_answers: int
    num_cut: int
    num_ungraded: int
    mean: Interval | None
    gain: Interval | None


@dataclass(frozen=True)
class Sensitivity:
    """Content sensitivity: share of the headroom that depends on the rubric's content.

    ``share = (headroom of gold - headroom of the placebo) / headroom of gold``. 0: the model reacts
    to the presence of a rubric; 1: it reads it.

    Args:
        placebo: Placebo that is compared.
        gap: Paired difference, own rubric - placebo.
        share: A ratio of means, resampled by question; below 0 if the placebo helps more, above 1
            if it hurts; None if undefined.
        undefined: Reason; empty if defined.
    """

    placebo: str
    gap: Interval
    share: Interval | None
    undefined: str


@dataclass(frozen=True)
class Advice:
    """A verdict, its reasons with their numbers, and warnings."""

    verdict: Verdict
    reasons: tuple[str, ...]
    warnings: tuple[str, ...]


def graded_values(rows: Sequence[Graded], metric: Metric) -> dict[str, float]:
    """Score in [0, 1], or 1 for right and 0 for wrong, of each row that has a grade."""
    if metric == "accuracy":
        return {row.id: float(row.right) for row in rows if row.right is not None}
    return {r.id: r.score for r in rows if r.score is not None and not math.isnan(r.score)}


def choose_metric(rows: Sequence[Graded]) -> Metric | None:
    """The score; the accuracy if under `MIN_QUESTIONS` scores and more accuracies; else None."""
    counts = {name: min(len(graded_values(rows, name)), MIN_QUESTIONS) for name in METRICS}
    return max(METRICS, key=lambda name: counts[name]) if any(counts.values()) else None


def measure_headroom(
    context: str, rows: Sequence[Graded], student: Values, metric: Metric, seed: int = 0
) -> ContextHeadroom:
    """Headroom of a context over the student's view, whose values are ``student``."""
    values = graded_values(rows, metric)
    ids = [] if context == STUDENT else [id for id in student if id in values]
    gain = None
    if ids:
        gain = paired_difference([values[i] for i in ids], [student[i] for i in ids], seed, ids)
    mean = bootstrap_interval([*values.values()], seed=seed) if values else None
    num_cut = sum(not row.finished for row in rows)
    return ContextHeadroom(context, len(rows), num_cut, len(rows) - len(values), mean, gain)


def measure_sensitivity(
    student: Values, teacher: Values, placebo: str, other: Values, seed: int = 0
) -> Sensitivity | None:
    """Content sensitivity over the questions graded in all three; None if there are none.

    Undefined where the interval of gold's headroom reaches 0: a share of nothing is no number.

    Args:
        student: Values in the student's view.
        teacher: Values in the teacher's view.
        placebo: Name of the placebo.
        other: Values in the teacher's view with the placebo.
        seed: Seed of the intervals.
    """
    ids = [id for id in student if id in teacher and id in other]
    if not ids:
        return None
    gaps = [teacher[i] - other[i] for i in ids]
    gains = [teacher[i] - student[i] for i in ids]
    gap, gain = bootstrap_interval(gaps, seed=seed), bootstrap_interval(gains, seed=seed)
    if gain.low <= 0:
        reason = f"the rubric's own headroom may be 0: {gain:.2f}"
        return Sensitivity(placebo, gap, None, reason)
    return Sensitivity(placebo, gap, ratio_interval(gaps, gains, seed), "")


def advise(
    metric: Metric | None,
    student: ContextHeadroom,
    teacher: ContextHeadroom,
    sensitivities: Sequence[Sensitivity],
) -> Advice:
    """The verdict of the first rule that holds. Thresholds are conventions, not estimates.

    1. Fewer than `MIN_QUESTIONS` questions are graded: cannot tell.
    2. The interval of the teacher view's headroom reaches 0: don't.
    3. The headroom is not above an empty placebo's, or less than `MIN_SENSITIVITY` of it, surely,
       depends on the content: fix the rubrics.
    4. Else: train.
    """
    verdict, reasons = _verdict(metric, student, teacher, sensitivities)
    warnings = (
        f"In the {of.context}'s view {of.num_cut} of {of.num_answers} answers are cut off at the "
        "token limit: raise max_tokens."
        for of in (student, teacher)
        if of.num_cut > MAX_CUT_SHARE * of.num_answers
    )
    return Advice(verdict, tuple(reasons), tuple(warnings))


def _verdict(
    metric: Metric | None,
    student: ContextHeadroom,
    teacher: ContextHeadroom,
    sensitivities: Sequence[Sensitivity],
) -> tuple[Verdict, list[str]]:
    gain, mean = teacher.gain, student.mean
    num = 0 if gain is None or metric is None else gain.n
    if gain is None or mean is None or num < MIN_QUESTIONS:
        return "cannot tell", [
            f"Questions graded with and without the teacher's view: {num}; a verdict needs "
            f"{MIN_QUESTIONS}. Add checks to criteria or numeric reference answers, or raise "
            "--num-examples."
        ]
    reasons = [
        f"Headroom {gain:.2f} over {num} questions: the {metric} is {mean:.2f} in the student's "
        f"view, {teacher.mean:.2f} in the teacher's."
    ]
    if gain.low <= 0:
        harm = "the teacher's view makes answers worse" if gain.high < 0 else "its interval has 0"
        remedy = (
            "The model already answers well: little is left to gain."
            if mean.mean >= SOLVED
            else "Probe another view (views.teacher=solution), train the model to follow rubrics "
            "first (method: {type: sft, view: rubric}), or take a stronger one."
        )
        return "don't", [*reasons, f"No headroom to learn from: {harm}.", remedy]
    unread = [
        f"The own rubrics do not help more than {of.placebo} ones: difference {of.gap:.2f}."
        for of in sensitivities
        if of.gap.low <= 0
    ]
    for of in sensitivities:
        if of.placebo == "shuffled" and of.share is not None:
            share = f"{of.share:.2f} of the headroom is lost with shuffled rubrics"
            if of.share.high < MIN_SENSITIVITY:
                unread.append(f"Only {share}.")
            else:
                reasons.append(f"{share}.")
    if unread:
        return "fix the rubrics", [
            *reasons,
            *unread,
            "The model reacts to the presence of a rubric more than to its content. Measure more "
            "questions (--num-examples), write criteria that name what each question demands, or "
            "train the model to follow rubrics first (method: {type: sft, view: rubric}).",
        ]
    return "train", reasons
