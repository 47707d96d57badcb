"""Arms compared on the same questions: means, paired differences, adjusted p-values.

An arm is one training method with one or several training seeds, or a model with no training seed.
Legend of axes: S seeds of an arm, N columns: questions, or criteria of questions.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any, TypeVar

import numpy as np

from rcsd.errors import DataError
from rcsd.evaluation.bounds import (
    UNGRADED_AS_WRONG,
    ArmBounds,
    Arms,
    Pairs,
    accuracies,
    arm_bounds,
    question_values,
)
from rcsd.evaluation.statistics import (
    NUM_RESAMPLES,
    FloatArray,
    Interval,
    bootstrap_interval,
    holm,
    paired_difference,
    permutation_p_value,
)
from rcsd.evaluation.text import interval_text
from rcsd.graders.grade import Graded
from rcsd.types import Example

MOVED = 0.01
"""Change of a difference above which it is reported."""


@dataclass(frozen=True, slots=True)
class ArmMean:
    """Mean of an arm over its seeds and the questions, by `bootstrap_interval`."""

    arm: str
    num_seeds: int
    interval: Interval


@dataclass(frozen=True, slots=True)
class ArmDifference:
    """Paired difference of two arms, left minus right, over seeds and questions.

    Its p-value (`permutation_p_value`) tests whether these trained models differ on other
    questions, not what other seeds give; `holm_p_value` is adjusted for its family.
    """

    left: str
    right: str
    interval: Interval
    p_value: float
    holm_p_value: float | None = None


@dataclass(frozen=True, slots=True)
class ArmsCompared:
    """Means and differences of arms in one metric; no means where nothing is compared.

    `num_compared` columns have a value in every seed of every arm; the other `num_left_out` are
    left out of all arms.
    """

    means: tuple[ArmMean, ...]
    differences: tuple[ArmDifference, ...]
    num_compared: int
    num_left_out: int


def compare_arms(
    arms: Arms,
    metric: str,
    pairs: Pairs = (),
    cluster_by: str | None = None,
    seed: int = 0,
    num_resamples: int = NUM_RESAMPLES,
) -> ArmsCompared:
    """Compare arms in one metric of one set.

    Args:
        arms: Rows of each seed of each arm.
        metric: As in `rcsd.evaluation.bounds.question_values`.
        pairs: Names of arms; they have equal numbers of seeds, or one of them has one.
        cluster_by: Tag whose questions are resampled together; None: single questions.
        seed: Seed of the resampling.
        num_resamples: No p-value is below 2 / (num_resamples + 1).

    Raises:
        ValueError: If arms differ in their questions.
        DataError: If a question lacks the tag, or both arms of a pair have several seeds, and not
            as many.
    """
    columns = metric_columns(arms, metric, cluster_by)
    return compare_columns(*columns, pairs, seed, num_resamples)


def metric_columns(
    arms: Arms, metric: str, cluster_by: str | None
) -> tuple[dict[str, FloatArray], list[str]]:
    """Values of each arm (S x N questions; NaN: not graded), and the cluster of each question."""
    tags = {row.id: row.tags for row in next(iter(arms.values()))[0]}
    values = {}
    for arm, seeds in arms.items():
        by_question = [question_values(rows, metric) for rows in seeds]
        if any(list(of_seed) != list(tags) for of_seed in by_question):
            raise ValueError(f"arm {arm!r} has other questions, or another order")
        values[arm] = np.array([list(of_seed.values()) for of_seed in by_question])
    return values, [resampled_unit(id, of_one, cluster_by) for id, of_one in tags.items()]


def resampled_unit(id: str, tags: Mapping[str, str], cluster_by: str | None) -> str:
    """Cluster that a question is resampled with: its id, or its value of a tag; it must have it."""
    if cluster_by is None:
        return id
    if cluster_by not in tags:
        there = f"; it has {', '.join(sorted(tags))}" if tags else ""
        raise DataError(f"example {id!r} has no such tag{there}", field=f"tags.{cluster_by}")
    return tags[cluster_by]


def common_columns(
    values: Mapping[str, FloatArray], units: Sequence[str]
) -> tuple[dict[str, FloatArray], list[str]]:
    """The columns, and their clusters, that every seed of every arm has a finite value for."""
    is_common = np.all([np.isfinite(arm_SN).all(axis=0) for arm_SN in values.values()], axis=0)
    places: list[int] = np.flatnonzero(is_common).tolist()
    return {arm: arm_SN[:, places] for arm, arm_SN in values.items()}, [units[n] for n in places]


def compare_columns(
    values: Mapping[str, FloatArray],
    units: Sequence[str],
    pairs: Pairs,
    seed: int = 0,
    num_resamples: int = NUM_RESAMPLES,
) -> ArmsCompared:
    """Means and differences over the columns that every seed of every arm has a value for.

    ``values`` are S x N by arm, NaN: no value; ``units`` are the clusters of the columns. The
    rest as in `compare_arms`.
    """
    for left, right in pairs:
        num_left, num_right = len(values[left]), len(values[right])
        if num_left != num_right and 1 not in (num_left, num_right):
            raise DataError(
                f"'{left}' has {num_left} seeds and '{right}' {num_right}; give both as many, or "
                "one of them a single one"
            )
    common, clusters = common_columns(values, units)
    num_left_out = len(units) - len(clusters)
    if not clusters:
        return ArmsCompared((), (), 0, num_left_out)
    differences = []
    for left, right in pairs:
        a, b = common[left], common[right]
        interval = paired_difference(a, b, seed, clusters)
        p_value = permutation_p_value(a, b, seed, clusters, num_resamples)
        differences.append(ArmDifference(left, right, interval, p_value))
    means = [
        ArmMean(arm, len(arm_SN), bootstrap_interval(arm_SN, clusters, seed))
        for arm, arm_SN in common.items()
    ]
    return ArmsCompared(tuple(means), tuple(differences), len(clusters), num_left_out)


Row = TypeVar("Row", bound="MetricCompared | CriterionCompared")


def adjust_p_values(rows: Sequence[Row]) -> list[Row]:
    """The rows with Holm's p-values; the differences of all of them are one family."""
    every = [difference.p_value for row in rows for difference in row.compared.differences]
    adjusted, changed = iter(holm(every).tolist()), list[Row]()
    for row in rows:
        of = [replace(each, holm_p_value=next(adjusted)) for each in row.compared.differences]
        changed.append(replace(row, compared=replace(row.compared, differences=tuple(of))))
    return changed


