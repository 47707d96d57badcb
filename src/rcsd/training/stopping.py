"""When a run ends before its last step: not-a-number values, a spent budget, early stopping."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from rcsd import config
from rcsd.data.prompts import PromptPair
from rcsd.distributed import local
from rcsd.errors import RunError
from rcsd.methods.base import Batch, Method
from rcsd.runs import RunFolder
from rcsd.types import Example

TOKENS, SECONDS = "completion/tokens_total", "time/total_seconds"
"""Metrics of all steps so far; seconds are those of sampling and learning, without validation."""


def not_finite(values: Mapping[str, float | Tensor]) -> list[str]:
    """Names of the metrics or weights that hold NaN or infinity."""
    numbers = {
        name: local(value) if isinstance(value, Tensor) else torch.tensor(value, dtype=torch.double)
        for name, value in values.items()
    }
    return sorted(name for name, number in numbers.items() if not number.isfinite().all())


@dataclass(frozen=True)
class NanGuard:
    """Aborts a step on NaN or infinity, before anything of it is saved."""

    folder: RunFolder
    step: int
    examples: Sequence[Example]

    def collect(self, method: Method, prompts: Sequence[PromptPair]) -> Batch:
        """Run the method's `collect`; RunError if the policy's probabilities are not numbers."""
        try:
            return method.collect(prompts, self.step)
        except FloatingPointError as error:
            raise self._error(str(error)) from error

    def check(self, values: Mapping[str, float | Tensor]) -> None:
        """Abort on metrics or weights that are not finite.

        Raises RunError naming them and the examples.
        """
        if names := not_finite(values):
            more = f" and {len(names) - 5} others" if len(names) > 5 else ""
            raise self._error(f"{', '.join(names[:5])}{more}: not finite numbers")

    def _error(self, what: str) -> RunError:
        saved = self.folder.checkpoints()
        last = f"the last checkpoint is {saved[-1]}" if saved else "there is no checkpoint"
        ids = ", ".join(dict.fromkeys(example.id for example in self.examples))
        return RunError(
            f"step {self.step + 1}: {what}; nothing was saved of it, and {last}. The batch: {ids}. "
            "A smaller optim.lr or a method.clip may help"
        )


class BudgetTracker:
    """Counts completion tokens and seconds, and compares them with a budget."""

    def __init__(self, budget: config.Budget | None) -> None:
        self._budget = budget
        self.tokens, self.seconds = 0, 0.0
        by_process = budget is not None and budget.clock == "process"
        self.now = time.process_time if by_process else time.perf_counter

    def add(self, num_tokens: int, seconds: float) -> dict[str, float]:
        """Count a step that took so many seconds by `now`; returns its metrics."""
        self.tokens += num_tokens
        self.seconds += seconds
        return {"time/step_seconds": seconds, TOKENS: float(self.tokens), SECONDS: self.seconds}

    @property
    def is_spent(self) -> bool:
        """True if both bounds of the budget are reached."""
        if self._budget is None:
            return False
        in_time = self._budget.seconds is None or self.seconds >= self._budget.seconds
        return self.tokens >= self._budget.tokens and in_time

    def state_dict(self) -> dict[str, Any]:
        """The counters."""
        return {"tokens": self.tokens, "seconds": self.seconds}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Count on from a checkpoint's counters."""
        self.tokens, self.seconds = state["tokens"], state["seconds"]


class EarlyStopping:
    """Stop once a validation metric has not improved for a number of evaluations.

    The first evaluation is the best, then each that exceeds the best before it by more than
    ``min_gain``. So many small gains add up to one that counts, and of values that hardly differ
    the earliest is the best.

    Args:
        metric: Validation metric, such as ``eval/score_mean``; larger is better.
        patience: Evaluations after the best one, at least 1, with which the run stops.
        may_lack: True if the first evaluation may lack the metric, as where a judge is away.
    """

    def __init__(
        self, metric: str, patience: int, min_gain: float = 0.0, may_lack: bool = False
    ) -> None:
        self._metric, self._patience, self._min_gain = metric, patience, min_gain
        self._may_lack = may_lack
        self.best_step: int | None = None
        self._best_value, self._num_since_best = 0.0, 0

    def observe(self, step: int, metrics: Mapping[str, float]) -> bool:
        """Take an evaluation into account; returns whether it is the best so far.

        One without the metric, as where nothing could be graded, does not count. Raises RunError if
        the first evaluation lacks the metric, and may not.
        """
        value = metrics.get(self._metric)
        if value is None:
            if self.best_step is None and not self._may_lack:
                others = ", ".join(sorted(name for name in metrics if name.startswith("eval/")))
                raise RunError(
                    f"cannot stop by {self._metric}: the evaluation lacks it; it has {others}"
                )
            return False
        is_best = self.best_step is None or value - self._best_value > self._min_gain
        if is_best:
            self.best_step, self._best_value, self._num_since_best = step, value, 0
        else:
            self._num_since_best += 1
        return is_best

    @property
    def should_stop(self) -> bool:
        """True if ``patience`` evaluations or more came after the best one."""
        return self._num_since_best >= self._patience

    def state_dict(self) -> dict[str, Any]:
        """The best evaluation and the number since."""
        return {
            "metric": self._metric,
            "best_step": self.best_step,
            "best_value": self._best_value,
            "num_since_best": self._num_since_best,
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from a checkpoint's state; evaluations by another metric do not count."""
        if state["metric"] == self._metric:
            self.best_step, self._best_value = state["best_step"], state["best_value"]
            self._num_since_best = state["num_since_best"]


def build_early_stopping(section: config.Evaluation | None) -> EarlyStopping | None:
    """Early stopping as the section asks for it, or None."""
    if section is None or (stop := section.early_stop) is None:
        return None
    is_judged = section.judge.type != "code" and stop.metric == "eval/score_mean"
    return EarlyStopping(stop.metric, stop.patience, stop.min_gain, may_lack=is_judged)
