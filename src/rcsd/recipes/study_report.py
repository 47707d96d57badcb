"""Report of a study, whose arms have learned from equal tokens: findings, figures, a page."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace

import numpy as np

from rcsd.evaluation.report import Arm, Outcome, Relation, ReportPage
from rcsd.evaluation.run_report import facts
from rcsd.evaluation.statistics import FloatArray, Interval, ratio_interval
from rcsd.graders.code import CodeJudge
from rcsd.graders.grade import grade_text, judge_rows
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
from rcsd.recipes.study import StudyResult, run
from rcsd.recipes.study_config import BASE, Study
from rcsd.training.stopping import SECONDS, TOKENS
from rcsd.types import Example, Progress

SOLUTIONS = "worked solutions"
"""Arm of the examples' worked solutions, the score of copying them perfectly."""


@dataclass(frozen=True)
class TeacherWorth:
    """Worth of a teacher before training beside the gain of its arm in training, by score.

    With s the teacher's score before training, shown these rubrics, shuffled ones or none:

    Args:
        held_out: The set.
        arm: Label of the arm.
        headroom: s(these) - s(none); None where nothing is graded.
        gain: The arm's score minus the base's; None where nothing is graded.
        is_alike: The arm has the loss and the sampling of the arm that all are compared with, so
            that the teacher's view alone makes the difference.
        sensitivity: (s(these) - s(shuffled)) / (s(these) - s(none)), how much depends on the
            content; None without a sibling with shuffled rubrics or a clear headroom.
        content_gain: The arm's score minus its sibling's.
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
    comparisons = compare(settings, result)
    teachers = [
        worth
        for name in result.held_out
        for worth in teacher_worths(settings, result, comparisons, name)
    ]
    findings = describe(settings, comparisons, teachers)
    ends = {label: [f.metrics()[-1] for f in of] for label, of in result.folders.items()}
    summary = {
        "config": settings.model_dump(mode="json"),
        "spent": {
            label: {"tokens": [row[TOKENS] for row in of], "seconds": [row[SECONDS] for row in of]}
            for label, of in ends.items()
        },
        "comparisons": [one.json() for one in comparisons],
        "teachers": [asdict(worth) for worth in teachers],
        "findings": findings,
    }
    tokens, num_seeds = f"{settings.budget.tokens:,}", len(settings.seeds)
    page = ReportPage(
        title=title,
        subtitle=f"{settings.model.path}, seeds: {num_seeds}, {tokens} tokens an arm",
        lead=tuple(findings),
        arms=tuple(
            Arm(label, highlight=label == settings.against)
            for label in (BASE, *settings.labels, SOLUTIONS)
        ),
        estimates=tuple(estimates(comparisons)),
        differences=tuple(
            row for row in differences(comparisons) if not row.arm.endswith(f" - {BASE}")
        ),
        relations=tuple(
            Relation(
                place(name),
                "headroom before training",
                "gain",
                tuple((of.arm, of.headroom or 0.0, of.gain or 0.0) for of in arms),
                f"r = {r:.2f} over {len(arms)} arms, the same loss",
            )
            for name, (r, arms) in correlations(teachers).items()
        ),
        facts=facts(next(iter(result.folders.values()))[0].read_record()),
        interval_note="95% intervals, seeds and questions (of new templates their families) both "
        f"resampled; at equal tokens ({tokens}); few seeds make intervals too narrow where seeds "
        "differ much, and no seed draws other training problems",
    )
    return write_outcome(page, settings.out, "study.json", summary)


# Numbers


def compare(settings: Study, result: StudyResult) -> Sequence[ArmComparison]:
    """All arms, for every set and metric that has values.

    Differences are those to the base, to ``against``, and of each arm to itself with other rubrics.
    """

    def values(name: str, metric: str) -> dict[str, FloatArray]:
        by_arm = {BASE: metric_values(result.answers[BASE][name], metric)[None]}
        for label, seeds in result.runs.items():
            by_arm[label] = np.array([metric_values(rows[name], metric) for rows in seeds])
        if (solutions := solution_values(result.held_out[name], metric)) is not None:
            by_arm[SOLUTIONS] = solutions[None]
        return by_arm

    labels, against = settings.labels, settings.against
    pairs = [(label, BASE) for label in labels]
    pairs += [(against, label) for label in labels if label != against]
    pairs += [
        (arm, label)
        for label, (arm, rubrics) in labels.items()
        if rubrics != "gold" and arm in labels and against not in (arm, label)
    ]
    # Even adjusted for this many tests, the smallest possible p-value must be significant.
    num_resamples = max(10_000, 100 * len(pairs) * len(result.held_out) * len(METRICS))
    compared = compare_on_sets(
        result.held_out, result.new_kinds, values, pairs, num_resamples=num_resamples
    )
    return [one for one in compared if one.compared.means]


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
    """Worth of the teacher of every arm that has one, on one set."""
    units = np.array(resampled_units(result.held_out[name], name in result.new_kinds))
    scores = {arm: metric_values(rows[name], "score") for arm, rows in result.answers.items()}
    stages = {label: settings.stage(arm) for label, (arm, _) in settings.labels.items()}
    reference, base = stages[settings.against], scores[BASE]
    gaps: dict[tuple[str, str], Interval] = {}
    for one in comparisons:
        if (one.held_out, one.metric) == (name, "score"):
            for of in one.compared.differences:
                gaps[of.left, of.right] = i = of.interval
                gaps[of.right, of.left] = Interval(-i.mean, -i.high, -i.low, i.n)
    worths = []
    for label, teacher in result.taught_by.items():
        stage, sibling = stages[label], f"{label}, shuffled"
        ends = [metric_values(rows[name], "score") for rows in result.runs[label]]
        worth = TeacherWorth(
            name,
            label,
            _mean(scores[teacher] - base),
            _mean(np.mean(ends, axis=0) - base),
            (stage.method, stage.sampling) == (reference.method, reference.sampling),
        )
        if (label, sibling) in gaps:
            content = scores[teacher] - scores[result.taught_by[sibling]]
            sensitivity = _share(content, scores[teacher] - base, units)
            worth = replace(worth, sensitivity=sensitivity, content_gain=gaps[label, sibling])
        worths.append(worth)
    return worths


def _share(content: FloatArray, headroom: FloatArray, units: np.ndarray) -> Interval | None:
    """Share of the headroom that depends on the content, over what is graded in both."""
    graded = np.isfinite(content + headroom)
    try:
        return ratio_interval(content[graded], headroom[graded], clusters=units[graded].tolist())
    except ValueError:  # no headroom, or none that is clear
        return None


def _mean(values: FloatArray) -> float | None:
    """Mean of the finite values; None where there are none."""
    finite = values[np.isfinite(values)]
    return float(finite.mean()) if len(finite) else None


def correlations(
    teachers: Sequence[TeacherWorth],
) -> Mapping[str, tuple[float, list[TeacherWorth]]]:
    """Pearson's r of headroom and gain over the arms that are alike, and these arms, by set.

    A set with fewer than three arms, or where one of the two does not vary, has none.
    """
    by_set = {}
    for name in dict.fromkeys(of.held_out for of in teachers):
        arms = [of for of in teachers if (of.held_out, of.is_alike) == (name, True)]
        arms = [of for of in arms if None not in (of.headroom, of.gain)]
        pairs = np.array([(of.headroom, of.gain) for of in arms], dtype=np.float64)
        if len(arms) >= 3 and np.ptp(pairs, axis=0).all():
            by_set[name] = float(np.corrcoef(pairs.T)[0, 1]), arms
    return by_set


# Findings


def describe(
    settings: Study, comparisons: Sequence[ArmComparison], teachers: Sequence[TeacherWorth]
) -> list[str]:
    """Sentences on the numbers, favourable or not.

    Two arms differ where the interval of their paired difference excludes 0; a star marks an
    adjusted p-value below 0.05. With few families of new templates no test can reach it.
    """
    sentences = [_describe_comparison(settings, one) for one in comparisons]
    sentences = sentences or ["No held-out question was graded in all arms."]
    sentences += [
        f"Over the {len(arms)} arms that differ in the teacher's view alone, headroom before "
        f"training and gain correlate with r = {r:.2f} on {place(name)}."
        for name, (r, arms) in correlations(teachers).items()
    ]
    return sentences + [
        f"On {place(of.held_out)}, {of.sensitivity:.2f} of the headroom of {of.arm} depends on the "
        f"content of its rubrics; it gains {of.content_gain:.2f} more than with shuffled ones."
        for of in teachers
        if of.sensitivity is not None and of.content_gain is not None
    ]


def _describe_comparison(settings: Study, one: ArmComparison) -> str:
    against = settings.against
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
    verb = "scores" if one.metric == "score" else "is right in"
    sentence = (
        f"After {settings.budget.tokens:,} tokens, on {place(one.held_out)}, {against} {verb} "
        f"{means[against]:.2f}.{others}"
    )
    if num_left_out := one.compared.num_left_out:
        sentence += f" Left out: {num_left_out} questions, where not every arm could be graded."
    return sentence
