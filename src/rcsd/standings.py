"""What a study shows: arms at equal tokens and at equal seconds, and whether headroom told."""

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
from rich.table import Table

from rcsd import config
from rcsd.comparison import ArmsCompared, compare_columns, question_values, resampled_unit
from rcsd.evaluate import Graded
from rcsd.files import write_json
from rcsd.insight import facts
from rcsd.report import (
    Arm,
    Curve,
    Difference,
    Estimate,
    Relation,
    ReportPage,
    figure_svg,
    terminal_table,
    write_report,
)
from rcsd.stats import FloatArray, Interval, holm, ratio_interval
from rcsd.study import Point, Trained, run
from rcsd.workers import Progress

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
    """

    held_out: str
    headroom: Mapping[str, float]
    gain: Mapping[str, float]
    r: float | None


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


@dataclass(frozen=True)
class Outcome:
    """What a study found.

    Args:
        summary: As ``study.json`` holds it.
        findings: Sentences for a reader.
        table: Arms and sets, for the terminal.
        report: The page.
    """

    summary: Mapping[str, Any]
    findings: Sequence[str]
    table: Table
    report: Path


def run_and_report(settings: config.Study, title: str, progress: Progress) -> Outcome:
    """Run a study and report what it found.

    Raises:
        UserError: As `rcsd.study.run`.
    """
    return reported(settings, title, run(settings, progress))


def reported(settings: config.Study, title: str, found: Trained) -> Outcome:
    """Statistics, ``study.json``, ``scores.svg``, page."""
    moments: list[Moment] = ["tokens"]
    if settings.budget.seconds is not None:
        moments.append("seconds")
    standings = [s for moment in moments for s in standings_of(settings, found, moment)]
    predictions = [prediction_of(settings, found, name) for name in found.held_out]
    contents = [c for name in found.held_out for c in contents_of(found, standings, name)]
    findings = sentences(settings, standings, predictions)
    summary = {
        "config": settings.model_dump(mode="json"),
        "spent": {label: _spent(settings, of_seeds) for label, of_seeds in found.runs.items()},
        "standings": [asdict(standing) for standing in standings],
        "predictions": [asdict(prediction) for prediction in predictions],
        "contents": [asdict(content) for content in contents],
        "findings": findings,
    }
    write_json(settings.out / "study.json", summary)
    page = _page(settings, title, found, standings, predictions, findings)
    write_report(page, settings.out / "report.html")
    for figure, rows in (("scores", page.estimates), ("relations", page.relations)):
        if rows:
            drawn = figure_svg(page, figure)
            (settings.out / f"{figure}.svg").write_text(drawn, encoding="utf-8")
    # Scores at equal tokens alone: more columns than a terminal is wide help nobody.
    first = [row for row in page.estimates if row.metric in METRICS]
    table = terminal_table(replace(page, estimates=tuple(first)))
    return Outcome(summary, findings, table, settings.out / "report.html")


def standings_of(settings: config.Study, found: Trained, moment: Moment) -> list[Standing]:
    """All arms at one moment, on every set and by every metric that there is.

    Differences are those to the base, to ``against``, and of each arm to itself with other rubrics.
    """
    pairs = _pairs(settings)
    # Corrected for so many tests, the smallest p-value that can be drawn must still tell.
    num_tests = len(pairs) * len(found.held_out) * len(METRICS)
    num_resamples = max(10_000, 100 * num_tests)
    standings = []
    for (name, examples), metric in itertools.product(found.held_out.items(), METRICS):
        cluster_by = "template" if name in found.new_kinds else None
        units = [resampled_unit(e.id, e.tags, cluster_by) for e in examples]
        values = {config.BASE: np.array([_values(found.base[name], metric)])}
        values |= {
            label: np.array(
                [_values_at(settings, found, of, name, metric, moment) for of in of_seeds]
            )
            for label, of_seeds in found.runs.items()
        }
        compared = compare_columns(values, units, pairs, 0, num_resamples)
        if compared.means:
            standings.append(Standing(moment, name, metric, compared))
    return _corrected(standings)


def _pairs(settings: config.Study) -> list[tuple[str, str]]:
    """Which differences a reader asks for, each once."""
    labels = settings.labels
    pairs = [(label, config.BASE) for label in labels]
    pairs += [(settings.against, label) for label in labels if label != settings.against]
    pairs += [
        (own, label)
        for label, (arm, rubrics) in labels.items()
        for own in [label.removesuffix(f", {rubrics}")]
        if rubrics != "gold" and own in labels and settings.against not in (own, label)
    ]
    return pairs


def _corrected(standings: Sequence[Standing]) -> list[Standing]:
    """The p-values of all differences as one family."""
    differences = [d for standing in standings for d in standing.compared.differences]
    if not differences:
        return list(standings)
    corrected = iter(holm([difference.p_value for difference in differences]).tolist())
    return [
        replace(
            standing,
            compared=replace(
                standing.compared,
                differences=tuple(
                    replace(difference, holm_p_value=next(corrected))
                    for difference in standing.compared.differences
                ),
            ),
        )
        for standing in standings
    ]


def _values(rows: Sequence[Graded], metric: str) -> FloatArray:
    """One value for each question; NaN is ungraded."""
    return np.array(list(question_values(rows, metric).values()))


def _values_at(
    settings: config.Study,
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


def prediction_of(settings: config.Study, found: Trained, name: str) -> Prediction:
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
    pairs = np.array([list(headroom.values()), list(gain.values())])
    varies = len(headroom) >= 3 and np.ptp(pairs, axis=1).all()
    r = float(np.corrcoef(pairs)[0, 1]) if varies else None
    return Prediction(name, headroom, gain, r)


def _mean_difference(values: FloatArray, base: FloatArray) -> float | None:
    """Over the questions that both have a value for; None where there are none."""
    differences = values - base
    has_both = np.isfinite(differences)
    return float(differences[has_both].mean()) if has_both.any() else None


def contents_of(found: Trained, standings: Sequence[Standing], name: str) -> list[Content]:
    """Of every arm that a teacher teaches and that has a shuffled sibling."""
    base = _values(found.base[name], "score")
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
        try:
            ratio = ratio_interval((own - other)[graded], (own - base)[graded])
        except ValueError:  # no headroom, or none that is clear
            ratio = None
        contents.append(Content(name, label, ratio, differences[label, sibling]))
    return contents


def sentences(
    settings: config.Study, standings: Sequence[Standing], predictions: Sequence[Prediction]
) -> list[str]:
    """What the numbers say, for better or worse.

    Two arms differ where the interval of their paired difference leaves 0 out; a star says that the
    corrected p-value is below 0.05 too. With few families of new templates no test can be.
    """
    found = [_of_standing(settings, standing) for standing in _told(standings)]
    found += [] if standings else ["No held-out question was graded in all arms."]
    found += [
        f"Headroom before training and gain correlate with r = {prediction.r:.2f} over "
        f"{len(prediction.gain)} arms on {prediction.held_out.replace('_', ' ')}."
        for prediction in predictions
        if prediction.r is not None
    ]
    return found


def _told(standings: Sequence[Standing]) -> list[Standing]:
    """Those by score; by accuracy where a set has no scores."""
    scored = {standing.held_out for standing in standings if standing.metric == "score"}
    return [s for s in standings if s.metric == "score" or s.held_out not in scored]


def _of_standing(settings: config.Study, standing: Standing) -> str:
    against, budget = settings.against, settings.budget
    when = f"{budget.tokens:,} tokens" if standing.moment == "tokens" else f"{budget.seconds:g} s"
    means = {mean.arm: mean.interval for mean in standing.compared.means}
    sides: dict[str, list[str]] = {"more than": [], "less than": [], "not clearly other than": []}
    for difference in standing.compared.differences:
        if difference.left != against:
            continue
        low, high = difference.interval.low, difference.interval.high
        side = "more than" if low > 0 else "less than" if high < 0 else "not clearly other than"
        star = "*" if difference.holm_p_value is not None and difference.holm_p_value < 0.05 else ""
        sides[side].append(f"{difference.right} {means[difference.right].mean:.2f}{star}")
    said = "; ".join(f"{side} {', '.join(of)}" for side, of in sides.items() if of)
    own = means[against]
    place = standing.held_out.replace("_", " ")
    verb = "scores" if standing.metric == "score" else "is right in"
    left_out = standing.compared.num_left_out
    without = f" (left out: {left_out} questions, where not every arm could be graded)"
    return (
        f"After {when}, on {place}, {against} {verb} {own.mean:.2f} "
        f"[{own.low:.2f}, {own.high:.2f}]: {said}{without if left_out else ''}."
    )


def _spent(settings: config.Study, of_seeds: Sequence[Sequence[Point]]) -> dict[str, Any]:
    """Tokens and seconds of each seed where arms are compared at equal tokens, and at its end."""
    at = [at_tokens(points, settings.budget.tokens) for points in of_seeds]
    return {
        "tokens": [point.tokens for point in at],
        "seconds": [point.seconds for point in at],
        "tokens_at_end": [points[-1].tokens for points in of_seeds],
        "seconds_at_end": [points[-1].seconds for points in of_seeds],
    }


def _page(
    settings: config.Study,
    title: str,
    found: Trained,
    standings: Sequence[Standing],
    predictions: Sequence[Prediction],
    findings: Sequence[str],
) -> ReportPage:
    first = next(iter(found.folders.values()))[0]
    labels = [config.BASE, *settings.labels]
    return ReportPage(
        title=title,
        subtitle=f"{settings.model.path}, seeds: {len(settings.seeds)}, "
        f"{settings.budget.tokens:,} tokens an arm",
        lead=tuple(findings),
        arms=tuple(Arm(label, highlight=label == settings.against) for label in labels),
        estimates=tuple(
            Estimate(mean.arm, standing.held_out, _metric(standing), mean.interval)
            for standing in standings
            for mean in standing.compared.means
        ),
        differences=tuple(
            Difference(
                f"{difference.left} - {difference.right}",
                standing.held_out,
                _metric(standing),
                difference.interval,
                difference.holm_p_value,
            )
            for standing in _told(standings)
            for difference in standing.compared.differences
            if difference.right != config.BASE
        ),
        curves=tuple(_curves(settings, found)),
        relations=tuple(
            Relation(
                f"headroom and gain, {prediction.held_out.replace('_', ' ')}",
                "headroom before training",
                "gain at equal tokens",
                tuple(
                    (label, prediction.headroom[label], prediction.gain[label])
                    for label in prediction.gain
                ),
                f"r = {prediction.r:.2f}",
            )
            for prediction in predictions
            if prediction.r is not None
        ),
        facts=facts(first.read_record()),
        interval_note="95% intervals, seeds and questions (of new templates their families) both "
        f"resampled; at equal tokens ({settings.budget.tokens:,}) unless a panel says otherwise; "
        "p-values corrected by Holm",
    )


def _metric(standing: Standing) -> str:
    """Its panel: the table's columns are at equal tokens, as the note below it says."""
    return standing.metric if standing.moment == "tokens" else f"{standing.metric} in equal time"


