"""Learning from the student's own samples: one batch, one forward pass, any sum of objectives.

Axes: T completion tokens of a micro-batch, W monitored ones of them, V vocabulary.
"""

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol, runtime_checkable

import torch
from jaxtyping import Float, Int
from torch import Tensor

from rcsd.data.prompts import PromptPair
from rcsd.errors import NoVerdictsError
from rcsd.methods.base import Batch, completion_metrics
from rcsd.methods.losses import token_mean
from rcsd.methods.rollouts import RolloutWorker
from rcsd.methods.staleness import Freshness, gaps, importance_weights
from rcsd.models.logits import Predictions, gathered, target_log_q
from rcsd.types import Rollout

MIN_MONITORED_TOKENS, MIN_MONITORED_SHARE = 256, 1 / 8
"""Least number and least share of a step's tokens at which whole distributions are monitored."""
MAX_UNJUDGED_STEPS = 3
"""Steps in a row without any verdict of a judge after which a run ends."""


@dataclass(frozen=True)
class BatchSignals:
    """Per-rollout rewards, advantages and masks, computed once per step before the loss.

    Signals are of the objective's own type; rewards are NaN where unscored, and None where the
    objective has none. ``unjudged`` is why a judge gave no verdict at all; empty: it gave some.
    """

    signals: Sequence[Any]
    metrics: Mapping[str, float]
    num_updates: int = 1
    rewards: Sequence[float] | None = None
    unjudged: str = ""


@dataclass(frozen=True)
class MonitorPositions:
    """Positions of a micro-batch at which monitors look at the whole vocabulary.

    A loss may need K logits a position; a monitor such as the entropy needs all V, and its mean is
    as good over every eighth token of a large step. Positions are counted over the whole step, so
    that they are the same however it is split; ``weight`` is the step's tokens for each monitored
    one.
    """

    index_W: Int[Tensor, " W"]
    num_positions: int
    weight: float

    def spread(self, value_W: Float[Tensor, " W"]) -> Float[Tensor, " T"]:
        """Values of all positions whose mean over the step is that of the monitored ones."""
        value_T = torch.zeros(self.num_positions, device=value_W.device)
        return value_T.index_copy(0, self.index_W, self.weight * value_W.float())


