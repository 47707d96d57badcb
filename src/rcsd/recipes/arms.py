"""Arms compared on every held-out set, by score and accuracy, and their rows of a report."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from itertools import product
from pathlib import Path
from typing import Any, NamedTuple

from rcsd.evaluation.bounds import Pairs
from rcsd.evaluation.compare import ArmsCompared, adjust_p_values, compare_arms
from rcsd.evaluation.report import Estimate, ReportPage, write_report
from rcsd.evaluation.statistics import NUM_RESAMPLES
from rcsd.graders.grade import Graded
from rcsd.io import write_json

METRICS = ("score", "accuracy")

SetRows = Mapping[str, Sequence[Graded]]
"""Graded completions of each held-out set."""


class ArmComparison(NamedTuple):
    """Means and paired differences of all arms on one held-out set, by score or accuracy."""

    held_out: str
    metric: str
    compared: ArmsCompared

    def json(self) -> dict[str, Any]:
        """Plain values."""
        return {**self._asdict(), "compared": asdict(self.compared)}


def compare_on_sets(
    held_out: Iterable[str],
    new_kinds: frozenset[str],
    arms: Mapping[str, Sequence[SetRows]],
    pairs: Pairs,
    seed: int = 0,
    num_resamples: int = NUM_RESAMPLES,
) -> Sequence[ArmComparison]:
    """Every set by every metric, as `compare_arms`; the p-values are adjusted as one family.

    ``arms`` have graded completions of each seed. In the sets of ``new_kinds`` the claim is about
    new kinds of questions: their templates are resampled.
    """
    keys, compared = list(product(held_out, METRICS)), []
    for name, metric in keys:
        rows = {
            arm: [sets[name] for sets in seeds] for arm, seeds in arms.items() if name in seeds[0]
        }
        tag = "template" if name in new_kinds else None
        compared.append(compare_arms(rows, metric, pairs, tag, seed, num_resamples))
    adjusted = adjust_p_values(compared)
    return [ArmComparison(*key, of) for key, of in zip(keys, adjusted, strict=True)]


def estimates(comparisons: Sequence[ArmComparison]) -> list[Estimate]:
    """Means of all arms."""
    return [
        Estimate(mean.arm, of.held_out, of.metric, mean.interval)
        for of in comparisons
        for mean in of.compared.means
    ]


def differences(comparisons: Sequence[ArmComparison]) -> list[Estimate]:
    """Paired differences of all pairs."""
    return [
        Estimate(f"{d.left} - {d.right}", of.held_out, of.metric, d.interval, d.holm_p_value)
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
