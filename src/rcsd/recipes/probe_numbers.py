"""Numbers of the probe: headroom, content sensitivity, ranking, leakage. No tensors here.

Everything is paired by question: a question counts if it is graded in all that is compared.
"""

import itertools
import math
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from rcsd.evaluation.statistics import (
    Interval,
    bootstrap_interval,
    paired_difference,
    ratio_interval,
)
from rcsd.graders.grade import Graded
from rcsd.types import Example, ViewName

STUDENT, TEACHER = "student", "teacher"
"""Contexts of the student's view, which all others are compared with, and of the teacher's."""

Metric = Literal["score", "accuracy"]
"""Share of the example's own rubric points; or whether the final answer is the reference's."""
METRICS: tuple[Metric, ...] = ("score", "accuracy")

OTHER_VIEWS: tuple[ViewName, ...] = ("rubric", "answer", "solution", "rubric+answer")
"""Views that a teacher could have instead of the run's."""

MIN_QUESTIONS = 8
"""Graded questions that a verdict needs: a bootstrap of fewer is far too sure of itself. A
convention of ours."""


@dataclass(frozen=True)
class Answers:
    """Graded answers in one context.

    Args:
        context: Its name.
        view: Its view.
        rows: By the example's id; graded by the example's own rubric.
        left_out: Reason why an example has no answer, by its id.
    """

    context: str
    view: ViewName
    rows: Mapping[str, Graded]
    left_out: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Gain:
    """Means over the questions graded with and without a context.

    Args:
        without: Mean in the student's view.
        with_context: Mean with the context.
        gain: Mean of the paired differences.
    """

    without: Interval
    with_context: Interval
    gain: Interval


@dataclass(frozen=True)
class CriterionGain:
    """Gain of the share of met criteria, over the criteria of one title.

    Args:
        title: Their title; may be empty.
        violation: Whether they cost points: then a gain is bad.
        num_criteria: Criteria judged with and without the context.
        met: Shares, clustered by question.
    """

    title: str
    violation: bool
    num_criteria: int
    met: Gain


@dataclass(frozen=True)
class Counts:
    """Counts of one context.

    Args:
        num_answers: Answers.
        num_left_out: Questions without an answer: the prompt is too long, or lacks a part.
        num_cut: Answers cut off at the token limit.
        num_unscored: Answers without a score: a criterion has no check, or there is no rubric.
        num_ungraded: Answers whose final answer code cannot tell from a wrong one.
    """

    num_answers: int
    num_left_out: int
    num_cut: int
    num_unscored: int
    num_ungraded: int


@dataclass(frozen=True)
class ContextHeadroom:
    """Gains of one context over the student's view.

    Args:
        context: Its name.
        view: Its view.
        counts: Counts of its answers.
        score: By the examples' own rubrics; None if nothing has a score.
        accuracy: By the reference answers; None if nothing can be graded.
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
    """Gains of all contexts over the student's view.

    Args:
        metric: Metric of the headroom: the score; the accuracy if fewer than `MIN_QUESTIONS`
            answers have a score and more can be graded so; None if neither exists.
        student: Counts of the answers in the student's view.
        score: Mean score of these answers, or None.
        accuracy: Mean accuracy of these answers, or None.
        contexts: In the order of sampling.
    """

    metric: Metric | None
    student: Counts
    score: Interval | None
    accuracy: Interval | None
    contexts: tuple[ContextHeadroom, ...]

    def gain(self, context: str) -> Gain | None:
        """The gain of a context in the headroom's metric; None if there is none."""
        if self.metric is None:
            return None
        return {c.context: getattr(c, self.metric) for c in self.contexts}.get(context)


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
class GradedGaps:
    """A graded completion with the teacher's gaps.

    A token's gap is log p - log q in nats, the teacher's log-probability minus the student's:
    distillation moves the token by it, so it should be larger in better completions.

    Args:
        index: Index among all completions.
        question: Its question's id.
        score: In [0, 1].
        gaps: One per token.
    """

    index: int
    question: str
    score: float
    gaps: Sequence[float]


@dataclass(frozen=True)
class Ranking:
    """Order of a question's completions by one teacher's gaps.

    Args:
        teacher: Context of the teacher.
        num_pairs: Completions of one question with different scores.
        by_sum: AUC within questions: share of the pairs whose better completion has the larger sum
            of gaps, ties half, clustered by question; None without pairs.
        by_mean: The same by the mean gap per token, which does not grow with length.
        lead: AUC by sum of the teacher with the own rubrics minus this one, paired; None for
            itself. A placebo's teacher may rank well by form alone: 0.5 is not the yardstick.
    """

    teacher: str
    num_pairs: int
    by_sum: Interval | None
    by_mean: Interval | None
    lead: Interval | None = None


@dataclass(frozen=True)
class Leakage:
    """Rubrics that hold or quote their own reference answer.

    Args:
        num_rubrics: Rubrics of examples with a reference answer.
        num_leaking: Those with such a criterion.
        share: None without rubrics.
    """

    num_rubrics: int
    num_leaking: int
    share: float | None