def monitor_stride(num_tokens: int) -> int:
    """The n of every n-th token at which whole distributions are monitored."""
    return min(round(1 / MIN_MONITORED_SHARE), max(1, num_tokens // MIN_MONITORED_TOKENS))


def monitor_positions(
    microbatch: Sequence[Rollout], num_tokens: int, device: torch.device
) -> MonitorPositions:
    """Every n-th of the step's ``num_tokens`` tokens."""
    stride = monitor_stride(num_tokens)
    index: list[int] = []
    start = 0
    for rollout in microbatch:
        end = start + len(rollout.completion.token_ids)
        index += range(start + -rollout.num_tokens_before % stride, end, stride)
        start = end
    weight = num_tokens / -(-num_tokens // stride)
    return MonitorPositions(torch.tensor(index, dtype=torch.long, device=device), start, weight)


@dataclass(frozen=True)
class StudentForward:
    """The student's next-token predictions, with gradient, and the tokens that were sampled."""

    predictions: Predictions
    target_T: Int[Tensor, " T"]
    positions: MonitorPositions


LossTerms = tuple[Float[Tensor, " T"], dict[str, Float[Tensor, " T"]]]
"""Loss at each position, not reduced, and metrics by name, likewise."""


@runtime_checkable
class Objective(Protocol):
    """A loss for each token of completions that the student sampled."""

    section: Any
    """Its section of the configuration; metrics are named by its ``type``."""
    has_teacher: bool
    """True if it scores completions in the teacher's view."""
    reuses_targets: bool
    """True if targets hold for all updates of a batch that is learned from several times."""

    def batch_signals(self, rollouts: Sequence[Rollout]) -> BatchSignals:
        """Rewards, advantages and masks of the whole step, before any loss."""
        ...

    def targets(self, microbatch: Sequence[Rollout], positions: MonitorPositions) -> Any:
        """Teacher targets per completion token, before the student's graph exists."""
        ...

    def terms(self, signals: Sequence[Any], targets: Any, forward: StudentForward) -> LossTerms:
        """The loss at each position, and metrics; from what `batch_signals` and `targets` gave."""
        ...


class OnPolicy:
    """A sum of objectives on completions that the student samples.

    ``L = E_{y ~ q(.|x)} 1/T sum_t sum_i w_i l_i(t)``: one mean over all T tokens of the step, one
    forward pass of the student for all objectives.

    Args:
        objectives: With their weights w_i; of different names.
        freshness: Limit on the lag of the weights that sampled; None: not checked.
    """

    def __init__(
        self,
        worker: RolloutWorker,
        objectives: Sequence[tuple[float, Objective]],
        freshness: Freshness | None = None,
    ) -> None:
        self.worker, self.objectives, self.freshness = worker, objectives, freshness
        self._has_teacher = any(objective.has_teacher for _, objective in objectives)
        self._num_unjudged_steps = 0
        # Of the present batch; rollouts are named by their index.
        self._num_updates = 1
        self._stale: frozenset[int] = frozenset()
        self._importance: dict[int, Tensor] = {}
        self._targets: dict[tuple[int, ...], Any] = {}

    def collect(self, prompts: Sequence[PromptPair], step: int) -> Batch:
        """Sample completions, then compute each objective's signals."""
        rollouts = self.worker.rollouts(prompts, step)
        if not self._has_teacher:
            rollouts = [replace(r, teacher_ids=r.student_ids) for r in rollouts]
        computed = [objective.batch_signals(rollouts) for _, objective in self.objectives]
        self._check_verdicts(computed, step)

        metrics = completion_metrics(rollouts)
        self._stale = frozenset()
        if self.freshness is not None:
            metrics |= self.freshness.metrics(rollouts, step)
            self._stale = self.freshness.stale(rollouts, step)
        for signals in computed:
            metrics |= signals.metrics
        self._num_updates = max(signals.num_updates for signals in computed)
        self._importance.clear()
        self._targets.clear()

        columns = zip(*(signals.signals for signals in computed), strict=True)
        rewards = next((each.rewards for each in computed if each.rewards is not None), None)
        rewards = [None] * len(rollouts) if rewards is None else rewards
        rollouts = [
            replace(rollout, signals=signals, reward=reward)
            for rollout, signals, reward in zip(rollouts, columns, rewards, strict=True)
        ]
        return Batch(rollouts, metrics, self._num_updates, self.worker.policy.packs)

    def _check_verdicts(self, computed: Sequence[BatchSignals], step: int) -> None:
        """Warn of a step without any verdict of a judge; NoVerdictsError after several in a row."""
        reason = next((each.unjudged for each in computed if each.unjudged), "")
        self._num_unjudged_steps = self._num_unjudged_steps + 1 if reason else 0
        problem = f"step {step}: no completion has a verdict of the judge (most often: {reason})"
        if self._num_unjudged_steps >= MAX_UNJUDGED_STEPS:
            raise NoVerdictsError(
                f"{problem}, in {self._num_unjudged_steps} steps in a row; mend the judge, then "
                "resume from the newest checkpoint: replies so far are in the cache"
            )
        if reason and self.worker.ranks.is_main:
            warnings.warn(f"{problem}, so nothing is learned from its reward", stacklevel=2)

    def loss(
        self, microbatch: Sequence[Rollout], num_tokens: int
    ) -> tuple[Tensor, Mapping[str, Tensor]]:
        """The weighted sum of all objectives' losses.

        Where two objectives have a metric of the same name, the later one's is called
        ``part-OBJECTIVE/name``.
        """
        # Teachers first: their activations are freed before the student's graph is built.
        positions = monitor_positions(microbatch, num_tokens, self.worker.policy.device)
        targets = [
            self._objective_targets(number, microbatch, positions)
            for number in range(len(self.objectives))
        ]

        # One forward pass of the student for all objectives.
        prompts = [rollout.student_ids for rollout in microbatch]
        forward = StudentForward(*self.worker.predictions(prompts, microbatch), positions)
        metrics = self._monitor(microbatch, forward)
        importance_T = self._importance_weights(microbatch, forward)
        if importance_T is not None:
            metrics["engine/importance_weight_mean"] = importance_T

        # Each objective's terms, reduced with the step's one denominator.
        losses = []
        for number, (weight, objective) in enumerate(self.objectives):
            signals = [rollout.signals[number] for rollout in microbatch]
            loss_T, terms = objective.terms(signals, targets[number], forward)
            loss_T = loss_T if importance_T is None else loss_T * importance_T
            losses.append(weight * token_mean(loss_T, num_tokens))
            for name, value_T in terms.items():
                renamed = name.replace("/", f"-{objective.section.type}/", 1)
                metrics[renamed if name in metrics else name] = value_T
        loss = torch.stack(losses).sum()
        shares = {name: value_T.detach().sum() / num_tokens for name, value_T in metrics.items()}
        if len(losses) > 1:
            shares = {"loss/total_mean": loss.detach(), **shares}
        return loss, shares

    def _objective_targets(
        self, number: int, microbatch: Sequence[Rollout], positions: MonitorPositions
    ) -> Any:
        """An objective's teacher targets; cached where they hold for several updates."""
        objective = self.objectives[number][1]
        # In lockstep all ranks must run the pass, and micro-batches that do not count repeat.
        is_cached = objective.reuses_targets and not self.worker.ranks.lockstep
        if self._num_updates == 1 or not is_cached:
            return objective.targets(microbatch, positions)
        key = (number, *(rollout.index for rollout in microbatch))
        if key not in self._targets:
            self._targets[key] = objective.targets(microbatch, positions)
        return self._targets[key]

    def _monitor(
        self, microbatch: Sequence[Rollout], forward: StudentForward
    ) -> dict[str, Float[Tensor, " T"]]:
        """Metrics of the student's distributions at the monitored positions."""
        positions = forward.positions
        predictions = forward.predictions[positions.index_W]
        target_W = forward.target_T[positions.index_W]
        entropy_W, end_W, log_q_W = predictions.mapped(self._monitored, target_W)
        metrics = {"student/entropy_nats_mean": entropy_W, "student/end_probability_mean": end_W}
        if all(rollout.completion.log_q for rollout in microbatch):
            sampled_T = self.worker.per_token([r.completion.log_q for r in microbatch])
            metrics |= gaps(log_q_W, sampled_T[positions.index_W])
        return {name: positions.spread(value_W) for name, value_W in metrics.items()}

    def _importance_weights(
        self, microbatch: Sequence[Rollout], forward: StudentForward
    ) -> Float[Tensor, " T"] | None:
        """The weight of each token's loss; None where no rollout of the step is stale.

        By the weights before the step's first update: later ones are the objectives' own business,
        whose ratios start from there.
        """
        if self.freshness is None or self.freshness.cap is None or not self._stale:
            return None
        with torch.no_grad():
            log_q_T = target_log_q(forward.predictions, forward.target_T, self.worker.temperature)
        weights = []
        lengths = [len(rollout.completion.token_ids) for rollout in microbatch]
        for rollout, log_q_t in zip(microbatch, log_q_T.split(lengths), strict=True):
            weight_t = torch.ones_like(log_q_t)
            if rollout.index in self._stale:
                sampled_t = self.worker.per_token([rollout.completion.log_q])
                now_t = importance_weights(log_q_t, sampled_t, self.freshness.cap)
                weight_t = self._importance.setdefault(rollout.index, now_t)
            weights.append(weight_t)
        return torch.cat(weights)

    def _monitored(
        self, logits_TV: Float[Tensor, "T V"], target_T: Int[Tensor, " T"]
    ) -> tuple[Float[Tensor, " T"], Float[Tensor, " T"], Float[Tensor, " T"]]:
        """Entropy, probability of the end, log-probability of the sampled token, in nats.

        At the temperature of sampling.
        """
        scores_TV = logits_TV / self.worker.temperature
        q_TV = scores_TV.softmax(-1)
        end_T = q_TV[:, self.worker.policy.turn_end_id]
        return torch.special.entr(q_TV).sum(-1), end_T, gathered(scores_TV, target_T)
