"""Arms against each other on the same questions: means, paired differences, corrected p-values.

An arm is one or several training seeds of one way to train, or a model with no training seed.
Legend of axes: S seeds of an arm, N columns: questions, or criteria of questions.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol, TypeVar, cast, runtime_checkable

import numpy as np

from rcsd.errors import DataError
from rcsd.evaluation.statistics import (
    FloatArray,
    Interval,
    crossed_interval,
    holm,
    paired_crossed_difference,
    pass_at_k,
    permutation_p_value,
)
from rcsd.graders.grade import Graded
from rcsd.types import Example

Arms = Mapping[str, Sequence[Sequence[Graded]]]
"""Arm -> seeds -> rows, of the same questions in the same order; of a question one row, or one for
each of its samples."""

Pairs = Sequence[tuple[str, str]]
"""Arms whose difference, first minus second, is wanted."""


@dataclass(frozen=True, slots=True)
class ArmMean:
    """Mean of an arm, over its seeds and the questions.

    Args:
        arm: Its name.
        num_seeds: How many seeds it has.
        interval: Of `rcsd.evaluation.statistics.crossed_interval`.
    """

    arm: str
    num_seeds: int
    interval: Interval


@dataclass(frozen=True, slots=True)
class ArmDifference:
    """Paired difference of two arms.

    Args:
        left: Name of the one; above 0: it has more.
        right: Name of the other.
        interval: Of `rcsd.evaluation.statistics.paired_crossed_difference`: over seeds and
        questions.
        p_value: Of a permutation test over questions, all seeds of a question under one sign: it
            asks whether these trained models differ on other questions, not what other seeds give.
        holm_p_value: Corrected for all differences of its family, or None: not yet.
    """

    left: str
    right: str
    interval: Interval
    p_value: float
    holm_p_value: float | None = None


@dataclass(frozen=True, slots=True)
class ArmsCompared:
    """What arms have in one measure.

    Args:
        means: One for each arm; none where nothing is compared.
        differences: One for each pair.
        num_compared: Questions, or criteria, that every seed of every arm has a value for.
        num_left_out: The others, which are left out of all arms.
    """

    means: tuple[ArmMean, ...]
    differences: tuple[ArmDifference, ...]
    num_compared: int
    num_left_out: int


def compare_arms(
    arms: Arms, metric: str, pairs: Pairs = (), cluster_by: str | None = None, seed: int = 0
) -> ArmsCompared:
    """One metric of one set.

    Args:
        arms: What each seed of each arm answered.
        metric: As in `question_values`.
        pairs: Names of arms; they have equal numbers of seeds, or one of them has one.
        cluster_by: Tag whose values are resampled as a whole, such as ``template``; None resamples
            questions.
        seed: Of the resampling.

    Raises:
        ValueError: If arms differ in their questions, or in their numbers of seeds.
        DataError: If a question has no such tag.
    """
    by_question = {
        arm: [question_values(rows, metric) for rows in seeds] for arm, seeds in arms.items()
    }
    first = next(iter(by_question.values()))[0]
    for arm, found in by_question.items():
        if any(list(values) != list(first) for values in found):
            raise ValueError(f"arm {arm!r} has other questions, or another order")
    values = {
        arm: np.array([list(one.values()) for one in found], dtype=np.float64)
        for arm, found in by_question.items()
    }
    tags = {row.id: row.tags for row in next(iter(arms.values()))[0]}
    units = [resampled_unit(id, of, cluster_by) for id, of in tags.items()]
    return compare_columns(values, units, pairs, seed)


def question_values(rows: Sequence[Graded], metric: str) -> dict[str, float]:
    """One value for each question, in the rows' order; NaN where a completion could not be graded.

    Args:
        rows: One for each completion.
        metric: ``score`` or ``accuracy``, with ``_avg@k`` where a question has k samples, whose
            mean it is; ``pass@k``: the chance that one of k samples has the right answer; or
            ``accuracy_norm``: of the options that are likeliest for their length.
    """
    by_question: dict[str, list[float]] = {}
    for row in rows:
        if metric == "accuracy_norm":
            value = row.right_normalised
        else:
            value = row.score if metric.startswith("score") else row.right
        by_question.setdefault(row.id, []).append(math.nan if value is None else float(value))
    return {id: _reduced(values, metric) for id, values in by_question.items()}


def _reduced(values: Sequence[float], metric: str) -> float:
    mean = sum(values) / len(values)
    name, _, k = metric.partition("@")
    if name != "pass" or math.isnan(mean):
        return mean
    return float(pass_at_k(len(values), round(sum(values)), int(k)))


def resampled_unit(id: str, tags: Mapping[str, str], cluster_by: str | None) -> str:
    """What a question is resampled with: itself, or all questions with its value of a tag.

    Raises:
        DataError: If it has no such tag.
    """
    if cluster_by is None:
        return id
    if cluster_by not in tags:
        there = f"; it has {', '.join(sorted(tags))}" if tags else ""
        raise DataError(f"example {id!r} has no such tag{there}", field=f"tags.{cluster_by}")
    return tags[cluster_by]


def compare_columns(
    values: Mapping[str, FloatArray],
    units: Sequence[str],
    pairs: Pairs,
    seed: int,
    num_resamples: int = 10_000,
) -> ArmsCompared:
    """Means and differences over the columns that every seed of every arm has a value for.

    Args:
        values: Arm -> S x N; NaN: no value.
        units: For each column what it is resampled with.
        pairs: As in `compare_arms`.
        seed: Of the resampling.
        num_resamples: Of the test: no p-value is below 2 / (num_resamples + 1).

    Raises:
        ValueError: If the arms of a pair have several seeds each, and not as many.
    """
    has_all = np.all([np.isfinite(arm_SN).all(axis=0) for arm_SN in values.values()], axis=0)
    places = np.flatnonzero(has_all).tolist()
    num_left_out = len(units) - len(places)
    if not places:
        return ArmsCompared((), (), 0, num_left_out)
    kept = {arm: arm_SN[:, places] for arm, arm_SN in values.items()}
    clusters = [units[place] for place in places]
    differences = []
    for left, right in pairs:
        a, b = kept[left], kept[right]
        interval = paired_crossed_difference(a, b, seed, clusters)
        p_value = permutation_p_value(a.mean(axis=0), b.mean(axis=0), seed, clusters, num_resamples)
        differences.append(ArmDifference(left, right, interval, p_value))
    means = [
        ArmMean(arm, len(arm_SN), crossed_interval(arm_SN, seed, clusters))
        for arm, arm_SN in kept.items()
    ]
    return ArmsCompared(tuple(means), tuple(differences), len(places), num_left_out)


@runtime_checkable
class HoldsDifferences(Protocol):
    """A row of a table of comparisons, such as a metric of a set."""

    @property
    def compared(self) -> ArmsCompared:
        """What it compares."""
        ...


Row = TypeVar("Row", bound=HoldsDifferences)


def corrected(rows: Sequence[Row]) -> tuple[Row, ...]:
    """Rows, frozen dataclasses, with the p-values of all their differences as one family."""
    p_values = [difference.p_value for row in rows for difference in row.compared.differences]
    found = iter(holm(p_values).tolist() if p_values else ())
    return tuple(
        replace(
            cast("Any", row),
            compared=replace(
                row.compared,
                differences=tuple(
                    replace(difference, holm_p_value=next(found))
                    for difference in row.compared.differences
                ),
            ),
        )
        for row in rows
    )


@dataclass(frozen=True, slots=True)
class CriterionVerdicts:
    """The criteria of one kind, of all questions: how often each arm meets them.

    Args:
        values: Arm -> S x N shares of a question's completions that meet a criterion; NaN where a
            verdict is missing.
        places: The example of each column, by its place.
    """

    values: Mapping[str, FloatArray]
    places: Sequence[int]


def criterion_verdicts(
    arms: Arms, examples: Sequence[Example]
) -> dict[tuple[bool, str], CriterionVerdicts]:
    """The verdicts by kind of criterion: whether it is a violation, and its title; in that order.

    Args:
        arms: What each seed of each arm answered.
        examples: The questions, in the rows' order.
    """
    columns: dict[tuple[bool, str], list[tuple[int, int]]] = {}
    for place, example in enumerate(examples):
        criteria = example.rubric.criteria if example.rubric is not None else ()
        for index, criterion in enumerate(criteria):
            columns.setdefault((criterion.weight < 0, criterion.title), []).append((place, index))
    shares = {arm: [_met_shares(rows, examples) for rows in seeds] for arm, seeds in arms.items()}
    return {
        kind: CriterionVerdicts(
            {
                arm: np.array([[seed[place][index] for place, index in found] for seed in seeds])
                for arm, seeds in shares.items()
            },
            [place for place, _ in found],
        )
        for kind, found in sorted(columns.items())
    }


def _met_shares(rows: Sequence[Graded], examples: Sequence[Example]) -> list[FloatArray]:
    """For each example and criterion the share of completions that meet it."""
    by_question: dict[str, list[tuple[bool | None, ...]]] = {}
    # A judge who scores the whole gives no verdicts.
    none = {e.id: (None,) * len(e.rubric.criteria if e.rubric else ()) for e in examples}
    for row in rows:
        by_question.setdefault(row.id, []).append(row.verdicts or none[row.id])
    # A verdict of None becomes NaN, and so does the mean with it.
    return [np.array(by_question[e.id], dtype=np.float64).mean(axis=0) for e in examples]
