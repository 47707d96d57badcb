"""Learning from the student's own samples: one batch, one forward pass, any sum of objectives.

Axes: T completion tokens of all rows, W watched ones of them, V vocabulary.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import accumulate
from typing import Any, Protocol, runtime_checkable

import torch
from jaxtyping import Float, Int
from torch import Tensor

from rcsd.data.prompts import PromptPair
from rcsd.methods.base import Batch, completion_metrics
from rcsd.methods.losses import token_mean
from rcsd.methods.rollouts import Student
from rcsd.methods.staleness import Freshness, gaps, importance_weights
from rcsd.models.logits import Predictions, log_q_of
from rcsd.types import Rollout, Signal

WATCHED_TOKENS, WATCHED_SHARE = 256, 1 / 8
"""Tokens of a step, at least, whose whole distributions are watched, and their least share."""


@dataclass(frozen=True)
class Known:
    """What an objective knows of a step's completions before any loss.

    Args:
        signals: One for each rollout.
        metrics: By name.
        num_updates: How many times the optimizer is to learn from them.
    """

    signals: Sequence[Signal]
    metrics: Mapping[str, float]
    num_updates: int = 1


@dataclass(frozen=True)
class Watch:
    """The positions of a microbatch at which monitors look at the whole vocabulary.

    A loss may need K logits a position; a monitor such as the entropy needs all V, and its mean is
    as good over every eighth token of a large step. Positions are counted over the whole step, so
    that they are the same however it is split.

    Args:
        index_W: Which of the microbatch's T positions.
        num_positions: T.
        weight: Tokens of the step for each watched one.
    """

    index_W: Int[Tensor, " W"]
    num_positions: int
    weight: float

    def spread(self, value_W: Float[Tensor, " W"]) -> Float[Tensor, " T"]:
        """Values of all positions whose mean over the step is that of the watched ones."""
        value_T = torch.zeros(self.num_positions, device=value_W.device)
        return value_T.index_copy(0, self.index_W, self.weight * value_W.float())


def watch_of(microbatch: Sequence[Rollout], num_tokens: int, device: torch.device) -> Watch:
    """Every n-th token of the step.

    Args:
        microbatch: Some of the step's rollouts.
        num_tokens: Of the whole step.
        device: Where the index goes.
    """
    stride = min(round(1 / WATCHED_SHARE), max(1, num_tokens // WATCHED_TOKENS))
    index: list[int] = []
    start = 0
    for rollout in microbatch:
        end = start + len(rollout.completion.token_ids)
        index += range(start + -rollout.num_tokens_before % stride, end, stride)
        start = end
    weight = num_tokens / -(-num_tokens // stride)
    return Watch(torch.tensor(index, dtype=torch.long, device=device), start, weight)


@runtime_checkable
class Objective(Protocol):
    """What is wanted of completions that the student sampled: a loss for each of their tokens."""

    name: str
    """Its ``type`` in the configuration."""
    has_teacher: bool
    """Whether it scores completions in the teacher's view."""
    keeps_targets: bool
    """Whether its targets hold for all updates of a batch that is learned from several times."""

    def known(self, rollouts: Sequence[Rollout]) -> Known:
        """What must be known of the whole step: rewards, advantages, masks."""
        ...

    def targets(
        self, microbatch: Sequence[Rollout], signals: Sequence[Signal], watch: Watch
    ) -> Any:
        """What the teacher says of a microbatch; asked before the student's graph exists."""
        ...

    def terms(
        self,
        signals: Sequence[Signal],
        targets: Any,
        predictions: Predictions,
        target_T: Int[Tensor, " T"],
        watch: Watch,
    ) -> tuple[Float[Tensor, " T"], dict[str, Float[Tensor, " T"]]]:
        """Loss of each position, not reduced, and what is shown of it.

        Args:
            signals: Of the microbatch's rollouts.
            targets: As `targets` gave them.
            predictions: The student's.
            target_T: The sampled tokens.
            watch: Where the whole vocabulary may be looked at for what is shown.
        """
        ...


