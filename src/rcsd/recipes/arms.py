"""Arms compared on every held-out set, by score and accuracy, and their rows of a report."""

import itertools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from rcsd.evaluation.bounds import Pairs, question_values
from rcsd.evaluation.compare import (
    ArmsCompared,
    adjust_p_values,
    compare_columns,
    resampled_unit,
)
from rcsd.evaluation.report import (
    Estimate,
    Outcome,
    ReportPage,
    estimates_table,
    write_report,
)
from rcsd.evaluation.statistics import FloatArray
from rcsd.graders.grade import Graded
from rcsd.io import write_json
from rcsd.types import Example

METRICS = ("score", "accuracy")


@dataclass(frozen=True)
class ArmComparison:
    """All arms on one held-out set by one metric.

    Args:
        held_out: The set.
        metric: ``score`` or ``accuracy``.
        compared: Means and paired differences.
    """

    held_out: str
    metric: str
    compared: ArmsCompared


def compare_on_sets(
    held_out: Mapping[str, Sequence[Example]],
    new_kinds: frozenset[str],
    values: Callable[[str, str], Mapping[str, FloatArray]],
    pairs: Pairs,
    seed: int = 0,
    num_resamples: int = 10_000,
) -> Sequence[ArmComparison]:
    """Every set by every metric; the p-values are adjusted as one family.

    Args:
        held_out: Examples of each set.
        new_kinds: Sets whose claim is about new kinds of questions: kinds are resampled.
        values: Arm -> [seeds, questions] of a set and a metric; NaN: ungraded in all arms.
        pairs: As in `rcsd.evaluation.compare.compare_columns`.
        seed: Random seed of resampling.
        num_resamples: As in `rcsd.evaluation.compare.compare_columns`.
    """
    keys = list(itertools.product(held_out, METRICS))
    compared = [
        compare_columns(
            values(name, metric),
            resampled_units(held_out[name], name in new_kinds),
            pairs,
            seed,
            num_resamples,
        )
        for name, metric in keys
    ]
    adjusted = adjust_p_values(compared)
    return [ArmComparison(*key, of) for key, of in zip(keys, adjusted, strict=True)]


def resampled_units(examples: Sequence[Example], is_new_kind: bool) -> list[str]:
    """Resampling unit of each question: itself, or of new kinds its template."""
    cluster_by = "template" if is_new_kind else None
    return [resampled_unit(example.id, example.tags, cluster_by) for example in examples]


def metric_values(rows: Sequence[Graded], metric: str) -> FloatArray:
    """Value of each question; NaN: ungraded."""
    return np.array(list(question_values(rows, metric).values()))


def estimates(comparisons: Sequence[ArmComparison], suffix: str = "") -> list[Estimate]:
    """Means of all arms; ``suffix`` is added to the metrics' names."""
    return [
        Estimate(mean.arm, of.held_out, of.metric + suffix, mean.interval)
        for of in comparisons
        for mean in of.compared.means
    ]


def differences(comparisons: Sequence[ArmComparison], suffix: str = "") -> list[Estimate]:
    """Paired differences of all pairs; ``suffix`` is added to the metrics' names."""
    return [
        Estimate(
            f"{d.left} - {d.right}", of.held_out, of.metric + suffix, d.interval, d.holm_p_value
        )
        for of in comparisons
        for d in of.compared.differences
    ]


def write_outcome(page: ReportPage, out: Path, file: str, summary: Mapping[str, Any]) -> Outcome:
    """Write the summary and the page into a folder."""
    write_json(out / file, summary)
    write_report(page, out / "report.html")
    # Of a study the columns at equal tokens alone: those of both axes are wider than a terminal.
    columns = tuple(row for row in page.estimates if row.metric in METRICS)
    table = estimates_table(replace(page, estimates=columns))
    return Outcome(summary, page.lead, table, out / "report.html")


def place(name: str) -> str:
    """Name of a set in a sentence."""
    return name.replace("_", " ")
