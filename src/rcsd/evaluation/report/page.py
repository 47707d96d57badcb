"""What a report shows, as frozen rows. Every section is optional; an empty one is left out."""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from rcsd.evaluation.statistics import Interval


@dataclass(frozen=True, slots=True)
class Arm:
    """One contender of a comparison: a trained policy, the base, the teacher, a placebo.

    Args:
        name: Short and unique; rows refer to it.
        description: One line on what it is.
        highlight: Drawn in the accent colour: what the report is about.
    """

    name: str
    description: str = ""
    highlight: bool = False


@dataclass(frozen=True, slots=True)
class Estimate:
    """A metric of an arm on a split.

    Args:
        arm: Name of the arm.
        split: Such as ``new_numbers``; underscores are shown as spaces.
        metric: Such as ``score``; each metric has its own panel.
        interval: Mean and interval.
    """

    arm: str
    split: str
    metric: str
    interval: Interval


@dataclass(frozen=True, slots=True)
class Difference:
    """A paired difference between two arms.

    Args:
        label: Such as ``rcsd - base``; positive means the first is larger.
        split: The questions of the pairs.
        metric: What is compared.
        interval: Of the mean difference.
        p_value: Of a paired test, corrected for the number of comparisons, in (0, 1], or None.
    """

    label: str
    split: str
    metric: str
    interval: Interval
    p_value: float | None = None


@dataclass(frozen=True, slots=True)
class HeadroomRow:
    """Score before any training under one view, such as the teacher's."""

    label: str
    interval: Interval


@dataclass(frozen=True, slots=True)
class Curve:
    """One line of one panel.

    Args:
        arm: Name of the arm that was trained.
        metric: Names the panel.
        unit: Such as ``nats per token``, or empty.
        steps: The x axis, ascending.
        values: As many; those that are not finite are left out, counted, and break the line.
        x: What the x axis counts.
    """

    arm: str
    metric: str
    unit: str
    steps: tuple[float, ...]
    values: tuple[float, ...]
    x: str = "step"

    def __post_init__(self) -> None:
        """Refuse a line whose axes differ in length."""
        if len(self.steps) != len(self.values):
            raise ValueError(
                f"curve {self.metric!r} of {self.arm!r} has {len(self.steps)} steps "
                f"and {len(self.values)} values"
            )


@dataclass(frozen=True, slots=True)
class Relation:
    """Two numbers of each arm: does the one tell the other?

    Args:
        title: Names the panel.
        x_label: What is on the x axis.
        y_label: What is on the y axis.
        points: Name of an arm, its x and its y, both finite.
        note: Such as a correlation.
    """

    title: str
    x_label: str
    y_label: str
    points: tuple[tuple[str, float, float], ...]
    note: str = ""

    def __post_init__(self) -> None:
        """Refuse what has no place on the axes."""
        for arm, *place in self.points:
            if not all(map(math.isfinite, place)):
                raise ValueError(f"{arm!r} in {self.title!r} has no place: {place}")


@dataclass(frozen=True, slots=True)
class CriterionShares:
    """How often one kind of criterion is met.

    Args:
        kind: Such as ``states the formula``.
        shares: Arm name -> share of its verdicts that say met, in [0, 1].
        violation: A criterion of negative weight: met means points lost, so lower is better.
        num_verdicts: Verdicts behind each share, or None.
    """

    kind: str
    shares: Mapping[str, float]
    violation: bool = False
    num_verdicts: int | None = None

    def __post_init__(self) -> None:
        """Refuse what is not a share (NaN among it: leave the arm out instead)."""
        for arm, share in self.shares.items():
            if not 0 <= share <= 1:
                raise ValueError(
                    f"share of {self.kind!r} in {arm!r} must be in [0, 1], not {share}"
                )


@dataclass(frozen=True, slots=True)
class SampleCriterion:
    """A criterion of a shown sample; weight below 0: a violation."""

    text: str
    weight: float


