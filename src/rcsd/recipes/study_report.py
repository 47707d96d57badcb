"""Report of a study: ``study.json``, findings, figures and a page.

Arms are compared at equal tokens and, where the budget has them, at equal seconds.
"""

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal

import numpy as np

from rcsd.evaluation.report import (
    Arm,
    Curve,
    Outcome,
    Relation,
    ReportPage,
)
from rcsd.evaluation.run_report import facts
from rcsd.evaluation.statistics import FloatArray, Interval, ratio_interval
from rcsd.graders.code import CodeJudge
from rcsd.graders.grade import Graded, grade_text, judge_rows
from rcsd.recipes.arms import (
    METRICS,
    ArmComparison,
    compare_on_sets,
    differences,
    estimates,
    metric_values,
    place,
    resampled_units,
    write_outcome,
)
from rcsd.recipes.study import Point, StudyResult, run
from rcsd.recipes.study_config import BASE, Study
from rcsd.types import Example, Progress

SOLUTIONS = "worked solutions"
"""Arm of the examples' worked solutions, the score of copying them perfectly."""

BudgetAxis = Literal["tokens", "seconds"]
"""Budget at which arms are compared: completion tokens learned from, or seconds."""

Comparisons = Mapping[BudgetAxis, Sequence[ArmComparison]]
"""Sets and metrics for which every arm has values."""


@dataclass(frozen=True)
class TeacherWorth:
    """Worth of a teacher before training beside the gain of its arm in training, by score.

    With s the teacher's score before training, shown these rubrics, shuffled ones or none:

    Args:
        held_out: The set.
        arm: Label of the arm.
        headroom: s(these) - s(none); None where nothing is graded.
        gain: The arm's score at equal tokens minus the base's; None where nothing is graded.
        is_alike: The arm has the loss and the sampling of the arm that all are compared with, so
            that the teacher's view alone makes the difference.
        sensitivity: (s(these) - s(shuffled)) / (s(these) - s(none)), how much depends on the
            content; None without a sibling with shuffled rubrics or a clear headroom.
        content_gain: The arm's score minus its sibling's at equal tokens.
    """

    held_out: str
    arm: str
    headroom: float | None
    gain: float | None
    is_alike: bool
    sensitivity: Interval | None = None
    content_gain: Interval | None = None


def run_and_report(settings: Study, title: str, progress: Progress) -> Outcome:
    """Run a study and write its report.

    Raises:
        UserError: As `rcsd.recipes.study.run`.
    """
    return report(settings, title, run(settings, progress))


def report(settings: Study, title: str, result: StudyResult) -> Outcome:
    """Statistics, ``study.json``, figures and page of a finished study."""
    axes: Sequence[BudgetAxis] = ("tokens", "seconds")
    comparisons: Comparisons = {
        axis: compare_at(settings, result, axis)
        for axis in axes
        if axis == "tokens" or settings.budget.seconds is not None
    }
    teachers = [
        worth
        for name in result.held_out
        for worth in teacher_worths(settings, result, comparisons["tokens"], name)
    ]
    findings = describe(settings, comparisons, teachers)
    summary = {
        "config": settings.model_dump(mode="json"),
        "spent": {label: _spent(settings, seeds) for label, seeds in result.runs.items()},
        "comparisons": [
            {"axis": axis, **asdict(one)} for axis, of in comparisons.items() for one in of
        ],
        "teachers": [asdict(worth) for worth in teachers],
        "findings": findings,
    }
    page = _page(settings, title, result, comparisons, teachers)
    page = replace(page, lead=tuple(findings))
    return write_outcome(page, settings.out, "study.json", summary)


# Numbers


