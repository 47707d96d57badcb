"""Numbers of the probe, and the verdict over them. No tensors here.

Everything is paired by question: a question counts if it is graded in all that is compared.
"""

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from rcsd.data.placebos import EMPTY
from rcsd.evaluation.statistics import (
    Interval,
    bootstrap_interval,
    paired_difference,
    ratio_interval,
)
from rcsd.graders.grade import Graded
from rcsd.types import ViewName

STUDENT, TEACHER = "student", "teacher"
"""Contexts of the student's view, which all others are compared with, and of the teacher's."""

Metric = Literal["score", "accuracy"]
"""Share of the example's own rubric points; or whether the final answer is the reference's."""
METRICS: tuple[Metric, ...] = ("score", "accuracy")

OTHER_VIEWS: tuple[ViewName, ...] = ("rubric", "answer", "solution", "rubric+answer")
"""Views that a teacher could have instead of the run's."""

Verdict = Literal["train", "fix the rubrics", "use another context", "don't", "cannot tell"]

MIN_QUESTIONS = 8
"""Graded questions that a verdict needs: a bootstrap of fewer is far too sure of itself. A
convention of ours, as all that follow."""
MIN_SENSITIVITY = 0.5
"""Content sensitivity below which, surely, rubrics are to be fixed."""
CHANCE = 0.5
"""AUC of a random order."""
MAX_CUT_SHARE = 0.1
"""Share of answers cut off at the token limit above which scores measure the limit."""
SOLVED = 0.95
"""Mean without help above which little is left to gain."""


@dataclass(frozen=True)
class Answers:
    """Graded answers in one context.

    Args:
        context: Its name.
        rows: By the example's id; graded by the example's own rubric.
        left_out: Reason why an example has no answer, by its id.
    """

    context: str
    rows: Mapping[str, Graded]
    left_out: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class ContextHeadroom:
    """Answers in one context, and what they gain over those in the student's view.

    Args:
        context: Its name.
        counts: Answers; questions without one, since the prompt is too long or lacks a part;
            answers cut off at the token limit; answers without a grade.
        mean: Mean over the graded answers; None if there are none.
        gain: Mean of the paired differences to the student's view; None for the student's view,
            or without pairs.
    """

    context: str
    counts: tuple[int, int, int, int]
    mean: Interval | None
    gain: Interval | None


@dataclass(frozen=True)
class Headroom:
    """Gains of all contexts over the student's view.

    Args:
        metric: Metric of the headroom: the score; the accuracy if fewer than `MIN_QUESTIONS`
            answers have a score and more can be graded so; None if neither exists.
        contexts: In the order of sampling; the student's first.
    """

    metric: Metric | None
    contexts: tuple[ContextHeadroom, ...]

    def gain(self, context: str) -> Interval | None:
        """The gain of a context; None if there is none."""
        return {of.context: of.gain for of in self.contexts}.get(context)


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
class GradedGap:
    """A graded completion with the teacher's gap.

    Args:
        index: Index among all completions.
        question: Its question's id.
        score: In [0, 1].
        gap: Sum over its tokens of log p - log q in nats, the teacher's log-probability minus the
            student's: distillation moves a token by it, so it should be larger in better
            completions.
    """

    index: int
    question: str
    score: float
    gap: float


@dataclass(frozen=True)
class Ranking:
    """Order of a question's completions by one teacher's gaps.

    Args:
        teacher: Context of the teacher.
        num_pairs: Completions of one question with different scores.
        auc: AUC within questions: share of the pairs whose better completion has the larger gap,
            ties half, clustered by question; None without pairs.
        lead: AUC of the teacher with the own rubrics minus this one, paired; None for itself. A
            placebo's teacher may rank well by form alone: 0.5 is not the yardstick.
    """

    teacher: str
    num_pairs: int
    auc: Interval | None
    lead: Interval | None = None


def graded_value(row: Graded, metric: Metric) -> float | None:
    """Score in [0, 1], or 1 for right and 0 for wrong; None if it has no grade."""
    if metric == "score":
        return None if row.score is None or math.isnan(row.score) else row.score
    return None if row.right is None else float(row.right)


def _values(answers: Answers, metric: Metric) -> dict[str, float]:
    """`graded_value` by the id of each graded example."""
    graded = {id: graded_value(row, metric) for id, row in answers.rows.items()}
    return {id: value for id, value in graded.items() if value is not None}


