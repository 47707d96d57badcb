"""Reinforcement from rewards, with the group of an example's completions as the baseline."""

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch

from rcsd import config
from rcsd.graders.rewards import Reward, RubricReward, weighted_sums
from rcsd.methods.on_policy import BatchSignals, LossTerms, MonitorPositions, StudentForward
from rcsd.methods.policy_gradient import (
    clipped_surrogate,
    frozen_kl_terms,
    group_advantages,
    reduction_weights,
)
from rcsd.methods.rollouts import RolloutWorker
from rcsd.models.logits import target_log_q
from rcsd.models.teacher import Teacher
from rcsd.types import Completion, Example, Rollout


@dataclass(frozen=True, slots=True)
class GrpoSignal:
    """Per-completion inputs of the loss.

    Args:
        advantages: One for each token; above 0 makes the token likelier.
        weight: Of each token in the mean over the step's tokens.
        sampled_log_q: Log-probability of each token before the first update, in nats; empty with
            one update a batch.
        frozen_log_q: The same under the frozen weights; empty without a KL term.
    """

    advantages: tuple[float, ...]
    weight: float
    sampled_log_q: tuple[float, ...] = ()
    frozen_log_q: tuple[float, ...] = ()


@dataclass(eq=False)
class Grpo:
    """Group-relative policy optimisation (GRPO, arXiv 2402.03300), and Dr. GRPO (arXiv 2503.20783).

    ``L = reduce_t( -min(ratio_t a, clip(ratio_t) a) + kl_weight kl_t )`` with the advantage a of a
    completion over the others of its example. GRPO is ``reduction: sequence``; Dr. GRPO is
    ``reduction: constant`` and ``normalise_by_deviation: false``.

    What differs from GRPO's paper:

    1. By default one mean over all tokens of the step (DAPO, arXiv 2503.14476), the house rule.
    2. By default one update a batch. The ratio is then 1 and the clip without effect: the gradient
       is that of -a log q. With ``updates_per_batch`` above 1 the same completions are learned from
       again, all of them in each update, and the clip is real. The ratio is taken to the
       probabilities that the scorer gave before the first update, not to the engine's.
    3. By default no KL term, as in DAPO and Dr. GRPO. Where there is one it is multiplied by the
       ratio, which makes its gradient the KL's, unless ``kl_by_ratio: false``. The frozen weights
       are the run's first, and are not renewed from time to time.
    4. Probabilities are at the temperature of sampling, as in TRL, over the whole vocabulary. With
       nucleus or top-k cuts the gradient is that of the cut policy's expected reward and one share
       more, ``sum_t a grad log Z_t``, Z_t the mass that is kept: it vanishes where the advantage
       has mean 0 after y_<t, as at the first token. A KL term has no such mean and refuses cuts.
    5. A completion without a score is left out of its group's mean and deviation, and a group
       without spread has advantages of exactly 0. Both stay in the denominators (and in the KL
       term), as in TRL, so the step's size does not depend on how many there are. Both are counted.

    Args:
        worker: Its number of completions is the size of a group.
        teacher: The frozen weights, for the KL term.
    """

    section: config.Grpo
    worker: RolloutWorker
    teacher: Teacher
    rewards: Sequence[Reward]
    has_teacher = False
    reuses_targets = True

    def batch_signals(self, rollouts: Sequence[Rollout]) -> BatchSignals:
        """The reward of each completion, and its advantage over the others of its example."""
        section, worker = self.section, self.worker
        scores, cost, unjudged = self._scores([(r.example, r.completion) for r in rollouts])
        totals = weighted_sums([reward.weight for reward in section.rewards], scores)
        reward_NG = torch.tensor(totals, dtype=torch.float64).view(-1, worker.num_completions)
        advantage_NG, deviation_N = group_advantages(reward_NG, section.normalise_by_deviation)

        # Means of the scored completions, and the share of the unscored.
        columns = {"score": totals}
        if len(scores) > 1:
            columns |= dict(zip((each.type for each in section.rewards), scores, strict=True))
        metrics = {"reward/unscored_share": sum(map(math.isnan, totals)) / len(totals), **cost}
        for name, values in columns.items():
            scored = [value for value in values if not math.isnan(value)]
            if scored:
                metrics[f"reward/{name}_mean"] = sum(scored) / len(scored)
        metrics["reward/std_mean"] = deviation_N.mean().item()
        metrics["reward/no_spread_share"] = (deviation_N == 0).double().mean().item()

        # What the loss needs of each completion.
        lengths = [len(rollout.completion.token_ids) for rollout in rollouts]
        weights = reduction_weights(lengths, section.reduction, worker.decoding.max_tokens)
        sampled = frozen = [()] * len(rollouts)
        if section.updates_per_batch > 1:
            sampled = worker.sampled_log_q(rollouts)
        if section.kl_weight > 0:
            with self.teacher.weights():
                frozen = worker.sampled_log_q(rollouts)
        advantages = advantage_NG.flatten().tolist()
        rows = zip(advantages, lengths, weights, sampled, frozen, strict=True)
        signals = [
            GrpoSignal((advantage,) * length, weight, *log_q)
            for advantage, length, weight, *log_q in rows
        ]
        return BatchSignals(signals, metrics, section.updates_per_batch, totals, unjudged)

    def targets(self, microbatch: Sequence[Rollout], positions: MonitorPositions) -> None:
        """None: the frozen weights have scored in `batch_signals`."""

    def terms(
        self, signals: Sequence[GrpoSignal], targets: None, forward: StudentForward
    ) -> LossTerms:
        """Clipped surrogate and KL term, each token with its completion's weight."""
        section, per_token = self.section, self.worker.per_token
        log_q_T = target_log_q(forward.predictions, forward.target_T, self.worker.temperature)
        advantage_T = per_token([s.advantages for s in signals])
        weight_T = per_token([[s.weight] * len(s.advantages) for s in signals])
        sampled_T = log_q_T.detach()
        if section.updates_per_batch > 1:
            sampled_T = per_token([s.sampled_log_q for s in signals])
        bounds = (section.clip_low, section.clip_high)
        surrogate_T, clipped_T = clipped_surrogate(log_q_T, sampled_T, advantage_T, *bounds)
        loss_T = weight_T * surrogate_T
        metrics = {"loss/policy_mean": loss_T, "loss/ratio_clipped_share": clipped_T.float()}
        if section.kl_weight > 0:
            log_p_T = per_token([s.frozen_log_q for s in signals])
            kl_T = frozen_kl_terms(log_p_T, log_q_T, sampled_T if section.kl_by_ratio else None)
            loss_T = loss_T + section.kl_weight * weight_T * kl_T
            metrics["loss/frozen_kl_nats_mean"] = kl_T
        return loss_T, metrics

    def _scores(
        self, answers: Sequence[tuple[Example, Completion]]
    ) -> tuple[list[list[float]], dict[str, float], str]:
        """Scores of each reward, what judges cost, and why a judge scored nothing at all.

        Each rank scores its share.
        """
        ranks = self.worker.ranks
        local_answers = answers[ranks.share(len(answers))]

        def score() -> list[tuple[list[float], Mapping[str, float], Counter[str]]]:
            with ranks.interrupts.interruptible():
                scores = [reward.scores(local_answers) for reward in self.rewards]
            return [
                (column, reward.judge.metrics(), reward.unscored)
                if isinstance(reward, RubricReward)
                else (column, {}, Counter())
                for column, reward in zip(scores, self.rewards, strict=True)
            ]

        columns, cost, unjudged = list[list[float]](), Counter[str](), ""
        for shares in zip(*ranks.all_gather_results(score), strict=True):  # of one reward
            columns.append([value for column, *_ in shares for value in column])
            reasons = Counter[str]()
            for _, metrics, unscored in shares:
                cost.update(metrics)
                reasons.update(unscored)
            if reasons and all(map(math.isnan, columns[-1])):
                unjudged = reasons.most_common(1)[0][0]
        return columns, dict(cost), unjudged