@dataclass(frozen=True, slots=True)
class CriterionVerdicts:
    """Criteria of one kind, the columns, of all questions.

    `values` are, arm -> S x N, the shares of a question's completions that meet a criterion; NaN
    where a verdict is missing. `places` are the indices of the columns' examples.
    """

    values: Mapping[str, FloatArray]
    places: Sequence[int]


def criterion_verdicts(
    arms: Arms, examples: Sequence[Example]
) -> dict[tuple[bool, str], CriterionVerdicts]:
    """Verdicts by kind of criterion: (is a violation, title), sorted."""
    columns: dict[tuple[bool, str], list[tuple[int, int]]] = {}
    for place, example in enumerate(examples):
        criteria = example.rubric.criteria if example.rubric is not None else ()
        for index, criterion in enumerate(criteria):
            columns.setdefault((criterion.weight < 0, criterion.title), []).append((place, index))
    shares = {arm: [_met_shares(rows, examples) for rows in seeds] for arm, seeds in arms.items()}
    return {
        kind: CriterionVerdicts(
            {
                arm: np.array([[seed[place][index] for place, index in where] for seed in seeds])
                for arm, seeds in shares.items()
            },
            [place for place, _ in where],
        )
        for kind, where in sorted(columns.items())
    }


def _met_shares(rows: Sequence[Graded], examples: Sequence[Example]) -> list[FloatArray]:
    """Share of completions that meet each criterion of each example."""
    by_question: dict[str, list[tuple[bool | None, ...]]] = {}
    # A judge that scores the answer as one gives no verdicts.
    none = {e.id: (None,) * len(e.rubric.criteria if e.rubric else ()) for e in examples}
    for row in rows:
        by_question.setdefault(row.id, []).append(row.verdicts or none[row.id])
    # A verdict of None becomes NaN, and so does the mean with it.
    return [np.array(by_question[e.id], dtype=np.float64).mean(axis=0) for e in examples]


