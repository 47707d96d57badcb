"""What a study shows in numbers: arms at equal tokens and at equal seconds; headroom and gain."""

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from rcsd import config
from rcsd.evaluation.compare import (
    ArmsCompared,
    adjust_p_values,
    compare_columns,
    question_values,
    resampled_unit,
)
from rcsd.evaluation.statistics import FloatArray, Interval, ratio_interval
from rcsd.graders.code import CodeJudge
from rcsd.graders.grade import Graded, grade_text, judge_rows
from rcsd.recipes.study import Point, Trained
from rcsd.recipes.study_config import BASE, Study
from rcsd.types import Example

SOLUTIONS = "worked solutions"
"""The examples' own solutions, graded like an arm: what copying them perfectly would score."""

Moment = Literal["tokens", "seconds"]
"""What is equal when arms are compared: completion tokens learned from, or seconds."""

METRICS = ("score", "accuracy")


@dataclass(frozen=True)
class Standing:
    """All arms on one held-out set by one metric.

    Args:
        moment: What is equal.
        held_out: The set.
        metric: ``score`` or ``accuracy``.
        compared: Means and paired differences, p-values corrected over all standings of the moment.
    """

    moment: Moment
    held_out: str
    metric: str
    compared: ArmsCompared


@dataclass(frozen=True)
class Prediction:
    """Whether what was measured before training told what training gained.

    Args:
        held_out: The set.
        headroom: Of each arm's teacher: its score less the base's, by the arm's label.
        gain: Of each arm at equal tokens: its score less the base's.
        r: Pearson's correlation of the two, in [-1, 1]; None with fewer than three arms.
        alike: Arms with the loss and the sampling of the arm that all are compared with: only what
            the teacher sees differs.
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
    """What the content of an arm's rubrics was worth before training, and in it.

    Args:
        held_out: The set.
        arm: Its label.
        sensitivity: (s(gold) - s(shuffled)) / (s(gold) - s(base)) of its teacher's scores s before
            training; None where the denominator may be 0.
        gain: Its score less that of the same arm with shuffled rubrics, at equal tokens.
    """

    held_out: str
    arm: str
    sensitivity: Interval | None
    gain: Interval


def standings_of(settings: Study, found: Trained, moment: Moment) -> Sequence[Standing]:
    """All arms at one moment, on every set and by every metric that there is.

    Differences are those to the base, to ``against``, and of each arm to itself with other rubrics.
    """
    pairs = _pairs(settings)
    # Corrected for so many tests, the smallest p-value that can be drawn must still tell.
    num_tests = len(pairs) * len(found.held_out) * len(METRICS)
    num_resamples = max(10_000, 100 * num_tests)
    standings = []
    for (name, examples), metric in itertools.product(found.held_out.items(), METRICS):
        units = _units(found, name)
        values = {BASE: np.array([_values(found.base[name], metric)])}
        values |= {
            label: np.array(
                [_values_at(settings, found, of, name, metric, moment) for of in of_seeds]
            )
            for label, of_seeds in found.runs.items()
        }
        if (solutions := solution_values(examples, metric)) is not None:
            values[SOLUTIONS] = np.array([solutions])
        compared = compare_columns(values, units, pairs, 0, num_resamples)
        if compared.means:
            standings.append(Standing(moment, name, metric, compared))
    adjusted = adjust_p_values([standing.compared for standing in standings])
    return [replace(a, compared=b) for a, b in zip(standings, adjusted, strict=True)]


def _units(found: Trained, name: str) -> list[str]:
    """What each question is resampled with: of new templates, its family."""
    cluster_by = "template" if name in found.new_kinds else None
    return [resampled_unit(e.id, e.tags, cluster_by) for e in found.held_out[name]]


def solution_values(examples: Sequence[Example], metric: str) -> FloatArray | None:
    """What the examples' own solutions have in a metric; None where one has none."""
    texts = [example.solution for example in examples]
    if None in texts:
        return None
    rows = [
        grade_text(example, text)
        for example, text in zip(examples, texts, strict=True)
        if text is not None
    ]
    return _values(judge_rows(rows, examples, CodeJudge()), metric)


def _pairs(settings: Study) -> list[tuple[str, str]]:
    """Which differences a reader asks for, each once."""
    labels = settings.labels
    pairs = [(label, BASE) for label in labels]
    pairs += [(settings.against, label) for label in labels if label != settings.against]
    pairs += [
        (own, label)
        for label, (arm, rubrics) in labels.items()
        for own in [label.removesuffix(f", {rubrics}")]
        if rubrics != "gold" and own in labels and settings.against not in (own, label)
    ]
    return pairs


def _values(rows: Sequence[Graded], metric: str) -> FloatArray:
    """One value for each question; NaN is ungraded."""
    return np.array(list(question_values(rows, metric).values()))


