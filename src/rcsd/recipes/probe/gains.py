"""Headroom in numbers: what answers gain from a context, and how much of that is its content.

Everything is paired by question: a question counts where it was graded in all that is compared.
"""

import math
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import Literal

from rcsd.evaluation.statistics import (
    Interval,
    bootstrap_interval,
    paired_difference,
    ratio_interval,
)
from rcsd.graders.grade import Graded
from rcsd.recipes.probe.contexts import Answers
from rcsd.types import Example, ViewName

Metric = Literal["score", "accuracy"]
"""The share of the own rubric's points; or whether the final answer is the reference's."""

METRICS: tuple[Metric, ...] = ("score", "accuracy")

MIN_QUESTIONS = 8
"""Fewer graded questions support no verdict: a bootstrap of so few is far too sure of itself. Ours,
a convention."""


@dataclass(frozen=True)
class Gain:
    """What a context adds, over the questions that were graded with and without it.

    Args:
        without: Mean in the student's view.
        shown: Mean with the context.
        gain: Mean of the paired differences, shown - without.
    """

    without: Interval
    shown: Interval
    gain: Interval


@dataclass(frozen=True)
class CriterionGain:
    """The same for the criteria of one title: the share of them that answers meet.

    Args:
        title: Of the criteria; may be empty.
        violation: Whether they cost points: then a gain is bad.
        num_criteria: How many of them were judged with and without the context.
        met: Shares, clustered by question.
    """

    title: str
    violation: bool
    num_criteria: int
    met: Gain


@dataclass(frozen=True)
class Counts:
    """What became of the questions in one context.

    Args:
        num_answers: Answers.
        num_left_out: Questions that were not asked: the prompt does not fit, or lacks a part.
        num_cut: Answers that were cut off at the token limit.
        num_unscored: Answers without a score: a criterion has no check, or there is no rubric.
        num_ungraded: Answers whose final answer only a real grader could tell from a wrong one.
    """

    num_answers: int
    num_left_out: int
    num_cut: int
    num_unscored: int
    num_ungraded: int


@dataclass(frozen=True)
class ContextHeadroom:
    """What one context adds to the student's view.

    Args:
        context: Its name.
        view: Its view.
        counts: Of its answers.
        score: By the examples' own rubrics, or None where nothing can be scored.
        accuracy: By the reference answers, or None where none can be graded.
        criteria: By title, violations last.
    """

    context: str
    view: ViewName
    counts: Counts
    score: Gain | None
    accuracy: Gain | None
    criteria: tuple[CriterionGain, ...]


@dataclass(frozen=True)
class Headroom:
    """What each context adds to the student's view.

    Args:
        metric: In which headroom is told: the score; the accuracy where fewer than `MIN_QUESTIONS`
            answers have a score and more can be graded so; None where neither can be told.
        student: Counts of the answers in the student's view.
        score: Mean score of these answers, or None.
        accuracy: Mean accuracy of these answers, or None.
        contexts: In the order in which they were asked.
    """

    metric: Metric | None
    student: Counts
    score: Interval | None
    accuracy: Interval | None
    contexts: tuple[ContextHeadroom, ...]

    def gain(self, context: str) -> Gain | None:
        """What a context adds, in the metric of this headroom; None where it cannot be told."""
        if self.metric is None:
            return None
        found = {c.context: getattr(c, self.metric) for c in self.contexts}
        return found.get(context)


@dataclass(frozen=True)
class Sensitivity:
    """How much of the teacher's headroom hangs on what the rubrics say.

    ``share = (headroom of gold - headroom of the placebo) / headroom of gold``: with the placebo
    ``shuffled`` the content sensitivity. 0: the model reacts to there being a rubric. 1: it reads.

    Args:
        placebo: Whose headroom it is compared with.
        gap: Paired difference, own rubric - placebo.
        share: A ratio of means, resampled by question; below 0 where the placebo helps more, above
            1 where it hurts. None where it is undefined.
        undefined: Why; empty where it is not.
    """

    placebo: str
    gap: Interval
    share: Interval | None
    undefined: str


