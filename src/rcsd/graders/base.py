"""Judges, and their verdicts on one text."""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from rcsd import config
from rcsd.errors import DataError
from rcsd.types import Example, Rubric, rubric_score, score_bounds


@dataclass(frozen=True, slots=True)
class Judgement:
    """Verdicts and score of one text.

    Args:
        verdicts: One for each criterion: met, not met, or None for unscored; empty: only a score.
        score: In [0, 1]; NaN where a verdict is missing.
        bounds: The lowest and the highest score that missing verdicts leave possible.
        reasons: Why a verdict is missing, for each criterion or the text; empty where it is not.
        explanations: The judge's own, for each criterion or the text; empty where it gives none.
    """

    verdicts: tuple[bool | None, ...]
    score: float
    bounds: tuple[float, float]
    reasons: tuple[str, ...]
    explanations: tuple[str, ...] = ()

    @classmethod
    def from_verdicts(
        cls,
        rubric: Rubric,
        verdicts: Sequence[bool | None],
        reasons: Sequence[str],
        explanations: Sequence[str] = (),
    ) -> "Judgement":
        """Judgement of a text by verdicts on the criteria of a rubric."""
        score, bounds = rubric_score(rubric, verdicts), score_bounds(rubric, verdicts)
        return cls(tuple(verdicts), score, bounds, tuple(reasons), tuple(explanations))


class Judge(ABC):
    """Gives verdicts on the criteria of an example's rubric."""

    @abstractmethod
    def judgements(self, answers: Sequence[tuple[Example, str]]) -> list[Judgement]:
        """One for each example and text, in order; without a rubric a DataError.

        All at once, so that a judge behind a network is called in parallel.
        """

    def metrics(self) -> dict[str, float]:
        """Calls and tokens since the judge was made, by names of a run's metrics; of most none."""
        return {}

    def record(self) -> dict[str, Any]:
        """Models that replied, and agreement of several judges, for the record of an evaluation."""
        return {}

    def resampled(self, sample: int) -> "Judge":
        """The same judge with other random numbers, on the same budget; itself if it draws none."""
        return self


def build_judge(section: config.Judge) -> Judge:
    """The judge of a section. The client of a server is imported only where it is needed."""
    if isinstance(section, config.CodeJudge):
        from rcsd.graders.code import CodeJudge  # noqa: PLC0415 (it derives from the above)

        return CodeJudge()
    from rcsd.graders.judge import JudgePanel, ModelJudge  # noqa: PLC0415 (few runs have a model)

    return JudgePanel(section) if isinstance(section, config.JudgePanel) else ModelJudge(section)


def require_rubric(example: Example) -> Rubric:
    """The rubric of an example; a DataError if it has none."""
    if example.rubric is None:
        raise DataError(f"example {example.id!r} has no rubric to judge by", field="rubric")
    return example.rubric


def verdict_settings(tree: Any) -> Any:
    """A configuration's tree without those settings of judges that no verdict depends on."""
    if isinstance(tree, Mapping):
        dropped = config.JUDGE_ACCESS if "asks" in tree else set()
        return {name: verdict_settings(of) for name, of in tree.items() if name not in dropped}
    return [verdict_settings(of) for of in tree] if isinstance(tree, list) else tree