class OnPolicy:
    """A sum of objectives on completions that the student samples.

    ``L = E_{y ~ q(.|x)} 1/T sum_t sum_i w_i l_i(t)``: one mean over all T tokens of the step, one
    forward pass of the student for all objectives. Teachers speak first, so that what they need is
    gone before the student's graph is made.

    Args:
        student: Samples and scores.
        objectives: With their weights; of different names.
        freshness: How far completions may lag behind the weights that learn from them; None: nobody
            looks.
    """

    def __init__(
        self,
        student: Student,
        objectives: Sequence[tuple[float, Objective]],
        freshness: Freshness | None = None,
    ) -> None:
        self.student, self.objectives, self.freshness = student, objectives, freshness
        # What stale rollouts' tokens count: None until the step's first loss says it.
        self._weights: dict[int, Tensor | None] = {}
        self._has_teacher = any(objective.has_teacher for _, objective in objectives)
        self._num_updates = 1
        self._kept: dict[tuple[int, ...], Any] = {}

    def collect(self, prompts: Sequence[PromptPair], step: int) -> Batch:
        """The student answers every question; each objective says what it knows of the answers."""
        rollouts = self.student.rollouts(prompts, step)
        if not self._has_teacher:
            rollouts = [replace(r, teacher_ids=r.student_ids) for r in rollouts]
        known = [objective.known(rollouts) for _, objective in self.objectives]
        lengths = [len(rollout.completion.token_ids) for rollout in rollouts]
        before = accumulate(lengths[:-1], initial=0)
        columns = zip(*(k.signals for k in known), strict=True)
        marked = [
            replace(rollout, signals=signals, num_tokens_before=num)
            for rollout, signals, num in zip(rollouts, columns, before, strict=True)
        ]
        metrics = completion_metrics(rollouts)
        self._weights = {}
        if self.freshness is not None:
            metrics |= self.freshness.metrics(marked, step)
            self._weights = dict.fromkeys(self.freshness.stale(marked, step))
        for found in known:
            metrics |= found.metrics
        self._num_updates = max(found.num_updates for found in known)
        self._kept.clear()
        return Batch(marked, metrics, self._num_updates, self.student.policy.packs)

    def loss(
        self, microbatch: Sequence[Rollout], num_tokens: int
    ) -> tuple[Tensor, Mapping[str, Tensor]]:
        """The weighted sum of all objectives' losses.

        Where two objectives show a metric of the same name, the later one's is called
        ``part-OBJECTIVE/name``.
        """
        watch = watch_of(microbatch, num_tokens, self.student.policy.device)
        columns = [[r.signals[n] for r in microbatch] for n in range(len(self.objectives))]
        targets = [
            self._targets(number, microbatch, signals, watch)
            for number, signals in enumerate(columns)
        ]
        predictions, target_T = self.student.predictions(
            [r.student_ids for r in microbatch], microbatch
        )
        shown = self._shown(microbatch, predictions, target_T, watch)
        weight_T = self._importance(microbatch, predictions, target_T)
        if weight_T is not None:
            shown["engine/importance_weight_mean"] = weight_T
        losses = []
        for (weight, objective), signals, said in zip(
            self.objectives, columns, targets, strict=True
        ):
            loss_T, found = objective.terms(signals, said, predictions, target_T, watch)
            loss_T = loss_T if weight_T is None else loss_T * weight_T
            losses.append(weight * token_mean(loss_T, num_tokens))
            # Two objectives may show the same thing of different divergences.
            shown |= {
                name.replace("/", f"-{objective.name}/", 1) if name in shown else name: value_T
                for name, value_T in found.items()
            }
        loss = torch.stack(losses).sum()
        shares = {name: value_T.detach().sum() / num_tokens for name, value_T in shown.items()}
        if len(losses) > 1:
            shares = {"loss/total_mean": loss.detach(), **shares}
        return loss, shares

    def _targets(
        self, number: int, microbatch: Sequence[Rollout], signals: Sequence[Signal], watch: Watch
    ) -> Any:
        """What an objective's teacher says; once only where that holds for several updates."""
        objective = self.objectives[number][1]
        # In lockstep all processes must ask, and micro-batches that count nothing repeat.
        asks_anew = self.student.ranks.lockstep or not objective.keeps_targets
        if self._num_updates == 1 or asks_anew:
            return objective.targets(microbatch, signals, watch)
        key = (number, *map(id, microbatch))
        if key not in self._kept:
            self._kept[key] = objective.targets(microbatch, signals, watch)
        return self._kept[key]

    def _shown(
        self,
        microbatch: Sequence[Rollout],
        predictions: Predictions,
        target_T: Int[Tensor, " T"],
        watch: Watch,
    ) -> dict[str, Tensor]:
        """What is seen of the student's distributions at the watched positions."""
        watched = predictions[watch.index_W]
        entropy_W, end_W = watched.mapped(self._monitored)
        shown = {"student/entropy_nats_mean": entropy_W, "student/end_probability_mean": end_W}
        if all(rollout.completion.log_q for rollout in microbatch):
            sampled_T = self.student.per_token([r.completion.log_q for r in microbatch])
            with torch.no_grad():
                log_q_W = log_q_of(watched, target_T[watch.index_W], self.student.temperature)
            shown |= gaps(log_q_W, sampled_T[watch.index_W])
        return {name: watch.spread(value_W) for name, value_W in shown.items()}

    def _importance(
        self, microbatch: Sequence[Rollout], predictions: Predictions, target_T: Int[Tensor, " T"]
    ) -> Float[Tensor, " T"] | None:
        """What each token counts where some of the step's completions are stale.

        By the weights before the step's first update: later ones are the objectives' own business,
        whose ratios start from there.
        """
        cap = self.freshness.cap if self.freshness is not None else None
        if cap is None or not self._weights:
            return None
        if any(self._weights.get(id(rollout), target_T) is None for rollout in microbatch):
            with torch.no_grad():
                log_q_T = log_q_of(predictions, target_T, self.student.temperature)
            lengths = [len(rollout.completion.token_ids) for rollout in microbatch]
            for rollout, log_q_t in zip(microbatch, log_q_T.split(lengths), strict=True):
                if id(rollout) in self._weights:
                    sampled_t = self.student.per_token([rollout.completion.log_q])
                    self._weights[id(rollout)] = importance_weights(log_q_t, sampled_t, cap)
        rows = []
        for rollout in microbatch:
            weight_t = self._weights.get(id(rollout))
            fresh_t = torch.ones(len(rollout.completion.token_ids), device=target_T.device)
            rows.append(fresh_t if weight_t is None else weight_t)
        return torch.cat(rows)

    def _monitored(
        self, logits_TV: Float[Tensor, "T V"]
    ) -> tuple[Float[Tensor, " T"], Float[Tensor, " T"]]:
        """Entropy in nats, and probability of the end, at the temperature of sampling."""
        q_TV = (logits_TV / self.student.temperature).softmax(-1)
        return torch.special.entr(q_TV).sum(-1), q_TV[:, self.student.policy.turn_end_id]
