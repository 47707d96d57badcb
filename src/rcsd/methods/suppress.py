"""The teacher-free control: the student's least likely tokens are made less likely still."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from rcsd import config
from rcsd.methods.on_policy import BatchSignals, LossTerms, MonitorPositions, StudentForward
from rcsd.methods.policy_gradient import least_likely, policy_gradient_terms
from rcsd.methods.rollouts import RolloutWorker
from rcsd.models.logits import target_log_q
from rcsd.types import Rollout


@dataclass(eq=False)
class Suppress:
    """A fixed negative advantage on the least likely sampled tokens, none on the others.

    ``L = 1/T sum_t -a_t log q(y_t)``, with a_t = -penalty where the token y_t is among the least
    likely share of the step's tokens, and 0 elsewhere. It asks neither teacher, rubric nor reward,
    so what it gains is what on-policy distillation may gain without being taught anything: OPSA's
    authors (arXiv 2608.31046) find that distillation learns mostly on tokens of low
    log-probability, and that one fixed negative advantage does as well as a teacher's. A method
    that does not beat this control has not shown that its teacher's content matters.

    What differs from the paper, and what we chose without knowing the paper's choice:

    1. This is its control with a fixed advantage, not OPSA itself, whose advantages grow with the
       entropy of the position.
    2. Chosen: the share is taken over all tokens of the optimizer step, with one threshold for all
       of them, so that a completion of which the student is sure has none to suppress.
    3. Chosen: exactly round(share T) tokens, before the step, by the student's own log-probability
       at the temperature of sampling.
    4. Chosen: the mean is over all tokens of the step, suppressed or not; the penalty is 1.
    5. It is no estimate of an expectation, so nucleus and top-k cuts are allowed: the least likely
       tokens are then those of the cut samples, their probabilities over the whole vocabulary.
    """

    section: config.Suppress
    worker: RolloutWorker
    has_teacher = False
    reuses_targets = True

    def batch_signals(self, rollouts: Sequence[Rollout]) -> BatchSignals:
        """An advantage for each token: the penalty at the least likely ones of the step."""
        log_q = self.worker.sampled_log_q(rollouts)
        log_q_T = self.worker.per_token(log_q)
        chosen_T = least_likely(log_q_T, self.section.share)
        advantage_T = torch.where(chosen_T, -self.section.penalty, 0.0)
        rows = advantage_T.split([len(row) for row in log_q])
        metrics = {"suppress/chosen_share": chosen_T.float().mean().item()}
        if chosen_T.any():
            metrics["suppress/chosen_log_q_nats_max"] = log_q_T[chosen_T].max().item()
        return BatchSignals([tuple(row.tolist()) for row in rows], metrics)

    def targets(self, microbatch: Sequence[Rollout], positions: MonitorPositions) -> None:
        """None: there is no teacher."""

    def terms(
        self, signals: Sequence[tuple[float, ...]], targets: None, forward: StudentForward
    ) -> LossTerms:
        """Policy gradient with the fixed advantages."""
        log_q_T = target_log_q(forward.predictions, forward.target_T, self.worker.temperature)
        loss_T = policy_gradient_terms(log_q_T, self.worker.per_token(signals))
        return loss_T, {"loss/suppress_mean": loss_T}
