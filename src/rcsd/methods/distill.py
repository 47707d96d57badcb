"""Distillation from the same model's other view, on the student's own completions.

Axes: T completion tokens of all rows, V vocabulary, K support, L its buckets: K, or K + 1 with a
tail. Functions of whole distributions take some of the positions at a time.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from rcsd import config
from rcsd.errors import ConfigError
from rcsd.methods.losses import (
    clip_entries,
    clip_tokens,
    entropy,
    forward_kl_terms,
    jsd_terms,
    renormalised_from_logits,
    restrict,
    reverse_kl_terms,
    sampled_token_terms,
    top_k_ids,
)
from rcsd.methods.on_policy import BatchSignals, LossTerms, MonitorPositions, StudentForward
from rcsd.methods.rollouts import RolloutWorker
from rcsd.models.logits import Predictions, TokenMetrics, target_log_q
from rcsd.models.policy import Policy
from rcsd.models.scorer import evaluating
from rcsd.models.teacher import Teacher
from rcsd.types import Rollout

OVERLAP_K = 20
"""Likeliest tokens of both views that ``teacher/top_k_overlap_share`` compares; RCSD's support."""


@dataclass(frozen=True)
class TeacherTopK:
    """The teacher's K likeliest tokens, their log-probabilities, and the tail's if there is one."""

    log_p_TL: Float[Tensor, "T L"]
    ids_TK: Int[Tensor, "T K"]


@dataclass(frozen=True)
class TeacherLogprobs:
    """Log-probability of each sampled token, and entropy of the whole distribution, in nats."""

    log_p_T: Float[Tensor, " T"]
    entropy_T: Float[Tensor, " T"]


@dataclass(frozen=True)
class TeacherTargets:
    """Teacher targets per completion token.

    Args:
        distribution: As much of it as the loss needs: its support, the sampled tokens, or all.
        monitored: All of it at the monitored positions.
    """

    distribution: TeacherTopK | TeacherLogprobs | Predictions
    monitored: Predictions


