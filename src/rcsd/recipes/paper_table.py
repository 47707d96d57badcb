"""The paper's table: benchmarks x arms, and their average, with intervals. No torch here.

Legend of axes: S seeds of an arm, N questions.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from rcsd.errors import DataError
from rcsd.evaluation.compare import (
    Arms,
    ArmsCompared,
    Pairs,
    compare_arms,
    corrected,
    question_values,
    resampled_unit,
)
from rcsd.evaluation.compare.sets import AnsweredSet, check_seeds
from rcsd.evaluation.compare.unscored import Bounds, arm_bounds
from rcsd.evaluation.statistics import FloatArray, Interval, Stratum, averages
from rcsd.recipes.published import BENCHMARKS, PUBLISHED, SCIENCE, SOURCE, TRANSFER, published_of


@dataclass(frozen=True, slots=True)
class BenchmarkCompared:
    """A row of the table.

    Args:
        set: The benchmark.
        metric: What the paper measures there; ``_avg@k`` where there are k samples.
        compared: The arms that answered it, over the questions that all of them have a value for.
        bounds: Where a value is missing: what it leaves open, over all questions.
    """

    set: str
    metric: str
    compared: ArmsCompared
    bounds: Bounds | None


@dataclass(frozen=True, slots=True)
class AverageMean:
    """An arm's average over benchmarks: interval, and deviation of its resamples."""

    arm: str
    num_seeds: int
    interval: Interval
    standard_error: float


@dataclass(frozen=True, slots=True)
class AverageDifference:
    """The paired difference of two arms' averages: left less right."""

    left: str
    right: str
    interval: Interval
    standard_error: float


@dataclass(frozen=True, slots=True)
class Average:
    """The average over science benchmarks that all arms have, each of the same weight.

    Args:
        benchmarks: Over which.
        means: One for each arm.
        differences: One for each pair.
    """

    benchmarks: tuple[str, ...]
    means: tuple[AverageMean, ...]
    differences: tuple[AverageDifference, ...]


@dataclass(frozen=True)
class PaperTable:
    """All of it.

    Args:
        arms: Names, in their order.
        rows: The benchmarks that any arm has, in the paper's order; p-values corrected over all.
        average: None where no benchmark is common to all arms.
        notes: What is left out, and what the published figures are over.
    """

    arms: tuple[str, ...]
    rows: tuple[BenchmarkCompared, ...]
    average: Average | None
    notes: tuple[str, ...]

    def json(self) -> dict[str, Any]:
        """Plain values; published ones apart from ours."""
        return {
            "arms": list(self.arms),
            "benchmarks": [asdict(row) for row in self.rows],
            "average": None if self.average is None else asdict(self.average),
            "published": {
                "source": SOURCE,
                "benchmarks": list(SCIENCE),
                "averages": [asdict(row) for row in PUBLISHED],
                "of_arms": {
                    arm: found.method
                    for arm in self.arms
                    if (found := published_of(arm)) is not None
                },
            },
            "notes": list(self.notes),
        }


def paper_table(
    arms: Sequence[str],
    sets: Mapping[str, AnsweredSet],
    against: str,
    cluster_by: str | None = None,
    seed: int = 0,
) -> PaperTable:
    """Every benchmark that any arm answered, and the average over those that all did.

    Questions with a value missing in any arm that answered the benchmark are left out of all, and
    counted; `BenchmarkCompared.bounds` is over all of them.

    Args:
        arms: Names of all arms.
        sets: Benchmark -> what the arms that have it answered.
        against: The arm that the others are compared with.
        cluster_by: As in `rcsd.evaluation.compare.compare_arms`.
        seed: Of the resampling.

    Raises:
        DataError: If none of the sets is a benchmark of the paper, or one cannot be compared.
    """
    rows: list[BenchmarkCompared] = []
    notes: list[str] = []
    strata: dict[str, Stratum] = {}
    for name, measure in BENCHMARKS.items():
        if name not in sets:
            continue
        answered = sets[name]
        metric, of_arms = _measured(answered, measure)
        if metric is None:
            notes.append(
                f"'{name}' is left out: not all arms have greedy answers, or as many samples, that "
                f"{measure} can be told of."
            )
            continue
        pairs = [(arm, against) for arm in of_arms if arm != against and against in of_arms]
        check_seeds(answered, pairs)
        compared = compare_arms(of_arms, metric, pairs, cluster_by, seed)
        bounds = arm_bounds(of_arms, metric, answered.examples, pairs)
        rows.append(BenchmarkCompared(name, metric, compared, bounds))
        lacking = [arm for arm in arms if arm not in of_arms]
        if name in TRANSFER:
            notes.append(f"{name} asks for transfer and is in no average.")
        elif lacking:
            notes.append(f"'{name}' is in no average: {', '.join(lacking)} did not answer it.")
        elif compared.num_compared:
            strata[name] = _stratum(answered, of_arms, metric, cluster_by)
    if not rows:
        raise DataError(
            f"none of the sets is a benchmark of the paper; there are "
            f"{', '.join(BENCHMARKS)}, and these have {', '.join(sets) or 'none'}"
        )
    pairs = [(arm, against) for arm in arms if arm != against]
    average = _average(arms, strata, pairs, seed) if strata else None
    notes.append(_said_of_average(average))
    return PaperTable(tuple(arms), corrected(rows), average, tuple(notes))


def _measured(answered: AnsweredSet, measure: str) -> tuple[str | None, Arms]:
    """The metric and the rows it is taken of: samples, where all arms have as many."""
    if answered.sampled:
        name, rows = f"{measure}_avg@{answered.num_samples}", answered.sampled
    else:
        name, rows = measure, answered.greedy
    return (name, rows) if rows and name in answered.metrics else (None, {})


def _stratum(answered: AnsweredSet, arms: Arms, metric: str, cluster_by: str | None) -> Stratum:
    """The columns that `compare_arms` compares."""
    values = [
        np.array([list(question_values(rows, metric).values()) for rows in seeds], dtype=np.float64)
        for seeds in arms.values()
    ]
    units = [resampled_unit(of.id, of.tags, cluster_by) for of in answered.examples]
    has_all = np.all([np.isfinite(of).all(axis=0) for of in values], axis=0)
    places = np.flatnonzero(has_all).tolist()
    kept: list[FloatArray] = [of[:, places] for of in values]
    return Stratum(kept, [units[place] for place in places])


def _average(
    arms: Sequence[str], strata: Mapping[str, Stratum], pairs: Pairs, seed: int
) -> Average:
    found = averages(list(strata.values()), seed)
    sizes = [len(of) for of in next(iter(strata.values())).values]
    place = {arm: n for n, arm in enumerate(arms)}
    means = [
        AverageMean(arm, sizes[n], found.interval(n), found.standard_error(n))
        for arm, n in place.items()
    ]
    differences = [
        AverageDifference(
            left,
            right,
            found.difference(place[left], place[right]),
            found.standard_error(place[left], place[right]),
        )
        for left, right in pairs
    ]
    return Average(tuple(strata), tuple(means), tuple(differences))


def _said_of_average(average: Average | None) -> str:
    """What our average and the published ones are over."""
    if average is None:
        return "No average: no science benchmark was answered by every arm."
    lacking = [name for name in SCIENCE if name not in average.benchmarks]
    over = f"Our average is over {', '.join(average.benchmarks)}."
    if lacking:
        over += (
            f" The published averages are over {len(SCIENCE)}, {', '.join(lacking)} too: the two "
            "cannot be compared."
        )
    return over