def measured_headroom(
    examples: Sequence[Example], student: Answers, contexts: Sequence[Answers], seed: int = 0
) -> Headroom:
    """Headroom of contexts over the student's view.

    Args:
        examples: With their own rubrics.
        student: Answers in the student's view.
        contexts: Answers in other contexts.
        seed: Of the intervals.
    """
    baseline = {metric: values(student, examples, metric) for metric in METRICS}
    # The first wins a tie: the score, once enough questions have one.
    metric = max(METRICS, key=lambda metric: min(len(baseline[metric]), MIN_QUESTIONS))
    means = {
        name: bootstrap_interval([*found.values()], seed=seed) if found else None
        for name, found in baseline.items()
    }
    return Headroom(
        metric if baseline[metric] else None,
        _counts(student, examples),
        means["score"],
        means["accuracy"],
        tuple(
            ContextHeadroom(
                answers.context,
                answers.view,
                _counts(answers, examples),
                _gain_by_question(examples, student, answers, "score", seed),
                _gain_by_question(examples, student, answers, "accuracy", seed),
                _criteria(examples, student, answers, seed),
            )
            for answers in contexts
        ),
    )


def values(answers: Answers, examples: Sequence[Example], metric: Metric) -> dict[str, float]:
    """Scores in [0, 1], or 1 for right and 0 for wrong, by the id of each graded example."""
    found = {}
    for example in examples:
        row = answers.rows.get(example.id)
        value = None if row is None else _value(row, metric)
        if value is not None:
            found[example.id] = value
    return found


def sensitivity(
    examples: Sequence[Example],
    student: Answers,
    teacher: Answers,
    placebo: Answers,
    metric: Metric,
    seed: int = 0,
) -> Sensitivity | None:
    """Content sensitivity, over the questions that are graded in all three; None if there are none.

    Undefined where the interval of gold's headroom reaches 0: a share of nothing is no number.
    """
    without, own, other = (values(a, examples, metric) for a in (student, teacher, placebo))
    ids = [
        example.id
        for example in examples
        if example.id in without.keys() & own.keys() & other.keys()
    ]
    if not ids:
        return None
    gaps = [own[i] - other[i] for i in ids]
    gains = [own[i] - without[i] for i in ids]
    gap, gain = bootstrap_interval(gaps, seed=seed), bootstrap_interval(gains, seed=seed)
    if gain.low <= 0:
        reason = f"the rubric's own headroom may be 0: {said(gain)}"
        return Sensitivity(placebo.context, gap, None, reason)
    return Sensitivity(placebo.context, gap, ratio_interval(gaps, gains, seed), "")


def said(interval: Interval) -> str:
    """Such as ``0.61 [0.55, 0.67]``."""
    return f"{interval.mean:.2f} [{interval.low:.2f}, {interval.high:.2f}]"


def _value(row: Graded, metric: Metric) -> float | None:
    if metric == "score":
        return None if row.score is None or math.isnan(row.score) else row.score
    return None if row.right is None else float(row.right)


def _counts(answers: Answers, examples: Sequence[Example]) -> Counts:
    num = len(answers.rows)
    return Counts(
        num,
        len(answers.left_out),
        sum(not row.finished for row in answers.rows.values()),
        num - len(values(answers, examples, "score")),
        num - len(values(answers, examples, "accuracy")),
    )


def _gain_by_question(
    examples: Sequence[Example], student: Answers, answers: Answers, metric: Metric, seed: int
) -> Gain | None:
    without, shown = (values(a, examples, metric) for a in (student, answers))
    ids = [example.id for example in examples if example.id in without.keys() & shown.keys()]
    return _gain([without[i] for i in ids], [shown[i] for i in ids], ids, seed) if ids else None


def _criteria(
    examples: Sequence[Example], student: Answers, answers: Answers, seed: int
) -> tuple[CriterionGain, ...]:
    """Gains of criteria that were judged in both contexts, those of one title together."""
    found: dict[tuple[bool, str], list[tuple[str, bool, bool]]] = {}
    for example in examples:
        before, after = student.rows.get(example.id), answers.rows.get(example.id)
        if example.rubric is None or before is None or after is None:
            continue
        verdicts = zip(example.rubric.criteria, before.verdicts, after.verdicts, strict=True)
        for criterion, without, shown in verdicts:
            if without is not None and shown is not None:
                kind = (criterion.weight < 0, criterion.title)
                found.setdefault(kind, []).append((example.id, without, shown))
    gains = []
    for (violation, title), rows in sorted(found.items()):
        ids, without, shown = zip(*rows, strict=True)
        met = _gain([*map(float, without)], [*map(float, shown)], ids, seed)
        gains.append(CriterionGain(title, violation, len(rows), met))
    return tuple(gains)


def _gain(
    without: Sequence[float], shown: Sequence[float], questions: Sequence[Hashable], seed: int
) -> Gain:
    return Gain(
        bootstrap_interval(without, questions, seed),
        bootstrap_interval(shown, questions, seed),
        paired_difference(shown, without, seed, questions),
    )