def _curves(settings: config.Study, found: Trained) -> list[Curve]:
    """Mean score over seeds, by tokens up to the budget's; the base where they are 0."""
    curves = []
    for name, (label, of_seeds) in itertools.product(found.held_out, found.runs.items()):
        ends = [at_tokens(points, settings.budget.tokens).tokens for points in of_seeds]
        within = [
            [point for point in points if point.tokens <= end]
            for points, end in zip(of_seeds, ends, strict=True)
        ]
        # Where a seed's steps jumped over an evaluation, its others have none to be averaged with.
        num = min(map(len, within))
        evaluations = zip(*([*points[: num - 1], points[-1]] for points in within), strict=True)
        start = _mean(_values(found.base[name], "score"))
        line = [(0.0, start)]
        for points in evaluations:
            scores = [_mean(_values(point.rows[name], "score")) for point in points]
            line.append((float(np.mean([p.tokens for p in points])), float(np.mean(scores))))
        steps, values = zip(*line, strict=True)
        place = name.replace("_", " ")
        x = f"tokens, means over seeds: {len(of_seeds)}"
        curves.append(Curve(label, f"score on {place}", "0 to 1", steps, values, x))
    return curves


def _mean(values: FloatArray) -> float:
    """Of those that are graded; NaN where none is."""
    graded = values[np.isfinite(values)]
    return float(graded.mean()) if len(graded) else float("nan")