@dataclass(frozen=True, slots=True)
class SampleAnswer:
    """What one arm answered.

    Args:
        arm: Name of the arm.
        text: The completion, shown as it is: escaped, control characters made visible.
        verdicts: Whether each criterion is met, in order; None: unscored.
        score: In [0, 1], or None: unscored.
        answer_right: Whether the final answer is right, or None where that is not known.
    """

    arm: str
    text: str
    verdicts: tuple[bool | None, ...] = ()
    score: float | None = None
    answer_right: bool | None = None


@dataclass(frozen=True, slots=True)
class Sample:
    """A question with its rubric and the arms' answers, side by side."""

    question: str
    answers: tuple[SampleAnswer, ...]
    criteria: tuple[SampleCriterion, ...] = ()
    reference_answer: str | None = None

    def __post_init__(self) -> None:
        """Refuse verdicts that cannot be matched with the criteria."""
        for answer in self.answers:
            if answer.verdicts and len(answer.verdicts) != len(self.criteria):
                raise ValueError(
                    f"{answer.arm!r} has {len(answer.verdicts)} verdicts "
                    f"on {len(self.criteria)} criteria"
                )


@dataclass(frozen=True, slots=True)
class ReportPage:
    """Everything that one report shows.

    Args:
        title: The headline.
        subtitle: One line, such as model, seed and seconds.
        lead: Findings in plain sentences, most important first.
        arms: In the order of tables and legends; arms that only rows name come after them.
        estimates: Arms x splits x metrics, each triple once.
        differences: Paired differences.
        rubrics: Written rubrics against gold: writers x sets x metrics, each triple once.
        headroom: The probe before training.
        curves: Training metrics.
        relations: Two numbers of each arm, one panel each.
        criteria: Share met by criterion kind.
        samples: Answers side by side.
        facts: The run: resolved config values, versions, seeds, seconds, dropped counts.
        interval_note: What the intervals are, for captions.
    """

    title: str
    subtitle: str = ""
    lead: tuple[str, ...] = ()
    arms: tuple[Arm, ...] = ()
    estimates: tuple[Estimate, ...] = ()
    differences: tuple[Difference, ...] = ()
    rubrics: tuple[Estimate, ...] = ()
    headroom: tuple[HeadroomRow, ...] = ()
    curves: tuple[Curve, ...] = ()
    relations: tuple[Relation, ...] = ()
    criteria: tuple[CriterionShares, ...] = ()
    samples: tuple[Sample, ...] = ()
    facts: Mapping[str, object] = field(default_factory=dict)
    interval_note: str = "95% bootstrap intervals, resampled by question"

    def __post_init__(self) -> None:
        """Refuse rows that would silently hide one another, or that cannot be drawn."""
        for rows in (self.estimates, self.rubrics):
            keys = [(row.arm, row.split, row.metric) for row in rows]
            repeated = {key for key in keys if keys.count(key) > 1}
            if repeated:
                raise ValueError(f"estimates given twice: {sorted(repeated)}")
        names = [arm.name for arm in self.arms]
        if len(set(names)) < len(names):
            raise ValueError(f"arm names must be unique, got {names}")
        for row in (*self.estimates, *self.rubrics, *self.differences, *self.headroom):
            numbers = (row.interval.low, row.interval.mean, row.interval.high)
            if not all(map(math.isfinite, numbers)):
                raise ValueError(f"an interval that is not finite cannot be drawn: {row}")

    def arm_names(self) -> tuple[str, ...]:
        """Names of all arms: the declared ones, then those that only rows name."""
        return tuple(dict.fromkeys((*(arm.name for arm in self.arms), *self._named_in_rows())))

    def _named_in_rows(self) -> Iterator[str]:
        yield from (row.arm for row in (*self.estimates, *self.rubrics))
        yield from (curve.arm for curve in self.curves)
        yield from (arm for row in self.criteria for arm in row.shares)
        yield from (answer.arm for sample in self.samples for answer in sample.answers)