@dataclass(frozen=True)
class GradedSet:
    """A held-out set with the graded answers of all arms.

    `greedy` is empty where an arm has none, `sampled` also where numbers of samples differ.
    """

    name: str
    examples: Sequence[Example]
    greedy: Arms
    sampled: Arms

    @property
    def num_samples(self) -> int:
        """Number of samples of each question."""
        rows = next((seeds[0] for seeds in self.sampled.values()), ())
        return len(rows) // len(self.examples)

    @property
    def metrics(self) -> list[str]:
        """All metrics of the set; ``pass@k`` last."""
        return metric_names(self.examples, bool(self.greedy), self.num_samples)


def metric_names(examples: Sequence[Example], greedy: bool, num_samples: int) -> list[str]:
    """Metrics of a set: scores where there are rubrics, accuracies where there are references.

    With samples also avg@k, and pass@k for powers of two up to their number.
    """
    has_references = any(example.reference_answer is not None for example in examples)
    measures = ["score"] if any(example.rubric is not None for example in examples) else []
    measures += ["accuracy"] if has_references else []
    names = measures if greedy else []
    if num_samples:
        names = names + [f"{measure}_avg@{num_samples}" for measure in measures]
    if has_references:
        names = names + [f"pass@{2**power}" for power in range(num_samples.bit_length())]
    return names


@dataclass(frozen=True, slots=True)
class MetricCompared:
    """A metric of a set; where values are missing, with bounds over all questions.

    ``by_rule`` is an accuracy by the other rules of `rcsd.evaluation.bounds.accuracies`; their
    p-values are not adjusted.
    """

    set: str
    metric: str
    compared: ArmsCompared
    bounds: tuple[ArmBounds, ...] = ()
    by_rule: Mapping[str, ArmsCompared] = field(default_factory=dict)

    def rows(self, has_units: bool = True) -> dict[str, ArmsCompared]:
        """The comparison and those by other rules, by name; those for units only if asked for.

        Where no answer is ungraded, the accuracy with ungraded ones as wrong is the same, and left
        out.
        """
        rows = {self.metric: self.compared}
        for rule, of in self.by_rule.items():
            counts_more = of.num_compared > self.compared.num_compared
            if counts_more if rule == UNGRADED_AS_WRONG else has_units:
                rows[f"{self.metric} ({rule})"] = of
        return rows


@dataclass(frozen=True, slots=True)
class CriterionCompared:
    """Share met of a kind of criterion of a set; the columns are its criteria."""

    set: str
    criterion: str
    violation: bool
    compared: ArmsCompared


@dataclass(frozen=True)
class SetsCompared:
    """Comparison of sets by metrics, one family of Holm's adjustment, and by criteria, another.

    `num_untitled` criteria of each set have no title and are left out.
    """

    metrics: tuple[MetricCompared, ...]
    criteria: tuple[CriterionCompared, ...]
    num_untitled: Mapping[str, int]

    def json(self) -> dict[str, Any]:
        """Plain values, as ``rcsd compare`` documents them."""
        return {
            "metrics": [_flat(row) for row in self.metrics],
            "criteria": [_flat(row) for row in self.criteria],
            "num_untitled_criteria": dict(self.num_untitled),
        }


def _flat(row: MetricCompared | CriterionCompared) -> dict[str, Any]:
    """Plain values, with intervals and comparison one level up."""
    plain = asdict(row)
    plain |= plain.pop("compared")
    for compared in (plain, *plain.get("by_rule", {}).values()):
        for name in ("means", "differences"):
            compared[name] = [of | of.pop("interval") for of in compared[name]]
    return plain


