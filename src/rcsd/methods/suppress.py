"""The teacher-free control: the student's least likely tokens are made less likely still."""

from collections.abc import Sequence

import torch
from jaxtyping import Float, Int
from torch import Tensor

from rcsd import config
from rcsd.methods.on_policy import Known, Watch
from rcsd.methods.policy_gradient import least_likely, policy_gradient_terms
from rcsd.methods.rollouts import Student
from rcsd.models.logits import Predictions, log_q_of
from rcsd.types import Rollout, Signal


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

    Args:
        section: Share and penalty.
        student: Scores completions.
    """

    name = "suppress"
    has_teacher = False
    keeps_targets = True

    def __init__(self, section: config.Suppress, student: Student) -> None:
        self.section, self.student = section, student

    def known(self, rollouts: Sequence[Rollout]) -> Known:
        """The least likely tokens of the step."""
        log_q = self.student.sampled_log_q(rollouts)
        log_q_T = self.student.per_token(log_q)
        chosen_T = least_likely(log_q_T, self.section.share)
        advantage_T = torch.where(chosen_T, -self.section.penalty, 0.0)
        rows = advantage_T.split([len(row) for row in log_q])
        metrics = {"suppress/chosen_share": chosen_T.float().mean().item()}
        if chosen_T.any():
            metrics["suppress/chosen_log_q_nats_max"] = log_q_T[chosen_T].max().item()
        return Known([Signal(advantages=tuple(row.tolist())) for row in rows], metrics)

    def targets(
        self, microbatch: Sequence[Rollout], signals: Sequence[Signal], watch: Watch
    ) -> None:
        """Nobody teaches."""

    def terms(
        self,
        signals: Sequence[Signal],
        targets: None,
        predictions: Predictions,
        target_T: Int[Tensor, " T"],
        watch: Watch,
    ) -> tuple[Float[Tensor, " T"], dict[str, Float[Tensor, " T"]]]:
        """Policy gradient with the fixed advantages."""
        log_q_T = log_q_of(predictions, target_T, self.student.temperature)
        advantage_T = self.student.per_token([signal.advantages for signal in signals])
        loss_T = policy_gradient_terms(log_q_T, advantage_T)
        return loss_T, {"loss/suppress_mean": loss_T}
