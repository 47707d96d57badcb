"""What missing and wrong verdicts do to scores: bounds of missing ones, correction for wrong ones.

Legend of axes: S seeds of an arm, N questions.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from rcsd.errors import DataError
from rcsd.evaluation.compare import Arms, Pairs, question_values
from rcsd.evaluation.statistics import ErrorRates, FloatArray, Interval, without_judge_errors
from rcsd.graders.grade import Graded
from rcsd.types import Example, Rubric


@dataclass(frozen=True, slots=True)
class ArmBounds:
    """Between what an arm's mean lies, whatever the missing verdicts are.

    Args:
        arm: Its name.
        low: Every missing verdict costs it.
        high: Every missing verdict serves it.
        num_unscored: Its completions whose value is open.
    """

    arm: str
    low: float
    high: float
    num_unscored: int


@dataclass(frozen=True, slots=True)
class DifferenceBounds:
    """Between what the difference of two arms lies, whatever the missing verdicts are."""

    left: str
    right: str
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class Bounds:
    """Bounds of one metric of one set, over all its questions: none is left out.

    Args:
        means: One for each arm.
        differences: One for each pair.
        num_questions: How many they are over.
    """

    means: tuple[ArmBounds, ...]
    differences: tuple[DifferenceBounds, ...]
    num_questions: int


def arm_bounds(
    arms: Arms, metric: str, examples: Sequence[Example], pairs: Pairs = ()
) -> Bounds | None:
    """Bounds of the means and of the differences; None where every completion has its value.

    The lowest difference takes all that is missing of the left arm for unmet and all of the right
    arm's for met. Of accuracy an ungraded answer may be right or wrong.

    Args:
        arms: What each seed of each arm answered.
        metric: As in `rcsd.evaluation.compare.question_values`.
        examples: The questions; those without rubric have no score, those without reference no
            accuracy.
        pairs: As in `rcsd.evaluation.compare.compare_arms`.
    """
    is_score = metric.startswith("score")
    asked = {
        example.id
        for example in examples
        if (example.rubric if is_score else example.reference_answer) is not None
    }
    means = []
    for arm, seeds in arms.items():
        answered = [[row for row in rows if row.id in asked] for rows in seeds]
        if not all(answered):
            return None
        low, high = (
            float(np.mean([_mean(rows, metric, end) for rows in answered])) for end in (0, 1)
        )
        ends = [_ends(row, is_score) for rows in answered for row in rows]
        means.append(ArmBounds(arm, low, high, sum(a != b for a, b in ends)))
    if not any(of.num_unscored for of in means):
        return None
    by_arm = {of.arm: of for of in means}
    differences = tuple(
        DifferenceBounds(
            left,
            right,
            by_arm[left].low - by_arm[right].high,
            by_arm[left].high - by_arm[right].low,
        )
        for left, right in pairs
    )
    return Bounds(tuple(means), differences, len(asked))


def _mean(rows: Sequence[Graded], metric: str, end: int) -> float:
    """Over questions, with the lowest (0) or highest (1) value that each completion may have."""
    if metric.startswith("score"):
        filled = [replace(row, score=_ends(row, True)[end]) for row in rows]
    else:
        filled = [replace(row, right=bool(_ends(row, False)[end])) for row in rows]
    return float(np.mean(list(question_values(filled, metric).values())))


def _ends(row: Graded, is_score: bool) -> tuple[float, float]:
    value = row.score if is_score else row.right
    if value is not None and not math.isnan(value):
        return float(value), float(value)
    return row.bounds if is_score and row.bounds is not None else (0.0, 1.0)


@dataclass(frozen=True, slots=True)
class Corrected:
    """Means and differences freed of the judge's errors.

    Args:
        means: Arm and interval; may leave [0, 1].
        differences: Left, right and interval.
        num_compared: Questions, or criteria, whose every verdict is there in every seed of every
            arm; the others are left out.
    """

    means: tuple[tuple[str, Interval], ...]
    differences: tuple[tuple[str, str, Interval], ...]
    num_compared: int


def corrected_score(
    arms: Arms,
    examples: Sequence[Example],
    units: Sequence[str],
    pairs: Pairs,
    rates: ErrorRates,
    seed: int = 0,
) -> Corrected | None:
    """The mean score of each arm, as a judge without errors would give it.

    Points are added before they are cut off at 0 and 1: what is lost below 0 by violations counts
    here, since only sums of verdicts can be freed of their errors. Where no criterion is a
    violation that is the score itself.

    Args:
        arms: What each seed of each arm answered.
        examples: The questions, in the rows' order; those without a rubric are left out.
        units: For each example what it is resampled with.
        pairs: As in `rcsd.evaluation.compare.compare_arms`.
        rates: Of the judge whose verdicts they are.
        seed: Of the resampling.

    Returns:
        None if no question has all its verdicts.

    Raises:
        DataError: If an answer was scored as a whole, so that there are no verdicts; or the rates
            are known so badly that nothing can be corrected.
    """
    places = [place for place, example in enumerate(examples) if example.rubric is not None]
    values = {
        arm: np.array([_points(rows, examples) for rows in seeds])[:, places]
        for arm, seeds in arms.items()
    }
    offsets_N = np.array([_all_points(rubric) for e in examples if (rubric := e.rubric)])
    return corrected_columns(values, offsets_N, [units[n] for n in places], pairs, rates, seed)


def corrected_columns(
    values: Mapping[str, FloatArray],
    offsets_N: FloatArray,
    units: Sequence[str],
    pairs: Pairs,
    rates: ErrorRates,
    seed: int = 0,
) -> Corrected | None:
    """The same of columns that every seed of every arm has a value for.

    Args:
        values: Arm -> S x N observed points; NaN: a verdict is missing.
        offsets_N: Of each column all points that it has
        (`rcsd.evaluation.statistics.without_judge_errors`).
        units: For each column what it is resampled with.
        pairs: As in `rcsd.evaluation.compare.compare_arms`.
        rates: Of the judge.
        seed: Of the resampling.

    Raises:
        DataError: If the rates are known too badly.
    """
    has_all = np.all([np.isfinite(arm_SN).all(axis=0) for arm_SN in values.values()], axis=0)
    places = np.flatnonzero(has_all).tolist()
    if not places:
        return None
    kept, clusters = [of[:, places] for of in values.values()], [units[n] for n in places]
    try:
        found = without_judge_errors(kept, offsets_N[places], rates, clusters, seed)
    except ValueError as error:
        raise DataError(str(error), field="--judge-noise") from error
    place = {arm: n for n, arm in enumerate(values)}
    return Corrected(
        tuple((arm, found.interval(n)) for arm, n in place.items()),
        tuple((a, b, found.difference(place[a], place[b])) for a, b in pairs),
        len(places),
    )


def _points(rows: Sequence[Graded], examples: Sequence[Example]) -> list[float]:
    """For each example the points of its met criteria over the positive ones, mean of its rows."""
    by_question: dict[str, list[Graded]] = {}
    for row in rows:
        by_question.setdefault(row.id, []).append(row)
    return [
        float(np.mean([_met_points(row, example.rubric) for row in by_question[example.id]]))
        for example in examples
    ]


def _met_points(row: Graded, rubric: Rubric | None) -> float:
    if rubric is None:
        return np.nan
    if len(row.verdicts) != len(rubric.criteria):
        raise DataError(
            f"the answer to {row.id!r} was scored as a whole, and rates of verdicts say nothing "
            "of that; leave --judge-noise out",
            field="--judge-noise",
        )
    met = np.array(row.verdicts, dtype=np.float64)  # None becomes NaN, and so does the sum
    return float(met @ _weights(rubric)) / _positive(rubric)


def _all_points(rubric: Rubric) -> float:
    return float(_weights(rubric).sum()) / _positive(rubric)


def _weights(rubric: Rubric) -> FloatArray:
    return np.array([criterion.weight for criterion in rubric.criteria], dtype=np.float64)


def _positive(rubric: Rubric) -> float:
    return float(_weights(rubric).clip(min=0).sum())
