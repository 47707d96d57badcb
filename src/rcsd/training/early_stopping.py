"""Early stopping: when a held-out metric has gained nothing for a while."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from rcsd.errors import RunError


@dataclass(frozen=True, slots=True)
class EarlyStopping:
    """Decides from a run's history alone, so that a resumed run decides as it would have.

    Validation are the rows that hold the metric. The best one is the first; and then each that
    exceeds the best before it by more than ``min_gain``. So many small gains add up to one that
    counts, and of values that hardly differ the earliest is the best.

    Args:
        metric: Of held-out data, such as ``eval/score_mean``; larger is better.
        patience: Validation after the best one, at least 1, with which the run stops.
        min_gain: In the metric's unit, at least 0.
    """

    metric: str
    patience: int
    min_gain: float = 0.0

    def should_stop(self, rows: Sequence[Mapping[str, float]]) -> bool:
        """Whether ``patience`` evaluations or more came after the best one.

        Args:
            rows: Of ``metrics.jsonl``: by step, each with ``step`` and metrics.

        Returns:
            False while there was no evaluation.

        Raises:
            RunError: If there were evaluations, and the metric is in none of them.
        """
        evaluations = self._evaluations(rows)
        return bool(evaluations) and len(evaluations) - self._best(evaluations) > self.patience

    def best(self, rows: Sequence[Mapping[str, float]]) -> int:
        """Number of steps that had been taken at the best evaluation.

        Raises:
            RunError: If there was no evaluation, or the metric is in none of them.
        """
        evaluations = self._evaluations(rows)
        if not evaluations:
            raise RunError(f"no evaluation yet, so none is the best by {self.metric}")
        return int(evaluations[self._best(evaluations)]["step"])

    def _evaluations(self, rows: Sequence[Mapping[str, float]]) -> list[Mapping[str, float]]:
        found = [row for row in rows if self.metric in row]
        others = sorted({name for row in rows for name in row if name.startswith("eval/")})
        if others and not found:
            raise RunError(
                f"cannot stop by {self.metric}: no evaluation has it; they have {', '.join(others)}"
            )
        return found

    def _best(self, evaluations: Sequence[Mapping[str, float]]) -> int:
        """Index of the best evaluation."""
        best = 0
        for index, row in enumerate(evaluations):
            if row[self.metric] - evaluations[best][self.metric] > self.min_gain:
                best = index
        return best