def measure_headroom(student: Answers, contexts: Sequence[Answers], seed: int = 0) -> Headroom:
    """Headroom of contexts over the student's view.

    Args:
        student: Answers in the student's view.
        contexts: Answers in other contexts.
        seed: Seed of the intervals.
    """
    # The first wins a tie: the score, once enough questions have one.
    metric = max(METRICS, key=lambda name: min(len(_values(student, name)), MIN_QUESTIONS))
    baseline = _values(student, metric)

    def measured(answers: Answers) -> ContextHeadroom:
        rows, values = answers.rows.values(), _values(answers, metric)
        num_cut = sum(not row.finished for row in rows)
        counts = len(rows), len(answers.left_out), num_cut, len(rows) - len(values)
        ids = [] if answers is student else [id for id in baseline if id in values]
        gain = None
        if ids:
            gain = paired_difference(
                [values[i] for i in ids], [baseline[i] for i in ids], seed, ids
            )
        mean = bootstrap_interval([*values.values()], seed=seed) if values else None
        return ContextHeadroom(answers.context, counts, mean, gain)

    everyone = tuple(measured(answers) for answers in (student, *contexts))
    return Headroom(metric if baseline else None, everyone)


def measure_sensitivity(
    student: Answers, teacher: Answers, placebo: Answers, metric: Metric, seed: int = 0
) -> Sensitivity | None:
    """Content sensitivity over the questions graded in all three; None if there are none.

    Undefined where the interval of gold's headroom reaches 0: a share of nothing is no number.
    """
    without, with_rubric, other = (_values(a, metric) for a in (student, teacher, placebo))
    ids = [id for id in without if id in with_rubric and id in other]
    if not ids:
        return None
    gaps, gains = (
        [with_rubric[i] - other[i] for i in ids],
        [with_rubric[i] - without[i] for i in ids],
    )
    gap, gain = bootstrap_interval(gaps, seed=seed), bootstrap_interval(gains, seed=seed)
    if gain.low <= 0:
        reason = f"the rubric's own headroom may be 0: {gain:.2f}"
        return Sensitivity(placebo.context, gap, None, reason)
    return Sensitivity(placebo.context, gap, ratio_interval(gaps, gains, seed), "")


def measure_ranking(
    teacher: str,
    completions: Sequence[GradedGap],
    seed: int = 0,
    own: Sequence[GradedGap] | None = None,
) -> Ranking:
    """AUC of the gap within questions.

    Args:
        teacher: Context of the teacher whose gaps these are.
        completions: Graded completions.
        seed: Seed of the intervals.
        own: The same completions with the gaps of the teacher with the own rubrics, for a lead.
    """
    pairs = _pairs(completions)
    if not pairs:
        return Ranking(teacher, 0, None)
    questions = [question for question, _ in pairs.values()]
    auc = bootstrap_interval([order for _, order in pairs.values()], questions, seed)
    lead = None
    if own is not None:
        owns = _pairs(own)
        ahead = [owns[key][1] - order for key, (_, order) in pairs.items()]
        lead = bootstrap_interval(ahead, questions, seed)
    return Ranking(teacher, len(pairs), auc, lead)


def _pairs(completions: Sequence[GradedGap]) -> dict[tuple[int, int], tuple[str, float]]:
    """Pairs of one question with different scores, the better first: its id, and the order.

    1 if the better completion has the larger gap, 0.5 for a tie.
    """
    groups: dict[str, list[GradedGap]] = {}
    for completion in completions:
        groups.setdefault(completion.question, []).append(completion)
    return {
        (better.index, worse.index): (
            question,
            0.5 if better.gap == worse.gap else float(better.gap > worse.gap),
        )
        for question, group in groups.items()
        for better, worse in itertools.permutations(group, 2)
        if better.score > worse.score
    }


# The verdict


@dataclass(frozen=True)
class Advice:
    """A verdict, its reasons with their numbers, and warnings."""

    verdict: Verdict
    reasons: tuple[str, ...]
    warnings: tuple[str, ...]


def advise(
    headroom: Headroom, sensitivities: Sequence[Sensitivity], rankings: Sequence[Ranking]
) -> Advice:
    """The verdict of the first rule that holds. Thresholds are conventions, not estimates.

    1. Fewer than `MIN_QUESTIONS` questions are graded: cannot tell.
    2. The interval of the teacher view's headroom reaches 0. If another view's lies above 0: use
       another context, the one with the most. Else: don't.
    3. The headroom is not above an empty placebo's, or less than `MIN_SENSITIVITY` of it, surely,
       depends on the content: fix the rubrics.
    4. Else: train.
    """
    verdict, reasons = _verdict(headroom, sensitivities)
    warnings = [*_ranking_warnings(rankings), *_limit_warnings(headroom)]
    return Advice(verdict, tuple(reasons), tuple(warnings))