def _values_at(
    settings: Study,
    found: Trained,
    points: Sequence[Point],
    name: str,
    metric: str,
    moment: Moment,
) -> FloatArray:
    """One value for each question at a moment of one run."""
    budget = settings.budget
    if moment == "tokens":
        return _values(at_tokens(points, budget.tokens).rows[name], metric)
    assert budget.seconds is not None
    start = Point(0.0, 0.0, found.base)
    before, after, share = around_seconds([start, *points], budget.seconds)
    earlier, later = (_values(point.rows[name], metric) for point in (before, after))
    # What was ungraded an evaluation before is nothing to one that lies exactly on the moment.
    return later if share == 1 else (1 - share) * earlier + share * later


def at_tokens(points: Sequence[Point], tokens: float) -> Point:
    """The first evaluation with so many tokens, or more by less than a step."""
    return next(point for point in points if point.tokens >= tokens)


def around_seconds(points: Sequence[Point], seconds: float) -> tuple[Point, Point, float]:
    """The evaluations before and after a time, and where it lies between them, in (0, 1].

    After the last one it is the last.

    Args:
        points: By seconds; the first at 0.
        seconds: Above 0.
    """
    for before, after in itertools.pairwise(points):
        if after.seconds >= seconds:
            return before, after, (seconds - before.seconds) / (after.seconds - before.seconds)
    return points[-1], points[-1], 1.0


def prediction_of(settings: Study, found: Trained, name: str) -> Prediction:
    """Headroom before training beside the gain at equal tokens, where a teacher alone teaches.

    A reward teaches what no headroom measures, so arms that are reinforced are left out.
    """
    base = _values(found.base[name], "score")
    headroom: dict[str, float] = {}
    gain: dict[str, float] = {}
    for label, teacher in found.taught_by.items():
        stage = settings.stage(settings.labels[label][0])
        kinds = {method.type for method in config.objectives(stage.method)}
        points = [at_tokens(of, settings.budget.tokens) for of in found.runs[label]]
        scores = np.mean([_values(point.rows[name], "score") for point in points], axis=0)
        shown = _mean_difference(_values(found.teachers[teacher][name], "score"), base)
        gained = _mean_difference(scores, base)
        if kinds <= {"distill", "criterion"} and shown is not None and gained is not None:
            headroom[label], gain[label] = shown, gained
    own = settings.stage(settings.labels[settings.against][0])
    stages = {label: settings.stage(settings.labels[label][0]) for label in gain}
    alike = tuple(
        label
        for label, stage in stages.items()
        if (stage.method, stage.sampling) == (own.method, own.sampling)
    )
    r, r_alike = _correlation(headroom, gain, list(gain)), _correlation(headroom, gain, alike)
    return Prediction(name, headroom, gain, r, alike, r_alike)


def _correlation(
    headroom: Mapping[str, float], gain: Mapping[str, float], labels: Sequence[str]
) -> float | None:
    """Pearson's; None with fewer than three arms, or where one of the two does not vary."""
    pairs = np.array([[of[label] for label in labels] for of in (headroom, gain)])
    varies = len(labels) >= 3 and np.ptp(pairs, axis=1).all()
    return float(np.corrcoef(pairs)[0, 1]) if varies else None


def _mean_difference(values: FloatArray, base: FloatArray) -> float | None:
    """Over the questions that both have a value for; None where there are none."""
    differences = values - base
    has_both = np.isfinite(differences)
    return float(differences[has_both].mean()) if has_both.any() else None


def contents_of(found: Trained, standings: Sequence[Standing], name: str) -> list[Content]:
    """Of every arm that a teacher teaches and that has a shuffled sibling."""
    base = _values(found.base[name], "score")
    units = np.array(_units(found, name))
    differences = {
        (difference.left, difference.right): difference.interval
        for standing in standings
        if (standing.moment, standing.held_out, standing.metric) == ("tokens", name, "score")
        for difference in standing.compared.differences
    }
    # Where all is compared with a placebo, it stands on the left.
    differences |= {
        (right, left): Interval(-i.mean, -i.high, -i.low, i.n)
        for (left, right), i in differences.items()
    }
    contents = []
    for label in found.taught_by:
        sibling = f"{label}, shuffled"
        if (label, sibling) not in differences:
            continue
        own, other = (
            _values(found.teachers[found.taught_by[arm]][name], "score") for arm in (label, sibling)
        )
        graded = np.isfinite(base + own + other)
        clusters = units[graded].tolist()
        try:
            ratio = ratio_interval((own - other)[graded], (own - base)[graded], clusters=clusters)
        except ValueError:  # no headroom, or none that is clear
            ratio = None
        contents.append(Content(name, label, ratio, differences[label, sibling]))
    return contents


def score_mean(rows: Sequence[Graded]) -> float:
    """Mean score of those that are graded; NaN where none is."""
    values = _values(rows, "score")
    graded = values[np.isfinite(values)]
    return float(graded.mean()) if len(graded) else float("nan")