def measure_headroom(
    examples: Sequence[Example], student: Answers, contexts: Sequence[Answers], seed: int = 0
) -> Headroom:
    """Headroom of contexts over the student's view.

    Args:
        examples: With their own rubrics.
        student: Answers in the student's view.
        contexts: Answers in other contexts.
        seed: Seed of the intervals.
    """
    baseline = {metric: values(student, examples, metric) for metric in METRICS}
    # The first wins a tie: the score, once enough questions have one.
    metric = max(METRICS, key=lambda metric: min(len(baseline[metric]), MIN_QUESTIONS))
    score, accuracy = (
        bootstrap_interval([*baseline[name].values()], seed=seed) if baseline[name] else None
        for name in METRICS
    )
    return Headroom(
        metric if baseline[metric] else None,
        _counts(student, examples),
        score,
        accuracy,
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


def graded_value(row: Graded, metric: Metric) -> float | None:
    """Score in [0, 1], or 1 for right and 0 for wrong; None if it has no grade."""
    if metric == "score":
        return None if row.score is None or math.isnan(row.score) else row.score
    return None if row.right is None else float(row.right)


def values(answers: Answers, examples: Sequence[Example], metric: Metric) -> dict[str, float]:
    """`graded_value` by the id of each graded example."""
    graded = {
        example.id: graded_value(answers.rows[example.id], metric)
        for example in examples
        if example.id in answers.rows
    }
    return {id: value for id, value in graded.items() if value is not None}


def measure_sensitivity(
    examples: Sequence[Example],
    student: Answers,
    teacher: Answers,
    placebo: Answers,
    metric: Metric,
    seed: int = 0,
) -> Sensitivity | None:
    """Content sensitivity over the questions graded in all three; None if there are none.

    Undefined where the interval of gold's headroom reaches 0: a share of nothing is no number.
    """
    without, own, other = (values(a, examples, metric) for a in (student, teacher, placebo))
    ids = [id for id in without if id in own and id in other]
    if not ids:
        return None
    gaps, gains = [own[i] - other[i] for i in ids], [own[i] - without[i] for i in ids]
    gap, gain = bootstrap_interval(gaps, seed=seed), bootstrap_interval(gains, seed=seed)
    if gain.low <= 0:
        reason = f"the rubric's own headroom may be 0: {as_text(gain)}"
        return Sensitivity(placebo.context, gap, None, reason)
    return Sensitivity(placebo.context, gap, ratio_interval(gaps, gains, seed), "")


def as_text(interval: Interval) -> str:
    """Such as ``0.61 [0.55, 0.67]``."""
    return f"{interval.mean:.2f} [{interval.low:.2f}, {interval.high:.2f}]"


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
    without, after = (values(a, examples, metric) for a in (student, answers))
    ids = [id for id in without if id in after]
    return _gain([without[i] for i in ids], [after[i] for i in ids], ids, seed) if ids else None


def _criteria(
    examples: Sequence[Example], student: Answers, answers: Answers, seed: int
) -> tuple[CriterionGain, ...]:
    """Gains of criteria judged in both contexts, grouped by title."""
    groups: dict[tuple[bool, str], list[tuple[str, bool, bool]]] = {}
    for example in examples:
        before, after = student.rows.get(example.id), answers.rows.get(example.id)
        if example.rubric is None or before is None or after is None:
            continue
        verdicts = zip(example.rubric.criteria, before.verdicts, after.verdicts, strict=True)
        for criterion, without, with_context in verdicts:
            if without is not None and with_context is not None:
                kind = (criterion.weight < 0, criterion.title)
                groups.setdefault(kind, []).append((example.id, without, with_context))
    gains = []
    for (violation, title), rows in sorted(groups.items()):
        ids, without, after = zip(*rows, strict=True)
        met = _gain([*map(float, without)], [*map(float, after)], ids, seed)
        gains.append(CriterionGain(title, violation, len(rows), met))
    return tuple(gains)


def _gain(
    without: Sequence[float], after: Sequence[float], questions: Sequence[Hashable], seed: int
) -> Gain:
    return Gain(
        bootstrap_interval(without, questions, seed),
        bootstrap_interval(after, questions, seed),
        paired_difference(after, without, seed, questions),
    )


def measure_ranking(
    teacher: str,
    completions: Sequence[GradedGaps],
    seed: int = 0,
    own: Sequence[GradedGaps] | None = None,
) -> Ranking:
    """AUC of the summed and of the mean gap, within questions.

    Args:
        teacher: Context of the teacher whose gaps these are.
        completions: Graded completions.
        seed: Seed of the intervals.
        own: The same completions with the gaps of the teacher with the own rubrics, for a lead.
    """
    pairs = _pairs(completions)
    if not pairs:
        return Ranking(teacher, 0, None, None)
    questions = [question for question, _, _ in pairs.values()]
    by_sum = bootstrap_interval([pair[1] for pair in pairs.values()], questions, seed)
    by_mean = bootstrap_interval([pair[2] for pair in pairs.values()], questions, seed)
    lead = None
    if own is not None:
        owns = _pairs(own)
        ahead = [owns[key][1] - pair[1] for key, pair in pairs.items()]
        lead = bootstrap_interval(ahead, questions, seed)
    return Ranking(teacher, len(pairs), by_sum, by_mean, lead)


def _pairs(
    completions: Sequence[GradedGaps],
) -> dict[tuple[int, int], tuple[str, float, float]]:
    """Pairs of one question with different scores, the better first: question, by sum, by mean.

    1 if the better completion has the larger gap, 0.5 for a tie.
    """
    groups: dict[str, list[GradedGaps]] = {}
    for completion in completions:
        groups.setdefault(completion.question, []).append(completion)

    def order(better: float, worse: float) -> float:
        return 0.5 if better == worse else float(better > worse)

    pairs = {}
    for question, group in groups.items():
        for better, worse in itertools.permutations(group, 2):
            if better.score > worse.score:
                first, second = math.fsum(better.gaps), math.fsum(worse.gaps)
                by_mean = order(first / len(better.gaps), second / len(worse.gaps))
                pairs[better.index, worse.index] = (question, order(first, second), by_mean)
    return pairs