def compare_sets(
    sets: Sequence[GradedSet],
    pairs: Pairs,
    metrics: Sequence[str] = (),
    cluster_by: str | None = None,
) -> SetsCompared:
    """Compare every set by every metric and every kind of criterion, as `compare_arms`.

    ``metrics`` are names of `GradedSet.metrics`; empty: all but ``pass@k``, whose k are many.

    Raises:
        DataError: As `compare_arms`, or if no set has a metric.
    """
    there = list(dict.fromkeys(metric for graded in sets for metric in graded.metrics))
    for metric in metrics:
        if metric not in there:
            raise DataError(f"no set has the metric '{metric}'; there are {', '.join(there)}")
    by_metric, by_criterion = list[MetricCompared](), list[CriterionCompared]()
    num_untitled: dict[str, int] = {}
    for graded in sets:
        by_metric += [
            compare_metric(graded, metric, pairs, cluster_by)
            for metric in graded.metrics
            if (metric in metrics if metrics else not metric.startswith("pass@"))
        ]
        units = [resampled_unit(e.id, e.tags, cluster_by) for e in graded.examples]
        verdicts = criterion_verdicts(graded.greedy or graded.sampled, graded.examples)
        for (violation, title), kind in verdicts.items():
            if not title:
                num_untitled[graded.name] = num_untitled.get(graded.name, 0) + len(kind.places)
                continue
            clusters = [units[place] for place in kind.places]
            compared = compare_columns(kind.values, clusters, pairs)
            by_criterion.append(CriterionCompared(graded.name, title, violation, compared))
    adjusted = tuple(adjust_p_values(by_metric)), tuple(adjust_p_values(by_criterion))
    return SetsCompared(*adjusted, num_untitled)


def compare_metric(
    graded: GradedSet,
    metric: str,
    pairs: Pairs,
    cluster_by: str | None,
    seed: int = 0,
    num_resamples: int = NUM_RESAMPLES,
) -> MetricCompared:
    """Compare the arms of one set in one of its metrics, as `compare_arms`, with bounds."""
    arms = graded.sampled if "@" in metric else graded.greedy
    compared = compare_arms(arms, metric, pairs, cluster_by, seed, num_resamples)
    by_rule = {
        rule: compare_arms(rows, metric, pairs, cluster_by, seed, num_resamples)
        for rule, rows in accuracies(arms, metric, graded.examples).items()
    }
    bounds = arm_bounds(arms, metric, graded.examples)
    return MetricCompared(graded.name, metric, compared, bounds, by_rule)


def describe_ungraded(
    row: MetricCompared, unit: float = 1, digits: str = ".3f", moved: float = MOVED
) -> Iterator[str]:
    """Sentences on differences that leaving ungraded answers out moves, in shares or in points.

    A difference is moved if its sign changes, or its interval holds 0 in one case alone, or it
    changes by more than ``moved``.
    """
    counted = row.by_rule.get(UNGRADED_AS_WRONG)
    number = {bounds.arm: bounds.num_unscored for bounds in row.bounds}
    pairs = zip(row.compared.differences, counted.differences if counted else (), strict=False)
    for out, wrong in pairs:
        ends = [(np.sign(i.mean), i.low > 0, i.high < 0) for i in (out.interval, wrong.interval)]
        if ends[0] == ends[1] and abs(out.interval.mean - wrong.interval.mean) <= moved:
            continue
        before, after = (
            interval_text(i.scaled(unit), f"+{digits}") for i in (wrong.interval, out.interval)
        )
        more, fewer = sorted((out.left, out.right), key=lambda arm: -number.get(arm, 0))
        counts = number.get(more, 0), number.get(fewer, 0)
        whose = f"{more} has more of them, {counts[0]}, and {fewer} {counts[1]}"
        if counts[0] == counts[1]:
            whose = f"both have {counts[0]} of them, other arms the rest"
        yield (
            f"{row.set}, {row.metric}: leaving ungraded answers out moves {out.left} - {out.right} "
            f"from {before}, where they are wrong, to {after}; {whose}."
        )
