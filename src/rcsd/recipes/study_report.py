"""A study's findings: sentences, ``study.json``, figures and a page."""

import itertools
from collections.abc import Sequence
from dataclasses import asdict, replace
from typing import Any

import numpy as np

from rcsd.evaluation.plots import figure_svg
from rcsd.evaluation.report import (
    Arm,
    Curve,
    Difference,
    Estimate,
    Outcome,
    Relation,
    ReportPage,
    estimates_table,
    write_report,
)
from rcsd.evaluation.run_report import facts
from rcsd.evaluation.statistics import Interval
from rcsd.io import write_json, write_text
from rcsd.recipes.standings import (
    METRICS,
    SOLUTIONS,
    Content,
    Moment,
    Prediction,
    Standing,
    at_tokens,
    contents_of,
    prediction_of,
    score_mean,
    standings_of,
)
from rcsd.recipes.study import Point, Trained, run
from rcsd.recipes.study_config import BASE, Study
from rcsd.types import Progress


def run_and_report(settings: Study, title: str, progress: Progress) -> Outcome:
    """Run a study and report what it found.

    Raises:
        UserError: As `rcsd.recipes.study.run`.
    """
    return reported(settings, title, run(settings, progress))


def reported(settings: Study, title: str, found: Trained) -> Outcome:
    """Statistics, ``study.json``, ``scores.svg``, page."""
    moments: list[Moment] = ["tokens"]
    if settings.budget.seconds is not None:
        moments.append("seconds")
    standings = [s for moment in moments for s in standings_of(settings, found, moment)]
    predictions = [prediction_of(settings, found, name) for name in found.held_out]
    contents = [c for name in found.held_out for c in contents_of(found, standings, name)]
    findings = sentences(settings, standings, predictions, contents)
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
            write_text(settings.out / f"{figure}.svg", drawn)
    # Scores at equal tokens alone: more columns than a terminal is wide help nobody.
    first = [row for row in page.estimates if row.metric in METRICS]
    table = estimates_table(replace(page, estimates=tuple(first)))
    return Outcome(summary, findings, table, settings.out / "report.html")


def sentences(
    settings: Study,
    standings: Sequence[Standing],
    predictions: Sequence[Prediction],
    contents: Sequence[Content] = (),
) -> list[str]:
    """What the numbers say, for better or worse.

    Two arms differ where the interval of their paired difference leaves 0 out; a star says that the
    corrected p-value is below 0.05 too. With few families of new templates no test can be.
    """
    found = [_of_standing(settings, standing) for standing in standings]
    found += [] if standings else ["No held-out question was graded in all arms."]
    for prediction in predictions:
        place = prediction.held_out.replace("_", " ")
        if prediction.r is not None:
            found.append(
                f"Headroom before training and gain correlate with r = {prediction.r:.2f} over "
                f"{len(prediction.gain)} arms on {place}."
            )
        if prediction.r_alike is not None and len(prediction.alike) < len(prediction.gain):
            found.append(
                f"Over the {len(prediction.alike)} of them that differ in nothing but what the "
                f"teacher sees: r = {prediction.r_alike:.2f}."
            )
    found += [
        f"On {content.held_out.replace('_', ' ')}, {_said(content.sensitivity)} of the headroom "
        f"of {content.arm} hangs on what its rubrics say; it gains {_said(content.gain)} more "
        "than with shuffled ones."
        for content in contents
        if content.sensitivity is not None
    ]
    return found


def _said(interval: Interval) -> str:
    return f"{interval.mean:.2f} [{interval.low:.2f}, {interval.high:.2f}]"


def _of_standing(settings: Study, standing: Standing) -> str:
    against, budget = settings.against, settings.budget
    when = f"{budget.tokens:,} tokens" if standing.moment == "tokens" else f"{budget.seconds:g} s"
    means = {mean.arm: mean.interval for mean in standing.compared.means}
    sides: dict[str, list[str]] = {"More than": [], "Less than": [], "Not clearly other than": []}
    for difference in standing.compared.differences:
        if difference.left != against:
            continue
        low, high = difference.interval.low, difference.interval.high
        side = "More than" if low > 0 else "Less than" if high < 0 else "Not clearly other than"
        star = "*" if difference.holm_p_value is not None and difference.holm_p_value < 0.05 else ""
        sides[side].append(f"{difference.right} {means[difference.right].mean:.2f}{star}")
    # Names of arms may hold commas.
    said = "".join(f" {side}: {'; '.join(of)}." for side, of in sides.items() if of)
    own = means[against]
    place = standing.held_out.replace("_", " ")
    verb = "scores" if standing.metric == "score" else "is right in"
    left_out = standing.compared.num_left_out
    without = f" Left out: {left_out} questions, where not every arm could be graded."
    return (
        f"After {when}, on {place}, {against} {verb} {own.mean:.2f} "
        f"[{own.low:.2f}, {own.high:.2f}].{said}{without if left_out else ''}"
    )


def _spent(settings: Study, of_seeds: Sequence[Sequence[Point]]) -> dict[str, Any]:
    """Tokens and seconds of each seed where arms are compared at equal tokens, and at its end."""
    at = [at_tokens(points, settings.budget.tokens) for points in of_seeds]
    return {
        "tokens": [point.tokens for point in at],
        "seconds": [point.seconds for point in at],
        "tokens_at_end": [points[-1].tokens for points in of_seeds],
        "seconds_at_end": [points[-1].seconds for points in of_seeds],
    }


def _page(
    settings: Study,
    title: str,
    found: Trained,
    standings: Sequence[Standing],
    predictions: Sequence[Prediction],
    findings: Sequence[str],
) -> ReportPage:
    first = next(iter(found.folders.values()))[0]
    labels = [BASE, *settings.labels, SOLUTIONS]
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
            for standing in standings
            for difference in standing.compared.differences
            if difference.right != BASE
        ),
        curves=tuple(_curves(settings, found)),
        relations=tuple(
            _relation(prediction) for prediction in predictions if prediction.r is not None
        ),
        facts=facts(first.read_record()),
        interval_note="95% intervals, seeds and questions (of new templates their families) both "
        f"resampled; at equal tokens ({settings.budget.tokens:,}) unless a panel says otherwise; "
        "few seeds make intervals too narrow where seeds differ much, "
        "and no seed draws other training problems",
    )


def _relation(prediction: Prediction) -> Relation:
    """Arms that differ in what the teacher sees alone, where three do; else all that have one."""
    alike = prediction.r_alike is not None
    labels = prediction.alike if alike else list(prediction.gain)
    r = prediction.r_alike if alike else prediction.r
    return Relation(
        prediction.held_out.replace("_", " "),
        "headroom before training",
        "gain at equal tokens",
        tuple((label, prediction.headroom[label], prediction.gain[label]) for label in labels),
        f"r = {r:.2f} over {len(labels)} arms{', the same loss' if alike else ''}",
    )


def _metric(standing: Standing) -> str:
    """Its panel: the table's columns are at equal tokens, as the note below it says."""
    return standing.metric if standing.moment == "tokens" else f"{standing.metric} in equal time"


def _curves(settings: Study, found: Trained) -> list[Curve]:
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
        start = score_mean(found.base[name])
        line = [(0.0, start)]
        for points in evaluations:
            scores = [score_mean(point.rows[name]) for point in points]
            line.append((float(np.mean([p.tokens for p in points])), float(np.mean(scores))))
        steps, values = zip(*line, strict=True)
        place = name.replace("_", " ")
        x = f"tokens, means over seeds: {len(of_seeds)}"
        curves.append(Curve(label, f"score on {place}", "0 to 1", steps, values, x))
    return curves
