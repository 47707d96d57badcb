"""The paper's table: benchmarks x arms, and their average, with intervals. Imports no torch.

The published figures are the averages of arXiv 2606.19327 ("Rethinking Reward Supervision", Gu et
al.) over its six science benchmarks, on Qwen3-8B. The abstract's "1.0 points over GRPO and 0.9 over
OPSD" agrees with them if its GRPO is the one with rubric reward.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, NamedTuple

from rcsd.errors import DataError
from rcsd.evaluation.compare import (
    ArmDifference,
    ArmMean,
    ArmsCompared,
    GradedSet,
    MetricCompared,
    adjust_p_values,
    common_columns,
    compare_metric,
    metric_columns,
)
from rcsd.evaluation.statistics import Stratum, average_p_value, averages

SOURCE = "arXiv 2606.19327, Qwen3-8B"


class Published(NamedTuple):
    """Average of a method of the paper in [0, 1], and the names of arms it is compared with."""

    method: str
    average: float
    names: tuple[str, ...]


PUBLISHED = (
    Published("base", 0.659, ("base",)),
    Published("SFT", 0.654, ("sft",)),
    Published("GRPO", 0.692, ("grpo",)),
    Published("GRPO, rubric reward", 0.696, ("grpo-rubrics", "grpo-rubric")),
    Published("OPSD", 0.697, ("opsd",)),
    Published("RCSD", 0.706, ("rcsd", "rcsd-paper")),
    Published("RCSD, random rubrics (placebo)", 0.700, ("random", "rcsd-random")),
    Published("RCSD, a generic rubric (placebo)", 0.699, ("generic", "rcsd-generic")),
)

SCIENCE: Mapping[str, str] = {
    "gpqa-diamond": "accuracy",
    "scibench": "accuracy",
    "piqa": "accuracy",
    "rar-science": "score",
    "researchqa": "score",
    "rubrichub-science": "score",
}
"""Benchmarks of the published averages -> metric."""

TRANSFER: Mapping[str, str] = {"medmcqa": "accuracy", "pubmedqa": "accuracy"}
"""Benchmarks of transfer to other fields -> metric; in no average."""


def published_row(arm: str) -> Published | None:
    """Published figure for an arm of that name, or None."""
    name = arm.lower().replace("_", "-").replace(" ", "-")
    return next((row for row in PUBLISHED if name in row.names), None)


@dataclass(frozen=True)
class PaperTable:
    """Benchmarks x arms, in the paper's order; p-values are adjusted over all benchmarks.

    The average is over the science benchmarks `averaged`, each of the same weight; None: none.
    """

    arms: tuple[str, ...]
    benchmarks: tuple[MetricCompared, ...]
    average: ArmsCompared | None
    averaged: tuple[str, ...]
    notes: tuple[str, ...]

    def json(self) -> dict[str, Any]:
        """Plain values; published ones apart from ours."""
        of_arms = {arm: row.method for arm in self.arms if (row := published_row(arm))}
        averages = {row.method: row.average for row in PUBLISHED}
        published = {"source": SOURCE, "averages": averages, "of_arms": of_arms}
        return {**asdict(self), "published": published}


def build_paper_table(
    arms: Sequence[str], sets: Sequence[GradedSet], against: str, cluster_by: str | None = None
) -> PaperTable:
    """Every benchmark of the paper among the sets that all arms answered, and the average.

    Questions with a value missing in any arm are left out of all, and counted; bounds are over all
    of them. Samples count before greedy answers.

    Args:
        arms: Names of the arms.
        sets: Their answers, as `rcsd.evaluation.arms.common_sets`.
        against: The arm that the others are compared with.
        cluster_by: As in `rcsd.evaluation.compare.compare_arms`.

    Raises:
        DataError: If none of the sets is a benchmark of the paper.
    """
    rows: list[MetricCompared] = []
    notes: list[str] = []
    strata: dict[str, Stratum] = {}
    by_name, benchmarks = {of.name: of for of in sets}, {**SCIENCE, **TRANSFER}
    pairs = [(arm, against) for arm in arms if arm != against]
    for name in (name for name in benchmarks if name in by_name):
        graded, measure = by_name[name], benchmarks[name]
        metric = f"{measure}_avg@{graded.num_samples}" if graded.sampled else measure
        if metric not in graded.metrics:
            notes.append(
                f"'{name}' is left out: not all arms have greedy answers, or as many samples, with "
                f"a value of {measure}."
            )
            continue
        rows.append(compare_metric(graded, metric, pairs, cluster_by))
        if name in TRANSFER:
            notes.append(f"{name} measures transfer and is in no average.")
        elif rows[-1].compared.num_compared:
            answers = graded.sampled or graded.greedy
            values, units = common_columns(*metric_columns(answers, metric, cluster_by))
            strata[name] = Stratum([values[arm] for arm in arms], units)
    if not rows:
        raise DataError(
            f"none of the sets is a benchmark of the paper; there are "
            f"{', '.join(benchmarks)}, and these have {', '.join(by_name) or 'none'}"
        )
    if not strata:
        notes.append("No average: no science benchmark was answered by every arm.")
    else:
        notes.append(f"Our average is over {', '.join(strata)}.")
        if lacking := [name for name in SCIENCE if name not in strata]:
            notes[-1] += (
                f" The published averages are over {len(SCIENCE)}, {', '.join(lacking)} too: the "
                "two cannot be compared."
            )
    average = _average(arms, list(strata.values()), against) if strata else None
    rows = adjust_p_values(rows)
    return PaperTable(tuple(arms), tuple(rows), average, tuple(strata), tuple(notes))


def _average(arms: Sequence[str], strata: Sequence[Stratum], against: str) -> ArmsCompared:
    joint, base = averages(strata), list(arms).index(against)
    means = [
        ArmMean(arm, len(strata[0].values[n]), joint.interval(n)) for n, arm in enumerate(arms)
    ]
    differences = [
        ArmDifference(arm, against, joint.interval(n, base), average_p_value(strata, n, base))
        for n, arm in enumerate(arms)
        if n != base
    ]
    return ArmsCompared(tuple(means), tuple(differences), joint.n, 0)
