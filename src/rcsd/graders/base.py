"""What judges have in common."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from rcsd.errors import DataError
from rcsd.types import Example, Rubric, rubric_score, score_bounds


@dataclass(frozen=True, slots=True)
class Judgement:
    """What a judge says of one text.

    Args:
        verdicts: One for each criterion: met, not met, or None for unscored. Empty where the judge
            gives one score for the whole.
        score: In [0, 1]; NaN: not known, since a verdict is missing.
        bounds: The lowest and the highest score that what is missing leaves possible.
        reasons: Why a verdict is missing, one for each criterion, or one for the whole; empty
            where it is not.
    """

    verdicts: tuple[bool | None, ...]
    score: float
    bounds: tuple[float, float]
    reasons: tuple[str, ...]


def judgement_of(
    rubric: Rubric, verdicts: Sequence[bool | None], reasons: Sequence[str]
) -> Judgement:
    """What verdicts on the criteria amount to."""
    return Judgement(
        tuple(verdicts),
        rubric_score(rubric, verdicts),
        score_bounds(rubric, verdicts),
        tuple(reasons),
    )


@runtime_checkable
class Judge(Protocol):
    """Says which criteria of an example's rubric a text meets."""

    def judgements(self, answers: Sequence[tuple[Example, str]]) -> list[Judgement]:
        """One for each example and text, in order.

        All at once, so that a judge who is asked over a network is asked in parallel.

        Raises:
            DataError: If an example has no rubric.
        """
        ...


@runtime_checkable
class MeteredJudge(Judge, Protocol):
    """A judge whose calls cost something."""

    def metrics(self) -> dict[str, float]:
        """Calls, tokens and cost since the judge was made, by names of a run's metrics."""
        ...


def judge_metrics(judge: Judge) -> dict[str, float]:
    """Metrics of a judge; empty where it counts nothing."""
    return judge.metrics() if isinstance(judge, MeteredJudge) else {}


def rubric_of(example: Example) -> Rubric:
    """The rubric to judge by.

    Raises:
        DataError: If the example has none.
    """
    if example.rubric is None:
        raise DataError(f"example {example.id!r} has no rubric to judge by", field="rubric")
    return example.rubric
