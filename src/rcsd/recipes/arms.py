"""Arms compared on every held-out set, by score and accuracy, and their rows of a report."""

import math
from collections.abc import Mapping, Sequence
from itertools import product
from pathlib import Path
from typing import Any, NamedTuple

from rcsd.evaluation.bounds import NUMBER_ALONE, UNIT_REQUIRED, Pairs
from rcsd.evaluation.compare import (
    GradedSet,
    MetricCompared,
    adjust_p_values,
    compare_metric,
    describe_ungraded,
)
from rcsd.evaluation.report import Estimate, ReportPage, write_report
from rcsd.evaluation.statistics import NUM_RESAMPLES
from rcsd.evaluation.text import UNIT_WORDS, spaced
from rcsd.graders.grade import Graded
from rcsd.io import write_json
from rcsd.types import DEFAULT_UNITS, Example

METRICS = ("score", "accuracy")

SetRows = Mapping[str, Sequence[Graded]]
"""Graded completions of each held-out set."""


def compare_on_sets(
    held_out: Mapping[str, Sequence[Example]],
    new_kinds: frozenset[str],
    arms: Mapping[str, Sequence[SetRows]],
    pairs: Pairs,
    seed: int = 0,
    num_resamples: int = NUM_RESAMPLES,
) -> Sequence[MetricCompared]:
    """Every set by every metric, as `compare_arms`; the p-values are adjusted as one family.

    ``arms`` have graded completions of each seed. In the sets of ``new_kinds`` the claim is about
    new kinds of questions: their templates are resampled.
    """
    compared = []
    for (name, examples), metric in product(held_out.items(), METRICS):
        rows = {
            arm: [sets[name] for sets in seeds] for arm, seeds in arms.items() if name in seeds[0]
        }
        tag = "template" if name in new_kinds else None
        graded = GradedSet(name, examples, rows, {})
        compared.append(compare_metric(graded, metric, pairs, tag, seed, num_resamples))
    return adjust_p_values(compared)


def estimates(comparisons: Sequence[MetricCompared]) -> list[Estimate]:
    """Means of all arms; where answers are ungraded, accuracies also with them as wrong."""
    return [
        Estimate(mean.arm, of.set, name, mean.interval)
        for of in comparisons
        for name, compared in of.rows(has_units=False).items()
        for mean in compared.means
    ]


def differences(comparisons: Sequence[MetricCompared]) -> list[Estimate]:
    """Paired differences of all pairs."""
    return [
        Estimate(f"{d.left} - {d.right}", of.set, of.metric, d.interval, d.holm_p_value)
        for of in comparisons
        for d in of.compared.differences
    ]


def describe_rules(comparisons: Sequence[MetricCompared]) -> list[str]:
    """Sentences on conclusions that ungraded answers move, and on accuracies by other rules."""
    sentences = []
    for of in comparisons:
        sentences += describe_ungraded(of, moved=math.inf)
        if NUMBER_ALONE in of.by_rule:
            alone, required = (
                ", ".join(
                    f"{m.arm} {m.interval.mean:.2f}"
                    for m in of.by_rule[rule].means
                    if not m.arm.startswith("teacher")
                )
                for rule in (NUMBER_ALONE, UNIT_REQUIRED)
            )
            sentences.append(
                f"On {spaced(of.set)}, by accuracy {UNIT_WORDS[DEFAULT_UNITS]}. By the number "
                f"alone: {alone or 'none'}; with the unit required: {required or 'none'}."
            )
    return sentences


class Outcome(NamedTuple):
    """Results of a pipeline or a study; ``report`` is the path of the page."""

    summary: Mapping[str, Any]
    page: ReportPage
    report: Path


def write_outcome(page: ReportPage, out: Path, file: str, summary: Mapping[str, Any]) -> Outcome:
    """Write the summary and the page into a folder."""
    write_json(out / file, summary)
    write_report(page, out / "report.html")
    return Outcome(summary, page, out / "report.html")
