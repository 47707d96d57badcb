"""Reward for right completions, distillation for wrong ones."""

from collections.abc import Sequence
from dataclasses import replace

import torch
from jaxtyping import Float, Int
from torch import Tensor

from rcsd import config
from rcsd.methods.distill import Distill, Targets
from rcsd.methods.grpo import Grpo
from rcsd.methods.on_policy import Known, Watch
from rcsd.models.logits import Predictions
from rcsd.types import Rollout, Signal

ROUNDING = 1e-9
"""A weighted sum of rewards may fall short of its highest value by rounding alone."""


class Srpo:
    """Completions are routed: the right ones to GRPO, the wrong ones to the teacher (SRPO).

    ``L = 1/T sum_t [ right grpo_t + wrong w_t D_t ]``, with w_t = exp(-beta H(p_t)) and H the
    teacher's entropy on its support, so that an unsure teacher says less (arXiv 2604.02288). To
    distil what is right already is ambiguous, and a reward says of a wrong answer only that it is
    wrong.

    What differs from the paper:

    1. The teacher is shown the rubric (or whatever ``views.teacher`` says), not a right completion
       of the same question; so a wrong completion without a right sibling is distilled too, where
       the paper leaves it to GRPO.
    2. The teacher's weights are the frozen ones unless ``teacher`` says otherwise; the paper's are
       a moving average.
    3. The weights w_t are not normalised, so that splitting the batch changes nothing; an unsure
       teacher makes the step smaller.
    4. The advantages of right completions are over all completions of the group, wrong ones
       included; a group that is all right has none.
    5. A completion that could not be scored is distilled.

    Args:
        section: From which reward on a completion is right, and beta.
        reward: Of the right ones.
        distill: Of the wrong ones.
    """

    name = "srpo"
    has_teacher = True

    def __init__(self, section: config.Srpo, reward: Grpo, distill: Distill) -> None:
        self.section, self.reward, self.distill = section, reward, distill
        self.keeps_targets = distill.keeps_targets
        self._highest = sum(reward.weight for reward in section.reward.rewards)

    def known(self, rollouts: Sequence[Rollout]) -> Known:
        """Advantages of the right completions, and which ones are distilled."""
        known = self.reward.known(rollouts)
        signals = [self._routed(signal) for signal in known.signals]
        num_right = sum(signal.distilled[0] == 0 for signal in signals)
        share = num_right / len(signals)
        return Known(signals, {**known.metrics, "srpo/right_share": share}, known.num_updates)

    def _routed(self, signal: Signal) -> Signal:
        length, least = len(signal.advantages), self.section.right_share * self._highest
        if signal.reward is not None and signal.reward >= least - ROUNDING:
            return replace(signal, distilled=(0.0,) * length)
        # The weight too: a KL term is no advantage, and belongs to GRPO.
        return replace(signal, advantages=(0.0,) * length, weight=0.0, distilled=(1.0,) * length)

    def targets(
        self, microbatch: Sequence[Rollout], signals: Sequence[Signal], watch: Watch
    ) -> Targets:
        """The teacher's distributions."""
        return self.distill.targets(microbatch, signals, watch)

    def terms(
        self,
        signals: Sequence[Signal],
        targets: Targets,
        predictions: Predictions,
        target_T: Int[Tensor, " T"],
        watch: Watch,
    ) -> tuple[Float[Tensor, " T"], dict[str, Float[Tensor, " T"]]]:
        """GRPO's terms where completions are right, weighted divergences where they are wrong."""
        policy_T, metrics = self.reward.terms(signals, None, predictions, target_T, watch)
        divergence_T, shown = self.distill.terms(signals, targets, predictions, target_T, watch)
        entropy_T = shown["teacher/support_entropy_nats_mean"]
        sure_T = torch.exp(-self.section.entropy_weight * entropy_T)
        return policy_T + sure_T * divergence_T, {
            **metrics,
            **shown,
            "srpo/sureness_mean": sure_T,
        }
