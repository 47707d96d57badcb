"""Arms on several sets: every metric and every kind of criterion, corrected for being many."""

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
    compare_columns,
    corrected,
    criterion_verdicts,
    resampled_unit,
)
from rcsd.evaluation.compare.unscored import (
    Bounds,
    Corrected,
    arm_bounds,
    corrected_columns,
    corrected_score,
)
from rcsd.evaluation.statistics import ErrorRates
from rcsd.types import Example


@dataclass(frozen=True)
class AnsweredSet:
    """A held-out set and what all arms answered.

    Args:
        name: Of the set.
        examples: Its questions.
        greedy: The greedy answers; empty where an arm has none.
        sampled: The samples; empty where an arm has none, or another number of them.
    """

    name: str
    examples: Sequence[Example]
    greedy: Arms
    sampled: Arms

    @property
    def num_samples(self) -> int:
        """Samples of each question."""
        rows = next((seeds[0] for seeds in self.sampled.values()), ())
        return len(rows) // len(self.examples)

    @property
    def metrics(self) -> list[str]:
        """Every metric that there is for it; ``pass@k`` last."""
        seeds = [rows for of_arm in self.greedy.values() for rows in of_arm]
        compares = bool(seeds) and all(row.option_nats for rows in seeds for row in rows)
        return metric_names(self.examples, bool(self.greedy), self.num_samples, compares)


def metric_names(
    examples: Sequence[Example], greedy: bool, num_samples: int, compares_options: bool = False
) -> list[str]:
    """The metrics of a set: scores where there are rubrics, accuracies where there are references.

    Args:
        examples: The set.
        greedy: Whether there are greedy answers.
        num_samples: Samples of each question: avg@k, and pass@k for powers of two up to that.
        compares_options: Whether the greedy answers are options compared by their likelihoods.
    """
    has_references = any(example.reference_answer is not None for example in examples)
    measures = ["score"] if any(example.rubric is not None for example in examples) else []
    measures += ["accuracy"] if has_references else []
    names = measures if greedy else []
    names = [*names, "accuracy_norm"] if compares_options else names
    if num_samples:
        names = names + [f"{measure}_avg@{num_samples}" for measure in measures]
    if has_references:
        names = names + [f"pass@{2**power}" for power in range(num_samples.bit_length())]
    return names


@dataclass(frozen=True, slots=True)
class MetricCompared:
    """A metric of a set.

    Args:
        set: Its name.
        metric: The metric's.
        compared: Over the questions that every arm has a value for.
        bounds: Of scores, where a verdict is missing: what it leaves open.
        corrected: Of scores, where the judge's error rates are known: freed of them.
    """

    set: str
    metric: str
    compared: ArmsCompared
    bounds: Bounds | None = None
    corrected: Corrected | None = None


@dataclass(frozen=True, slots=True)
class CriterionCompared:
    """Share met of a kind of criterion of a set; the arms' columns are its criteria."""

    set: str
    criterion: str
    violation: bool
    compared: ArmsCompared
    corrected: Corrected | None = None


@dataclass(frozen=True)
class SetsCompared:
    """All that is compared of several sets.

    Args:
        metrics: Sets x metrics; their differences are one family of Holm's correction.
        criteria: Sets x kinds of criteria; their differences are another.
        num_untitled: Set -> criteria without a title, which are of no kind and left out.
    """

    metrics: tuple[MetricCompared, ...]
    criteria: tuple[CriterionCompared, ...]
    num_untitled: Mapping[str, int]

    def json(self) -> dict[str, Any]:
        """Plain values, as ``rcsd compare`` documents them."""
        return {
            "metrics": [
                {
                    "set": row.set,
                    "metric": row.metric,
                    **_plain(row.compared),
                    "bounds": None if row.bounds is None else asdict(row.bounds),
                    "corrected": _plain_corrected(row.corrected),
                }
                for row in self.metrics
            ],
            "criteria": [
                {
                    "set": row.set,
                    "criterion": row.criterion,
                    "violation": row.violation,
                    **_plain(row.compared),
                    "corrected": _plain_corrected(row.corrected),
                }
                for row in self.criteria
            ],
            "num_untitled_criteria": dict(self.num_untitled),
        }


def _plain(compared: ArmsCompared) -> dict[str, Any]:
    plain = asdict(compared)
    for name in ("means", "differences"):
        rows = [{**row, **row["interval"]} for row in plain[name]]
        plain[name] = [{key: of for key, of in row.items() if key != "interval"} for row in rows]
    return plain


