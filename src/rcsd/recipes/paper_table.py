"""The paper's table: benchmarks x arms, and their average, with intervals. Imports no torch.

The published figures are the averages of arXiv 2606.19327 ("Rethinking Reward Supervision", Gu et
al.) over its six science benchmarks, on Qwen3-8B. Figures of single benchmarks and intervals were
not at hand, and are not guessed. The abstract's "1.0 points over GRPO and 0.9 over OPSD" agrees
with these averages if its GRPO is the one with rubric reward.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, NamedTuple

from rcsd.errors import DataError
from rcsd.evaluation.arms import common_sets
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
from rcsd.evaluation.record import EvalRecord
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
    """Benchmarks x arms.

    Args:
        arms: Names, in their order.
        rows: The benchmarks that any arm has, in the paper's order; p-values adjusted over all.
        average: Average over `benchmarks`, each of the same weight; None without any.
        benchmarks: The science benchmarks that all arms have.
        notes: Sentences on what is left out, and on what the published figures are over.
    """

    arms: tuple[str, ...]
    rows: tuple[MetricCompared, ...]
    average: ArmsCompared | None
    benchmarks: tuple[str, ...]
    notes: tuple[str, ...]

    def json(self) -> dict[str, Any]:
        """Plain values; published ones apart from ours."""
        published = {arm: row.method for arm in self.arms if (row := published_row(arm))}
        average = self.average and {"benchmarks": list(self.benchmarks), **asdict(self.average)}
        return {
            "arms": list(self.arms),
            "benchmarks": [asdict(row) for row in self.rows],
            "average": average,
            "published": {
                "source": SOURCE,
                "averages": {row.method: row.average for row in PUBLISHED},
                "of_arms": published,
            },
            "notes": list(self.notes),
        }


def benchmark_sets(
    arms: Mapping[str, Sequence[EvalRecord]],
) -> tuple[dict[str, GradedSet], list[str]]:
    """For each set the answers of the arms that have it in all their folders; and notes.

    Raises:
        DataError: If the questions of a set differ among arms.
    """
    names = dict.fromkeys(name for records in arms.values() for one in records for name in one.sets)
    having = {
        name: tuple(arm for arm, records in arms.items() if all(name in of.sets for of in records))
        for name in names
    }
    sets: dict[str, GradedSet] = {}
    notes: list[str] = []
    for group in dict.fromkeys(of for of in having.values() if of):
        graded, sentences = common_sets({arm: arms[arm] for arm in group})
        sets |= {one.name: one for one in graded if having[one.name] == group}
        notes += [s for s in sentences if s not in notes and "is not compared" not in s]
    return sets, notes


def build_paper_table(
    arms: Sequence[str],
    sets: Mapping[str, GradedSet],
    against: str,
    cluster_by: str | None = None,
    seed: int = 0,
) -> PaperTable:
    """Every benchmark that any arm answered, and the average over those that all did.

    Questions with a value missing in any arm that answered the benchmark are left out of all, and
    counted; bounds are over all of them. Samples count before greedy answers.

    Args:
        arms: Names of all arms.
        sets: Benchmark -> answers of the arms that have it.
        against: The arm that the others are compared with.
        cluster_by: As in `rcsd.evaluation.compare.compare_arms`.
        seed: Random seed of the resampling.

    Raises:
        DataError: If none of the sets is a benchmark of the paper, or one cannot be compared.
    """
    rows: list[MetricCompared] = []
    notes: list[str] = []
    strata: dict[str, Stratum] = {}
    benchmarks = {**SCIENCE, **TRANSFER}
    for name, measure in benchmarks.items():
        if name not in sets:
            continue
        graded = sets[name]
        metric = f"{measure}_avg@{graded.num_samples}" if graded.sampled else measure
        if metric not in graded.metrics:
            notes.append(
                f"'{name}' is left out: not all arms have greedy answers, or as many samples, with "
                f"a value of {measure}."
            )
            continue
        answers = graded.sampled or graded.greedy
        pairs = [(arm, against) for arm in answers if arm != against and against in answers]
        rows.append(compare_metric(graded, metric, pairs, cluster_by, seed))
        lacking = [arm for arm in arms if arm not in answers]
        if name in TRANSFER:
            notes.append(f"{name} measures transfer and is in no average.")
        elif lacking:
            notes.append(f"'{name}' is in no average: {', '.join(lacking)} did not answer it.")
        elif rows[-1].compared.num_compared:
            values, units = common_columns(*metric_columns(answers, metric, cluster_by))
            strata[name] = Stratum([values[arm] for arm in arms], units)
    if not rows:
        raise DataError(
            f"none of the sets is a benchmark of the paper; there are "
            f"{', '.join(benchmarks)}, and these have {', '.join(sets) or 'none'}"
        )
    if not strata:
        notes.append("No average: no science benchmark was answered by every arm.")
    else:
        lacking = [name for name in SCIENCE if name not in strata]
        notes.append(f"Our average is over {', '.join(strata)}.")
        if lacking:
            notes[-1] += (
                f" The published averages are over {len(SCIENCE)}, {', '.join(lacking)} too: the "
                "two cannot be compared."
            )
    average = _average(arms, list(strata.values()), against, seed) if strata else None
    adjusted = adjust_p_values([row.compared for row in rows])
    rows = [replace(row, compared=compared) for row, compared in zip(rows, adjusted, strict=True)]
    return PaperTable(tuple(arms), tuple(rows), average, tuple(strata), tuple(notes))


def _average(
    arms: Sequence[str], strata: Sequence[Stratum], against: str, seed: int
) -> ArmsCompared:
    joint, base = averages(strata, seed), list(arms).index(against)
    means = [
        ArmMean(arm, len(strata[0].values[n]), joint.interval(n)) for n, arm in enumerate(arms)
    ]
    differences = [
        ArmDifference(arm, against, joint.interval(n, base), average_p_value(strata, n, base, seed))
        for n, arm in enumerate(arms)
        if n != base
    ]
    return ArmsCompared(tuple(means), tuple(differences), joint.n, 0)
