"""Arms compared on every held-out set, by score and accuracy, and their rows of a report."""

from collections.abc import Iterable, Mapping, Sequence
from itertools import product
from pathlib import Path
from typing import Any, NamedTuple

from rcsd.evaluation.bounds import Pairs
from rcsd.evaluation.compare import MetricCompared, adjust_p_values, compare_arms
from rcsd.evaluation.report import Estimate, ReportPage, write_report
from rcsd.evaluation.statistics import NUM_RESAMPLES
from rcsd.graders.grade import Graded
from rcsd.io import write_json

METRICS = ("score", "accuracy")

SetRows = Mapping[str, Sequence[Graded]]
"""Graded completions of each held-out set."""


def compare_on_sets(
    held_out: Iterable[str],
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
    for name, metric in product(held_out, METRICS):
        rows = {
            arm: [sets[name] for sets in seeds] for arm, seeds in arms.items() if name in seeds[0]
        }
        tag = "template" if name in new_kinds else None
        of = compare_arms(rows, metric, pairs, tag, seed, num_resamples)
        compared.append(MetricCompared(name, metric, of))
    return adjust_p_values(compared)


def estimates(comparisons: Sequence[MetricCompared]) -> list[Estimate]:
    """Means of all arms."""
    return [
        Estimate(mean.arm, of.set, of.metric, mean.interval)
        for of in comparisons
        for mean in of.compared.means
    ]


def differences(comparisons: Sequence[MetricCompared]) -> list[Estimate]:
    """Paired differences of all pairs."""
    return [
        Estimate(f"{d.left} - {d.right}", of.set, of.metric, d.interval, d.holm_p_value)
        for of in comparisons
        for d in of.compared.differences
    ]


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