def compare_at(settings: Study, result: StudyResult, axis: BudgetAxis) -> Sequence[ArmComparison]:
    """All arms at equal tokens or seconds, for every set and metric that has values.

    Differences are those to the base, to ``against``, and of each arm to itself with other rubrics.
    """

    def values(name: str, metric: str) -> dict[str, FloatArray]:
        by_arm = {BASE: metric_values(result.answers[BASE][name], metric)[None]}
        for label, seeds in result.runs.items():
            by_arm[label] = np.array(
                [_values_at(settings, result, points, name, metric, axis) for points in seeds]
            )
        if (solutions := solution_values(result.held_out[name], metric)) is not None:
            by_arm[SOLUTIONS] = solutions[None]
        return by_arm

    pairs = _pairs(settings)
    # Even adjusted for this many tests, the smallest possible p-value must be significant.
    num_resamples = max(10_000, 100 * len(pairs) * len(result.held_out) * len(METRICS))
    compared = compare_on_sets(
        result.held_out, result.new_kinds, values, pairs, num_resamples=num_resamples
    )
    return [one for one in compared if one.compared.means]


def _pairs(settings: Study) -> list[tuple[str, str]]:
    labels, against = settings.labels, settings.against
    pairs = [(label, BASE) for label in labels]
    pairs += [(against, label) for label in labels if label != against]
    pairs += [
        (arm, label)
        for label, (arm, rubrics) in labels.items()
        if rubrics != "gold" and arm in labels and against not in (arm, label)
    ]
    return pairs


def _values_at(
    settings: Study,
    result: StudyResult,
    points: Sequence[Point],
    name: str,
    metric: str,
    axis: BudgetAxis,
) -> FloatArray:
    """Value of each question on a run's way, at the budget's tokens or seconds."""
    budget = settings.budget
    if axis == "tokens":
        return metric_values(at_tokens(points, budget.tokens).rows[name], metric)
    assert budget.seconds is not None
    start = Point(0.0, 0.0, result.answers[BASE])
    before, after, share = around_seconds([start, *points], budget.seconds)
    earlier, later = (metric_values(point.rows[name], metric) for point in (before, after))
    # An ungraded answer of the evaluation before does not matter exactly at the one after.
    return later if share == 1 else (1 - share) * earlier + share * later


def at_tokens(points: Sequence[Point], tokens: float) -> Point:
    """First evaluation with at least this many tokens; it exceeds them by less than a step."""
    return next(point for point in points if point.tokens >= tokens)


def around_seconds(points: Sequence[Point], seconds: float) -> tuple[Point, Point, float]:
    """Evaluations before and after a time, and its position between them, in (0, 1].

    After the last evaluation it is the last.

    Args:
        points: In order of seconds; the first at 0.
        seconds: Above 0.
    """
    for before, after in itertools.pairwise(points):
        if after.seconds >= seconds:
            return before, after, (seconds - before.seconds) / (after.seconds - before.seconds)
    return points[-1], points[-1], 1.0


def solution_values(examples: Sequence[Example], metric: str) -> FloatArray | None:
    """Value of each example's worked solution; None where an example has none."""
    texts = [example.solution for example in examples if example.solution is not None]
    if len(texts) < len(examples):
        return None
    rows = [grade_text(example, text) for example, text in zip(examples, texts, strict=True)]
    return metric_values(judge_rows(rows, examples, CodeJudge()), metric)


def teacher_worths(
    settings: Study, result: StudyResult, comparisons: Sequence[ArmComparison], name: str
) -> list[TeacherWorth]:
    """Worth of the teacher of every arm that has one, on one set.

    Args:
        settings: The study.
        result: Its answers and evaluations.
        comparisons: All arms at equal tokens.
        name: The set.
    """
    units = np.array(resampled_units(result.held_out[name], name in result.new_kinds))
    scores = {arm: metric_values(rows[name], "score") for arm, rows in result.answers.items()}
    stages = {label: settings.stage(arm) for label, (arm, _) in settings.labels.items()}
    reference = stages[settings.against]
    differences = _score_differences(comparisons, name)
    worths = []
    for label, teacher in result.taught_by.items():
        stage, sibling = stages[label], f"{label}, shuffled"
        points = [at_tokens(of, settings.budget.tokens) for of in result.runs[label]]
        trained = np.mean([metric_values(of.rows[name], "score") for of in points], axis=0)
        worth = TeacherWorth(
            name,
            label,
            _mean(scores[teacher] - scores[BASE]),
            _mean(trained - scores[BASE]),
            (stage.method, stage.sampling) == (reference.method, reference.sampling),
        )
        if (label, sibling) in differences:
            shuffled = scores[result.taught_by[sibling]]
            sensitivity = _sensitivity(scores[BASE], scores[teacher], shuffled, units)
            gain = differences[label, sibling]
            worth = replace(worth, sensitivity=sensitivity, content_gain=gain)
        worths.append(worth)
    return worths


