"""Reward for right completions, distillation for wrong ones."""

from collections.abc import Sequence
from dataclasses import replace

import torch

from rcsd import config
from rcsd.methods.distill import Distill, TeacherTargets
from rcsd.methods.grpo import Grpo, GrpoSignal
from rcsd.methods.on_policy import BatchSignals, LossTerms, MonitorPositions, StudentForward
from rcsd.types import Rollout

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
    6. The divergence compares whole distributions, at any sampling. ``sampled_token`` would need
       all completions, and is refused: which are wrong depends on what was sampled.
    """

    has_teacher = True

    def __init__(self, section: config.Srpo, reward: Grpo, distill: Distill) -> None:
        self.section, self.reward, self.distill = section, reward, distill
        self.reuses_targets = distill.reuses_targets
        self._highest = sum(reward.weight for reward in section.reward.rewards)

    def batch_signals(self, rollouts: Sequence[Rollout]) -> BatchSignals:
        """Advantages of the right completions; a weight of 0 means that the teacher takes it."""
        rewarded = self.reward.batch_signals(rollouts)
        assert rewarded.rewards is not None
        least = self.section.right_share * self._highest - ROUNDING
        # A wrong completion has no policy gradient: no advantage, and no KL term, which is GRPO's.
        signals = [
            signal
            if reward >= least
            else replace(signal, advantages=(0.0,) * len(signal.advantages), weight=0.0)
            for signal, reward in zip(rewarded.signals, rewarded.rewards, strict=True)
        ]
        share = sum(signal.weight > 0 for signal in signals) / len(signals)
        metrics = {**rewarded.metrics, "srpo/right_share": share}
        return replace(rewarded, signals=signals, metrics=metrics)

    def targets(self, microbatch: Sequence[Rollout], positions: MonitorPositions) -> TeacherTargets:
        """The teacher's distributions."""
        return self.distill.targets(microbatch, positions)

    def terms(
        self, signals: Sequence[GrpoSignal], targets: TeacherTargets, forward: StudentForward
    ) -> LossTerms:
        """GRPO's terms where completions are right, weighted divergences where they are wrong."""
        policy_T, metrics = self.reward.terms(signals, None, forward)
        divergence_T, distilled = self.distill.terms([None] * len(signals), targets, forward)
        wrong = [[float(signal.weight == 0)] * len(signal.advantages) for signal in signals]
        divergence_T = divergence_T * self.distill.worker.per_token(wrong)
        entropy_T = distilled["teacher/support_entropy_nats_mean"]
        sure_T = torch.exp(-self.section.entropy_weight * entropy_T)
        loss_T = policy_T + sure_T * divergence_T
        return loss_T, {**metrics, **distilled, "srpo/sureness_mean": sure_T}
