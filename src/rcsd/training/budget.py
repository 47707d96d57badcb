"""What a run has used up, completion tokens and seconds, and when that is enough."""

import time
from collections.abc import Mapping, Sequence

from rcsd import config

TOKENS, SECONDS = "completion/tokens_total", "time/total_seconds"
"""Metrics of all steps so far; seconds are those of sampling and learning, without evaluation."""


class BudgetTracker:
    """Counts on from the metrics that are there, so a resumed run goes on where it was.

    Args:
        budget: When it is enough, and by which clock; None: never, by the wall's.
        rows: Metrics of the steps done.
    """

    def __init__(self, budget: config.Budget | None, rows: Sequence[Mapping[str, float]]) -> None:
        self._budget = budget
        self.tokens = int(rows[-1][TOKENS]) if rows else 0
        self.seconds = rows[-1][SECONDS] if rows else 0.0
        by_process = budget is not None and budget.clock == "process"
        self.now = time.process_time if by_process else time.perf_counter

    def add(self, num_tokens: int, seconds: float) -> dict[str, float]:
        """Count a step that took so long by `now`; returns its metrics."""
        self.tokens += num_tokens
        self.seconds += seconds
        return {
            "time/step_seconds": seconds,
            TOKENS: float(self.tokens),
            SECONDS: self.seconds,
        }

    @property
    def is_spent(self) -> bool:
        """Whether both bounds of the budget are reached."""
        if self._budget is None:
            return False
        in_time = self._budget.seconds is None or self.seconds >= self._budget.seconds
        return self.tokens >= self._budget.tokens and in_time
