"""Report of a study: ``study.json``, findings, figures and a page.

Arms are compared at equal tokens and, where the budget has them, at equal seconds.
"""

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal

import numpy as np

from rcsd import config
from rcsd.evaluation.report import (
    Arm,
    Curve,
    Outcome,
    Relation,
    ReportPage,
    figure_svg,
    terminal_table,
    write_report,
)
from rcsd.evaluation.run_report import facts
from rcsd.evaluation.statistics import FloatArray, Interval, ratio_interval
from rcsd.graders.code import CodeJudge
from rcsd.graders.grade import Graded, answered, judged
from rcsd.io import write_json, write_text
from rcsd.recipes.arms import (
    METRICS,
    ArmComparison,
    compare_on_sets,
    differences,
    estimates,
    metric_values,
    place,
    resampled_units,
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
class Prediction:
    """Headroom before training beside the gain of training.

    Args:
        held_out: The set.
        headroom: Score of each arm's teacher minus the base's, by the arm's label.
        gain: Score of each arm at equal tokens minus the base's.
        r: Pearson's correlation of the two, in [-1, 1]; None with fewer than three arms.
        alike: Arms with the loss and the sampling of the arm that all are compared with, so that
            only the teacher's view differs.
        r_alike: The correlation over these.
    """

    held_out: str
    headroom: Mapping[str, float]
    gain: Mapping[str, float]
    r: float | None
    alike: Sequence[str] = ()
    r_alike: float | None = None


@dataclass(frozen=True)
class Content:
    """Worth of the content of an arm's rubrics, before training and in it.

    Args:
        held_out: The set.
        arm: Label of the arm.
        sensitivity: (s(gold) - s(shuffled)) / (s(gold) - s(base)) of its teacher's scores s before
            training; None where the denominator may be 0.
        gain: Its score minus that of the same arm with shuffled rubrics, at equal tokens.
    """

    held_out: str
    arm: str
    sensitivity: Interval | None
    gain: Interval


def run_and_report(settings: Study, title: str, progress: Progress) -> Outcome:
    """Run a study and write its report.

    Raises:
        UserError: As `rcsd.recipes.study.run`.
    """
    return report(settings, title, run(settings, progress))


def report(settings: Study, title: str, result: StudyResult) -> Outcome:
    """Statistics, ``study.json``, figures and page of a finished study."""
    axes: list[BudgetAxis] = ["tokens"]
    if settings.budget.seconds is not None:
        axes.append("seconds")
    comparisons = {axis: compare_at(settings, result, axis) for axis in axes}
    predictions = [predict_gain(settings, result, name) for name in result.held_out]
    contents = [
        content
        for name in result.held_out
        for content in content_worth(result, comparisons["tokens"], name)
    ]
    findings = describe(settings, comparisons, predictions, contents)
    summary = {
        "config": settings.model_dump(mode="json"),
        "spent": {label: _spent(settings, seeds) for label, seeds in result.runs.items()},
        "comparisons": [
            {"axis": axis, **asdict(one)} for axis, of in comparisons.items() for one in of
        ],
        "predictions": [asdict(prediction) for prediction in predictions],
        "contents": [asdict(content) for content in contents],
        "findings": findings,
    }
    write_json(settings.out / "study.json", summary)
    page = _page(settings, title, result, comparisons, predictions)
    page = replace(page, lead=tuple(findings))
    write_report(page, settings.out / "report.html")
    for figure, rows in (("scores", page.estimates), ("relations", page.relations)):
        if rows:
            write_text(settings.out / f"{figure}.svg", figure_svg(page, figure))
    # Equal tokens alone: the columns of both axes are wider than a terminal.
    first = tuple(row for row in page.estimates if row.metric in METRICS)
    table = terminal_table(replace(page, estimates=first))
    return Outcome(summary, findings, table, settings.out / "report.html")


# Numbers


def compare_at(settings: Study, result: StudyResult, axis: BudgetAxis) -> Sequence[ArmComparison]:
    """All arms at equal tokens or seconds, for every set and metric that has values.

    Differences are those to the base, to ``against``, and of each arm to itself with other rubrics.
    """

    def values(name: str, metric: str) -> dict[str, FloatArray]:
        found = {BASE: metric_values(result.base[name], metric)[None]}
        for label, seeds in result.runs.items():
            found[label] = np.array(
                [_values_at(settings, result, points, name, metric, axis) for points in seeds]
            )
        if (solutions := solution_values(result.held_out[name], metric)) is not None:
            found[SOLUTIONS] = solutions[None]
        return found

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
    start = Point(0.0, 0.0, result.base)
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
    rows = [answered(example, text) for example, text in zip(examples, texts, strict=True)]
    return metric_values(judged(rows, examples, CodeJudge()), metric)


def predict_gain(settings: Study, result: StudyResult, name: str) -> Prediction:
    """Headroom and gain of the arms that a teacher alone teaches.

    No headroom measures what a reward teaches, so arms with rewards are left out.
    """
    base = metric_values(result.base[name], "score")
    stages = {label: settings.stage(arm) for label, (arm, _) in settings.labels.items()}
    headroom: dict[str, float] = {}
    gain: dict[str, float] = {}
    for label, teacher in result.taught_by.items():
        kinds = {method.type for method in config.objectives(stages[label].method)}
        points = [at_tokens(of, settings.budget.tokens) for of in result.runs[label]]
        scores = [metric_values(point.rows[name], "score") for point in points]
        taught = _mean(metric_values(result.teachers[teacher][name], "score") - base)
        gained = _mean(np.mean(scores, axis=0) - base)
        if kinds <= {"distill", "criterion"} and np.isfinite([taught, gained]).all():
            headroom[label], gain[label] = taught, gained
    reference = stages[settings.against]
    alike = tuple(
        label
        for label in gain
        if (stages[label].method, stages[label].sampling) == (reference.method, reference.sampling)
    )
    r, r_alike = (_correlation(headroom, gain, labels) for labels in (tuple(gain), alike))
    return Prediction(name, headroom, gain, r, alike, r_alike)


def _correlation(
    headroom: Mapping[str, float], gain: Mapping[str, float], labels: Sequence[str]
) -> float | None:
    """Pearson's; None with fewer than three arms, or where one of the two does not vary."""
    pairs = np.array([[of[label] for label in labels] for of in (headroom, gain)])
    varies = len(labels) >= 3 and np.ptp(pairs, axis=1).all()
    return float(np.corrcoef(pairs)[0, 1]) if varies else None


def _mean(values: FloatArray) -> float:
    """Mean of the finite values; NaN where there are none."""
    finite = values[np.isfinite(values)]
    return float(finite.mean()) if len(finite) else float("nan")


def content_worth(
    result: StudyResult, comparisons: Sequence[ArmComparison], name: str
) -> list[Content]:
    """Content worth of every arm that has a teacher and a sibling with shuffled rubrics."""
    units = np.array(resampled_units(result.held_out[name], name in result.new_kinds))
    gains: dict[tuple[str, str], Interval] = {}
    for one in comparisons:
        if (one.held_out, one.metric) == (name, "score"):
            for of in one.compared.differences:
                gains[of.left, of.right] = i = of.interval
                # Where all arms are compared with a placebo, it stands on the left.
                gains[of.right, of.left] = Interval(-i.mean, -i.high, -i.low, i.n)
    contents = []
    for label in result.taught_by:
        sibling = f"{label}, shuffled"
        if (label, sibling) not in gains:
            continue
        answers = [result.base, *(result.teachers[result.taught_by[of]] for of in (label, sibling))]
        base, taught, shuffled = (metric_values(rows[name], "score") for rows in answers)
        graded = np.isfinite(base + taught + shuffled)
        try:
            ratio = ratio_interval(
                (taught - shuffled)[graded],
                (taught - base)[graded],
                clusters=units[graded].tolist(),
            )
        except ValueError:  # no headroom, or none that is clear
            ratio = None
        contents.append(Content(name, label, ratio, gains[label, sibling]))
    return contents


def score_mean(rows: Sequence[Graded]) -> float:
    """Mean score of the graded rows; NaN where there are none."""
    return _mean(metric_values(rows, "score"))


# Findings


def describe(
    settings: Study,
    comparisons: Comparisons,
    predictions: Sequence[Prediction],
    contents: Sequence[Content] = (),
) -> list[str]:
    """Sentences on the numbers, favourable or not.

    Two arms differ where the interval of their paired difference excludes 0; a star marks an
    adjusted p-value below 0.05. With few families of new templates no test can reach it.
    """
    sentences = [
        _describe_comparison(settings, axis, one) for axis, of in comparisons.items() for one in of
    ]
    sentences = sentences or ["No held-out question was graded in all arms."]
    for prediction in predictions:
        if prediction.r is not None:
            sentences.append(
                f"Headroom before training and gain correlate with r = {prediction.r:.2f} over "
                f"{len(prediction.gain)} arms on {place(prediction.held_out)}."
            )
        if prediction.r_alike is not None and len(prediction.alike) < len(prediction.gain):
            sentences.append(
                f"Over the {len(prediction.alike)} of them that differ in nothing but what the "
                f"teacher sees: r = {prediction.r_alike:.2f}."
            )
    return sentences + [
        f"On {place(content.held_out)}, {content.sensitivity:.2f} of the headroom of {content.arm} "
        f"depends on what its rubrics say; it gains {content.gain:.2f} more than with shuffled "
        "ones."
        for content in contents
        if content.sensitivity is not None
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
    predictions: Sequence[Prediction],
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
            if not row.label.endswith(f" - {BASE}")
        ),
        curves=tuple(_curves(settings, result)),
        relations=tuple(_relation(of) for of in predictions if of.r is not None),
        facts=facts(record),
        interval_note="95% intervals, seeds and questions (of new templates their families) both "
        f"resampled; at equal tokens ({tokens}) unless a panel says otherwise; few seeds make "
        "intervals too narrow where seeds differ much, and no seed draws other training problems",
    )


def _relation(prediction: Prediction) -> Relation:
    """Arms that differ in the teacher's view alone, where there are three; else all arms."""
    alike = prediction.r_alike is not None
    labels = prediction.alike if alike else tuple(prediction.gain)
    r = prediction.r_alike if alike else prediction.r
    return Relation(
        place(prediction.held_out),
        "headroom before training",
        "gain at equal tokens",
        tuple((label, prediction.headroom[label], prediction.gain[label]) for label in labels),
        f"r = {r:.2f} over {len(labels)} arms{', the same loss' if alike else ''}",
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
        line = [(0.0, score_mean(result.base[name]))]
        for points in evaluations:
            scores = [score_mean(point.rows[name]) for point in points]
            line.append((float(np.mean([p.tokens for p in points])), float(np.mean(scores))))
        steps, values = zip(*line, strict=True)
        x = f"tokens, means over seeds: {len(seeds)}"
        curves.append(Curve(label, f"score on {place(name)}", "0 to 1", steps, values, x))
    return curves