def _score_differences(
    comparisons: Sequence[ArmComparison], name: str
) -> dict[tuple[str, str], Interval]:
    """Differences of scores on one set, in both directions."""
    differences: dict[tuple[str, str], Interval] = {}
    for one in comparisons:
        if (one.held_out, one.metric) == (name, "score"):
            for of in one.compared.differences:
                differences[of.left, of.right] = i = of.interval
                differences[of.right, of.left] = Interval(-i.mean, -i.high, -i.low, i.n)
    return differences


def _sensitivity(
    base: FloatArray, taught: FloatArray, shuffled: FloatArray, units: Any
) -> Interval | None:
    graded = np.isfinite(base + taught + shuffled)
    content, headroom = (taught - shuffled)[graded], (taught - base)[graded]
    try:
        return ratio_interval(content, headroom, clusters=units[graded].tolist())
    except ValueError:  # no headroom, or none that is clear
        return None


def correlation(
    teachers: Sequence[TeacherWorth], name: str
) -> tuple[float, list[TeacherWorth]] | None:
    """Pearson's r of headroom and gain over the arms that are alike, and these arms.

    None with fewer than three arms, or where one of the two does not vary.
    """
    arms = [of for of in teachers if (of.held_out, of.is_alike) == (name, True)]
    arms = [of for of in arms if None not in (of.headroom, of.gain)]
    pairs = np.array([(of.headroom, of.gain) for of in arms], dtype=np.float64)
    if len(arms) < 3 or not np.ptp(pairs, axis=0).all():
        return None
    return float(np.corrcoef(pairs.T)[0, 1]), arms


def _mean(values: FloatArray) -> float | None:
    """Mean of the finite values; None where there are none."""
    finite = values[np.isfinite(values)]
    return float(finite.mean()) if len(finite) else None


def score_mean(rows: Sequence[Graded]) -> float:
    """Mean score of the graded rows; NaN where there are none."""
    mean = _mean(metric_values(rows, "score"))
    return float("nan") if mean is None else mean


# Findings


def describe(
    settings: Study, comparisons: Comparisons, teachers: Sequence[TeacherWorth]
) -> list[str]:
    """Sentences on the numbers, favourable or not.

    Two arms differ where the interval of their paired difference excludes 0; a star marks an
    adjusted p-value below 0.05. With few families of new templates no test can reach it.
    """
    sentences = [
        _describe_comparison(settings, axis, one) for axis, of in comparisons.items() for one in of
    ]
    sentences = sentences or ["No held-out question was graded in all arms."]
    for name in dict.fromkeys(of.held_out for of in teachers):
        if (rho := correlation(teachers, name)) is not None:
            r, arms = rho
            sentences.append(
                f"Over the {len(arms)} arms that differ in the teacher's view alone, headroom "
                f"before training and gain correlate with r = {r:.2f} on {place(name)}."
            )
    return sentences + [
        f"On {place(of.held_out)}, {of.sensitivity:.2f} of the headroom of {of.arm} depends on the "
        f"content of its rubrics; it gains {of.content_gain:.2f} more than with shuffled ones."
        for of in teachers
        if of.sensitivity is not None and of.content_gain is not None
    ]


