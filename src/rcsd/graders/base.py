"""Protocol of judges, and their verdicts on one text."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

from rcsd.errors import DataError
from rcsd.types import Example, Rubric, rubric_score, score_bounds

# Access, pace, price and cache of a judge: none of it changes a verdict.
_ACCESS = {
    "url",
    "api_key_variable",
    "cache",
    "max_calls",
    "max_cost",
    "prices",
    "max_concurrent",
    "requests_per_minute",
    "tokens_per_minute",
    "connect_timeout_seconds",
    "read_timeout_seconds",
    "patience_seconds",
}


@dataclass(frozen=True, slots=True)
class Judgement:
    """Verdicts and score of one text.

    Args:
        verdicts: One for each criterion: met, not met, or None for unscored. Empty where the judge
            gives one score for the text.
        score: In [0, 1]; NaN where a verdict is missing.
        bounds: The lowest and the highest score that missing verdicts leave possible.
        reasons: Why a verdict is missing, one for each criterion, or one for the text; empty
            where it is not.
    """

    verdicts: tuple[bool | None, ...]
    score: float
    bounds: tuple[float, float]
    reasons: tuple[str, ...]

    @classmethod
    def from_verdicts(
        cls, rubric: Rubric, verdicts: Sequence[bool | None], reasons: Sequence[str]
    ) -> "Judgement":
        """Judgement of a text by verdicts on the criteria of a rubric."""
        score, bounds = rubric_score(rubric, verdicts), score_bounds(rubric, verdicts)
        return cls(tuple(verdicts), score, bounds, tuple(reasons))


@runtime_checkable
class Judge(Protocol):
    """Gives verdicts on the criteria of an example's rubric."""

    def judgements(self, answers: Sequence[tuple[Example, str]]) -> list[Judgement]:
        """One for each example and text, in order.

        All at once, so that a judge behind a network is called in parallel.

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


def require_rubric(example: Example) -> Rubric:
    """The rubric of an example.

    Raises:
        DataError: If it has none.
    """
    if example.rubric is None:
        raise DataError(f"example {example.id!r} has no rubric to judge by", field="rubric")
    return example.rubric


def verdict_settings(tree: Any) -> Any:
    """A configuration's tree without those settings of judges that no verdict depends on.

    So a run may be resumed with a larger budget, and answers judged through two addresses count as
    judged alike.
    """
    if isinstance(tree, Mapping):
        dropped = _ACCESS if "asks" in tree else set()
        return {name: verdict_settings(of) for name, of in tree.items() if name not in dropped}
    return [verdict_settings(of) for of in tree] if isinstance(tree, list) else tree