def _plain_corrected(corrected: Corrected | None) -> dict[str, Any] | None:
    if corrected is None:
        return None
    return {
        "num_compared": corrected.num_compared,
        "means": [{"arm": arm, **asdict(of)} for arm, of in corrected.means],
        "differences": [
            {"left": left, "right": right, **asdict(of)}
            for left, right, of in corrected.differences
        ],
    }


def compare_sets(
    sets: Sequence[AnsweredSet],
    pairs: Pairs,
    metrics: Sequence[str] = (),
    cluster_by: str | None = None,
    seed: int = 0,
    rates: ErrorRates | None = None,
) -> SetsCompared:
    """Every set by every metric and every kind of criterion, p-values corrected.

    Args:
        sets: What was answered.
        pairs: As in `compare_arms`.
        metrics: Names of `AnsweredSet.metrics`; none are all but ``pass@k``, whose k are many.
        cluster_by: As in `compare_arms`.
        seed: Of the resampling.
        rates: Of the judge whose verdicts they are, or None: not known, so nothing is corrected.

    Raises:
        DataError: If no set has a metric, a question lacks the tag, or the two arms of a pair have
            several seeds each, and not as many; or as
            `rcsd.evaluation.compare.unscored.corrected_score`.
    """
    there = list(dict.fromkeys(metric for answered in sets for metric in answered.metrics))
    for metric in metrics:
        if metric not in there:
            raise DataError(f"no set has the metric '{metric}'; there are {', '.join(there)}")
    for answered in sets:
        check_seeds(answered, pairs)
    asked = _Asked(pairs, cluster_by, seed, rates)
    by_metric = [
        asked.metric(answered, metric)
        for answered in sets
        for metric in answered.metrics
        if (metric in metrics if metrics else not metric.startswith("pass@"))
    ]
    by_criterion: list[CriterionCompared] = []
    num_untitled: dict[str, int] = {}
    for answered in sets:
        found, untitled = asked.criteria(answered)
        by_criterion += found
        if untitled:
            num_untitled[answered.name] = untitled
    return SetsCompared(corrected(by_metric), corrected(by_criterion), num_untitled)


@dataclass(frozen=True)
class _Asked:
    """What is asked of each set; fields as `compare_sets` takes them."""

    pairs: Pairs
    cluster_by: str | None
    seed: int
    rates: ErrorRates | None

    def metric(self, answered: AnsweredSet, metric: str) -> MetricCompared:
        arms = answered.sampled if "@" in metric else answered.greedy
        compared = compare_arms(arms, metric, self.pairs, self.cluster_by, self.seed)
        if not metric.startswith("score"):
            return MetricCompared(answered.name, metric, compared)
        bounds = arm_bounds(arms, metric, answered.examples, self.pairs)
        freed = None
        if self.rates is not None:
            units = self.units(answered)
            freed = corrected_score(
                arms, answered.examples, units, self.pairs, self.rates, self.seed
            )
        return MetricCompared(answered.name, metric, compared, bounds, freed)

    def criteria(self, answered: AnsweredSet) -> tuple[list[CriterionCompared], int]:
        """Kinds of criteria, and how many criteria are of none."""
        found: list[CriterionCompared] = []
        num_untitled, units = 0, self.units(answered)
        verdicts = criterion_verdicts(answered.greedy or answered.sampled, answered.examples)
        for (violation, title), kind in verdicts.items():
            if not title:
                num_untitled += len(kind.places)
                continue
            clusters = [units[place] for place in kind.places]
            compared = compare_columns(kind.values, clusters, self.pairs, self.seed)
            freed = None
            if self.rates is not None:
                ones = np.ones(len(clusters))
                freed = corrected_columns(
                    kind.values, ones, clusters, self.pairs, self.rates, self.seed
                )
            found.append(CriterionCompared(answered.name, title, violation, compared, freed))
        return found, num_untitled

    def units(self, answered: AnsweredSet) -> list[str]:
        """What each question is resampled with."""
        return [resampled_unit(e.id, e.tags, self.cluster_by) for e in answered.examples]


def check_seeds(answered: AnsweredSet, pairs: Pairs) -> None:
    """Refuse pairs of arms that have several seeds each, and not as many, with a DataError."""
    arms = answered.greedy or answered.sampled
    for left, right in pairs:
        num_left, num_right = len(arms[left]), len(arms[right])
        if num_left != num_right and 1 not in (num_left, num_right):
            raise DataError(
                f"'{left}' has {num_left} seeds and '{right}' {num_right}; give both as many, or "
                "one of them a single one"
            )