def _describe_comparison(settings: Study, axis: BudgetAxis, one: ArmComparison) -> str:
    against, budget = settings.against, settings.budget
    means = {mean.arm: mean.interval for mean in one.compared.means}
    sides: dict[str, list[str]] = {"More than": [], "Less than": [], "Not clearly other than": []}
    for difference in one.compared.differences:
        if difference.left != against:
            continue
        low, high = difference.interval.low, difference.interval.high
        side = "More than" if low > 0 else "Less than" if high < 0 else "Not clearly other than"
        star = "*" if difference.holm_p_value is not None and difference.holm_p_value < 0.05 else ""
        sides[side].append(f"{difference.right} {means[difference.right].mean:.2f}{star}")
    # Names of arms may hold commas.
    others = "".join(f" {side}: {'; '.join(of)}." for side, of in sides.items() if of)
    when = f"{budget.tokens:,} tokens" if axis == "tokens" else f"{budget.seconds:g} s"
    verb = "scores" if one.metric == "score" else "is right in"
    sentence = (
        f"After {when}, on {place(one.held_out)}, {against} {verb} {means[against]:.2f}.{others}"
    )
    if num_left_out := one.compared.num_left_out:
        sentence += f" Left out: {num_left_out} questions, where not every arm could be graded."
    return sentence


# The page


def _spent(settings: Study, seeds: Sequence[Sequence[Point]]) -> dict[str, Any]:
    """Tokens and seconds of each seed where arms are compared at equal tokens, and at its end."""
    at = [at_tokens(points, settings.budget.tokens) for points in seeds]
    return {
        "tokens": [point.tokens for point in at],
        "seconds": [point.seconds for point in at],
        "tokens_at_end": [points[-1].tokens for points in seeds],
        "seconds_at_end": [points[-1].seconds for points in seeds],
    }


def _page(
    settings: Study,
    title: str,
    result: StudyResult,
    comparisons: Comparisons,
    teachers: Sequence[TeacherWorth],
) -> ReportPage:
    suffixes: dict[BudgetAxis, str] = {"tokens": "", "seconds": " in equal time"}
    rows = [(of, suffixes[axis]) for axis, of in comparisons.items()]
    record = next(iter(result.folders.values()))[0].read_record()
    tokens = f"{settings.budget.tokens:,}"
    return ReportPage(
        title=title,
        subtitle=f"{settings.model.path}, seeds: {len(settings.seeds)}, {tokens} tokens an arm",
        arms=tuple(
            Arm(label, highlight=label == settings.against)
            for label in (BASE, *settings.labels, SOLUTIONS)
        ),
        estimates=tuple(row for of, suffix in rows for row in estimates(of, suffix)),
        differences=tuple(
            row
            for of, suffix in rows
            for row in differences(of, suffix)
            if not row.arm.endswith(f" - {BASE}")
        ),
        curves=tuple(_curves(settings, result)),
        relations=tuple(
            _relation(name, *rho)
            for name in result.held_out
            if (rho := correlation(teachers, name)) is not None
        ),
        facts=facts(record),
        interval_note="95% intervals, seeds and questions (of new templates their families) both "
        f"resampled; at equal tokens ({tokens}) unless a panel says otherwise; few seeds make "
        "intervals too narrow where seeds differ much, and no seed draws other training problems",
    )


def _relation(name: str, r: float, arms: Sequence[TeacherWorth]) -> Relation:
    return Relation(
        place(name),
        "headroom before training",
        "gain at equal tokens",
        tuple((of.arm, of.headroom or 0.0, of.gain or 0.0) for of in arms),
        f"r = {r:.2f} over {len(arms)} arms, the same loss",
    )


def _curves(settings: Study, result: StudyResult) -> list[Curve]:
    """Mean score over seeds by tokens, from the base at 0 to where the arms are compared."""
    curves = []
    for name, (label, seeds) in itertools.product(result.held_out, result.runs.items()):
        ends = [at_tokens(points, settings.budget.tokens).tokens for points in seeds]
        within = [
            [point for point in points if point.tokens <= end]
            for points, end in zip(seeds, ends, strict=True)
        ]
        # A step of one seed may jump over an evaluation; then the others' is left out.
        num = min(map(len, within))
        evaluations = zip(*([*points[: num - 1], points[-1]] for points in within), strict=True)
        line = [(0.0, score_mean(result.answers[BASE][name]))]
        for points in evaluations:
            scores = [score_mean(point.rows[name]) for point in points]
            line.append((float(np.mean([p.tokens for p in points])), float(np.mean(scores))))
        steps, values = zip(*line, strict=True)
        x = f"tokens, means over seeds: {len(seeds)}"
        curves.append(Curve(label, f"score on {place(name)}", "0 to 1", steps, values, x))
    return curves