@dataclass(eq=False)
class Distill:
    """Rubric-conditioned self-distillation (RCSD, arXiv 2606.19327), and its relatives.

    ``L = E_{y ~ q(.|x)} 1/|y| sum_t D(p(.|x, r, y_<t) || q(.|x, y_<t))``, with p the teacher, which
    sees the rubric r, and q the student, which does not; one mean over all tokens of the step. With
    other views it is OPSD (arXiv 2601.18734: ``views.teacher: solution``) or RGSD (arXiv
    2606.12507: JSD with beta 0.5).

    What differs from the paper's released code:

    1. No clip by default; its entry clip reverses gradients (`rcsd.methods.losses.clip_entries`).
    2. The mean is over all tokens of the step, not a mean of micro-batch means.
    3. The end token is learned even where it is the pad token.
    4. The teacher sees the rubric alone, as the paper's text says, unless the views say otherwise.
    """

    section: config.Distill
    worker: RolloutWorker
    teacher: Teacher
    has_teacher = True

    def __post_init__(self) -> None:
        """Note whether targets hold for several updates."""
        self.reuses_targets = not self.teacher.moves_within_a_step

    def batch_signals(self, rollouts: Sequence[Rollout]) -> BatchSignals:
        """None: every token counts alike."""
        return BatchSignals([None] * len(rollouts), {})

    def targets(self, microbatch: Sequence[Rollout], positions: MonitorPositions) -> TeacherTargets:
        """The teacher's distributions, reduced to its top k unless the student chooses."""
        prompts = [rollout.teacher_ids for rollout in microbatch]
        with self.teacher.weights(), evaluating(self.worker.scorer):
            teacher, target_T = self.worker.predictions(prompts, microbatch)
            return TeacherTargets(self._reduced(teacher, target_T), teacher[positions.index_W])

    def _reduced(
        self, teacher: Predictions, target_T: Int[Tensor, " T"]
    ) -> TeacherTopK | TeacherLogprobs | Predictions:
        """Teacher targets per completion token, reduced to those that the loss needs."""
        support, temperature = self.section.support, self.section.temperature

        def sampled_tokens(logits_TV: Tensor, target_T: Tensor) -> tuple[Tensor, Tensor]:
            log_p_TV = (logits_TV / temperature).log_softmax(-1)
            entropy_T = torch.special.entr(log_p_TV.exp()).sum(-1)
            return log_p_TV.gather(-1, target_T[:, None])[:, 0], entropy_T

        def with_tail(logits_TV: Tensor, k: int) -> tuple[Tensor, Tensor]:
            log_p_TV = (logits_TV / temperature).log_softmax(-1)
            ids_TK = top_k_ids(log_p_TV, k)
            return restrict(log_p_TV, ids_TK, "tail"), ids_TK

        if self.section.divergence.type == "sampled_token":
            return TeacherLogprobs(*teacher.mapped(sampled_tokens, target_T))
        if support.type != "teacher_top_k":
            return teacher
        if support.outside == "tail":
            return TeacherTopK(*teacher.mapped(partial(with_tail, k=support.k)))
        ids_TK = teacher.mapped(partial(top_k_ids, k=support.k))
        # Not the logits that chose: the student's are summed as these are, also in bfloat16.
        log_p_TK = renormalised_from_logits(teacher.logits_at(ids_TK) / temperature)
        return TeacherTopK(log_p_TK, ids_TK)

    def terms(
        self, signals: Sequence[Any], targets: TeacherTargets, forward: StudentForward
    ) -> LossTerms:
        """Divergence of the teacher's and the student's next-token distributions.

        On the teacher's support, renormalised, it takes K logits of the student; otherwise all, in
        chunks that are never held together.
        """
        temperature, predictions = self.section.temperature, forward.predictions
        match targets.distribution:
            case TeacherLogprobs(log_p_T, entropy_T):
                log_q_T = target_log_q(predictions, forward.target_T, temperature)
                loss_T = sampled_token_terms(log_p_T, log_q_T)
                metrics = {
                    "loss/reverse_kl_nats_mean": log_q_T - log_p_T,
                    "teacher/support_entropy_nats_mean": entropy_T,
                }
            case TeacherTopK(log_p_TL, ids_TK) if log_p_TL.shape == ids_TK.shape:
                log_q_TK = renormalised_from_logits(predictions.logits_at(ids_TK) / temperature)
                loss_T, metrics = self._divergence(log_p_TL, log_q_TK)
            case TeacherTopK(log_p_TL, ids_TK):
                loss_T, metrics = predictions.losses(self._on_support, log_p_TL, ids_TK)
            case teacher:
                loss_T, metrics = predictions.losses(self._on_vocabulary, teacher)
        return loss_T, {**metrics, **self._monitor(targets, forward)}

    def _monitor(self, targets: TeacherTargets, forward: StudentForward) -> TokenMetrics:
        """Overlap of the likeliest tokens of teacher and student at the monitored positions."""
        positions = forward.positions
        student = forward.predictions[positions.index_W]
        share_W, end_W = student.mapped(self._overlap_and_end, targets.monitored)
        return {
            "teacher/top_k_overlap_share": positions.spread(share_W),
            "teacher/end_probability_mean": positions.spread(end_W),
        }

    def _on_support(
        self,
        logits_TV: Float[Tensor, "T V"],
        log_p_TL: Float[Tensor, "T L"],
        ids_TK: Int[Tensor, "T K"],
    ) -> tuple[Float[Tensor, " T"], TokenMetrics]:
        """With the tail, for which the whole vocabulary counts."""
        log_q_TV = (logits_TV / self.section.temperature).log_softmax(-1)
        return self._divergence(log_p_TL, restrict(log_q_TV, ids_TK, "tail"))

    def _on_vocabulary(
        self, logits_TV: Float[Tensor, "T V"], teacher_TV: Float[Tensor, "T V"]
    ) -> tuple[Float[Tensor, " T"], TokenMetrics]:
        """On all of it, or on the student's likeliest tokens."""
        support, temperature = self.section.support, self.section.temperature
        log_p_TV = (teacher_TV / temperature).log_softmax(-1)
        if support.type == "full":
            return self._divergence(log_p_TV, (logits_TV / temperature).log_softmax(-1))
        ids_TK = top_k_ids(logits_TV.detach(), support.k)
        log_p_TL = restrict(log_p_TV, ids_TK, support.outside)
        if support.outside == "tail":
            return self._on_support(logits_TV, log_p_TL, ids_TK)
        log_q_TK = renormalised_from_logits(logits_TV.gather(-1, ids_TK) / temperature)
        return self._divergence(log_p_TL, log_q_TK)

    def _overlap_and_end(
        self, logits_TV: Float[Tensor, "T V"], teacher_TV: Float[Tensor, "T V"]
    ) -> tuple[Float[Tensor, " T"], Float[Tensor, " T"]]:
        """Overlap of both views' likeliest tokens, and the teacher's probability of the end."""
        likeliest_TM = top_k_ids(teacher_TV, min(OVERLAP_K, teacher_TV.shape[-1]))
        scores_TV = teacher_TV / self.section.temperature
        log_end_T = scores_TV[:, self.worker.policy.turn_end_id] - scores_TV.logsumexp(-1)
        return overlap(likeliest_TM, logits_TV), log_end_T.exp()

    def _divergence(
        self, log_p_TL: Float[Tensor, "T L"], log_q_TL: Float[Tensor, "T L"]
    ) -> tuple[Float[Tensor, " T"], TokenMetrics]:
        """Loss of each position, clipped, and its metrics; both on the same L buckets."""
        match self.section.divergence:
            case config.ReverseKL():
                terms = reverse_kl_terms(log_p_TL, log_q_TL)
            case config.JSD(beta=beta):
                terms = jsd_terms(log_p_TL, log_q_TL, beta)
            case _:
                terms = forward_kl_terms(log_p_TL, log_q_TL)
        divergence_T = terms.sum(-1)
        metrics = {
            "loss/divergence_nats_mean": divergence_T,
            "teacher/support_entropy_nats_mean": entropy(log_p_TL),
        }
        match self.section.clip:
            case config.TokenClip(max_nats=limit):
                metrics["loss/clipped_share"] = (divergence_T > limit).float()
                return clip_tokens(divergence_T, limit), metrics
            case config.EntryClip(max_nats=limit):
                metrics["loss/clipped_share"] = (terms > limit).any(-1).float()
                return clip_entries(terms, limit).sum(-1), metrics
            case _:
                return divergence_T, metrics


def overlap(
    likeliest_TM: Int[Tensor, "T M"], logits_TV: Float[Tensor, "T V"]
) -> Float[Tensor, " T"]:
    """Share of the teacher's likeliest M tokens that are among the student's, in [0, 1]."""
    ours_TM = top_k_ids(logits_TV, likeliest_TM.shape[-1])
    return (likeliest_TM[:, :, None] == ours_TM[:, None, :]).any(-1).float().mean(-1)


def check_support(section: config.Distill, policy: Policy) -> None:
    """Refuse a support that is larger than the vocabulary; ConfigError if it is."""
    support = section.support
    if support.type != "full" and support.k > policy.vocab_size:
        raise ConfigError(
            f"method.support.k: {support.k}, but the vocabulary has {policy.vocab_size} tokens"
        )