def _verdict(headroom: Headroom, sensitivities: Sequence[Sensitivity]) -> tuple[Verdict, list[str]]:
    gain = headroom.gain(TEACHER)
    num = 0 if gain is None or headroom.metric is None else gain.n
    if gain is None or num < MIN_QUESTIONS:
        return "cannot tell", [
            f"Questions graded with and without the teacher's view: {num}; a verdict needs "
            f"{MIN_QUESTIONS}. Add checks to criteria or numeric reference answers, or raise "
            "--num-examples."
        ]
    means = {of.context: of.mean for of in headroom.contexts}
    reasons = [
        f"Headroom {gain:.2f} over {num} questions: the {headroom.metric} is "
        f"{means[STUDENT]:.2f} in the student's view, {means[TEACHER]:.2f} in the teacher's."
    ]
    if gain.low <= 0:
        return _without_headroom(headroom, gain, reasons)
    unread = _unread(sensitivities)
    if unread:
        return "fix the rubrics", [
            *reasons,
            *unread,
            "The model reacts to the presence of a rubric more than to its content. Measure more "
            "questions (--num-examples), write criteria that name what each question demands, or "
            "train the model to follow rubrics first (method: {type: sft, view: rubric}).",
        ]
    return "train", reasons + [
        f"{of.share:.2f} of the headroom is lost with {of.placebo} rubrics: the model "
        "reads their content."
        for of in sensitivities
        if of.placebo == "shuffled" and of.share is not None
    ]


def _without_headroom(
    headroom: Headroom, own: Interval, reasons: list[str]
) -> tuple[Verdict, list[str]]:
    harm = "the teacher's view makes answers worse" if own.high < 0 else "its interval has 0"
    reasons.append(f"No headroom to learn from: {harm}.")
    gains = {view: gain for view in OTHER_VIEWS if (gain := headroom.gain(view)) is not None}
    helpful = {v: gain for v, gain in gains.items() if gain.low > 0 and gain.n >= MIN_QUESTIONS}
    if helpful:
        best = max(helpful, key=lambda view: helpful[view].mean)
        reasons.append(
            f"The view '{best}' has headroom {helpful[best]:.2f}: set views.teacher={best}."
        )
        return "use another context", reasons
    student = headroom.contexts[0].mean
    if student is not None and student.mean >= SOLVED:
        reasons.append("The model already answers well: little is left to gain.")
    else:
        reasons.append(
            "No other view helps. Train the model to follow rubrics first (method: {type: sft, "
            "view: rubric}), or take a stronger one."
        )
    return "don't", reasons


def _unread(sensitivities: Sequence[Sensitivity]) -> list[str]:
    """Evidence that the model does not read its rubrics."""
    reasons = []
    for of in sensitivities:
        if of.placebo in EMPTY and of.gap.low <= 0:
            reasons.append(
                f"The own rubrics do not help more than {of.placebo} ones: difference {of.gap:.2f}."
            )
        if of.placebo == "shuffled" and of.share is not None and of.share.high < MIN_SENSITIVITY:
            reasons.append(f"Only {of.share:.2f} of the headroom is lost with shuffled rubrics.")
    return reasons


def _ranking_warnings(rankings: Sequence[Ranking]) -> list[str]:
    ranking = next((of for of in rankings if of.teacher == TEACHER), None)
    if ranking is None or ranking.auc is None:
        return ["No question has completions of different scores, so no ranking is measured."]
    warnings = []
    if ranking.auc.low <= CHANCE:
        warnings.append(
            f"The teacher does not rank completions better than chance: AUC {ranking.auc:.2f} over "
            f"{ranking.num_pairs} pairs."
        )
    return warnings + [
        f"The teacher does not rank completions better than one with {of.teacher} rubrics: "
        f"lead {of.lead:.2f}."
        for of in rankings
        if of.lead is not None and of.lead.low <= 0
    ]


def _limit_warnings(headroom: Headroom) -> list[str]:
    return [
        f"In the {of.context}'s view {num_cut} of {num_answers} answers are cut off at the "
        "token limit: raise max_tokens."
        for of in headroom.contexts
        for num_answers, _, num_cut, _ in [of.counts]
        if of.context in (STUDENT, TEACHER) and num_cut > MAX_CUT_SHARE * num_answers
    ]
