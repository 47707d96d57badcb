"""Distillation from the same model's other view, on the student's own completions."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from rcsd import config
from rcsd.divergences import (
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
from rcsd.errors import ConfigError
from rcsd.methods.on_policy import Known
from rcsd.methods.student import Student, gathered
from rcsd.models import Policy, evaluating
from rcsd.teachers import Teacher
from rcsd.types import Rollout, Signal

OVERLAP_K = 20
"""Likeliest tokens of both views that ``teacher/top_k_overlap_share`` compares; RCSD's support."""


@dataclass(frozen=True)
class Targets:
    """What the teacher says at each completion position.

    Args:
        log_p_TL: Its log-probabilities, on its support or on the whole vocabulary.
        ids_TK: The tokens of its support, or None: the whole vocabulary.
        likeliest_TM: Its M likeliest tokens.
        end_T: Its probability of the end token.
    """

    log_p_TL: Float[Tensor, "T L"]
    ids_TK: Int[Tensor, "T K"] | None
    likeliest_TM: Int[Tensor, "T M"]
    end_T: Float[Tensor, " T"]


class Distill:
    """Rubric-conditioned self-distillation (RCSD, arXiv 2606.19327), and its relatives.

    ``L = E_{y ~ q(.|x)} 1/|y| sum_t D(p(.|x, r, y_<t) || q(.|x, y_<t))``, with p the teacher, which
    sees the rubric r, and q the student, which does not; one mean over all tokens of the step. With
    other views it is OPSD (arXiv 2601.18734: ``views.teacher: solution``) or RGSD (arXiv
    2606.12507: JSD with beta 0.5).

    What differs from the paper's released code:

    1. No clip by default; its entry clip reverses gradients (`rcsd.divergences.clip_entries`).
    2. The mean is over all tokens of the step, not a mean of micro-batch means.
    3. The end token is learned even where it is the pad token.
    4. The teacher sees the rubric alone, as the paper's text says, unless the views say otherwise.

    Args:
        section: Divergence, support, clip and temperature.
        student: Scores completions.
        teacher: With which weights the teacher's part is played.
    """

    name = "distill"
    has_teacher = True

    def __init__(self, section: config.Distill, student: Student, teacher: Teacher) -> None:
        self.section, self.student, self.teacher = section, student, teacher

    def known(self, rollouts: Sequence[Rollout]) -> Known:
        """Nothing: every token counts alike."""
        return Known([Signal()] * len(rollouts), {})

    def targets(self, part: Sequence[Rollout], signals: Sequence[Signal]) -> Targets:
        """The teacher's distributions, reduced to its top k where the student does not choose."""
        with self.teacher.weights(), evaluating(self.student.scorer):
            logits_TV, _ = self.student.logits([r.teacher_ids for r in part], part)
            log_p_TV = (logits_TV / self.section.temperature).log_softmax(-1)
            likeliest_TM = top_k_ids(log_p_TV, min(OVERLAP_K, log_p_TV.shape[-1]))
            end_T = log_p_TV[:, self.student.policy.turn_end_id].exp()
            support = self.section.support
            if self.section.divergence.type == "sampled_token" or support.type != "teacher_top_k":
                return Targets(log_p_TV, None, likeliest_TM, end_T)
            ids_TK = top_k_ids(log_p_TV, support.k)
            log_p_TL = restrict(log_p_TV, ids_TK, support.outside)
            return Targets(log_p_TL, ids_TK, likeliest_TM, end_T)

    def terms(
        self,
        signals: Sequence[Signal],
        targets: Targets,
        logits_TV: Float[Tensor, "T V"],
        target_T: Int[Tensor, " T"],
    ) -> tuple[Float[Tensor, " T"], dict[str, Float[Tensor, " T"]]]:
        """Divergence of the teacher's and the student's next-token distributions."""
        loss_T, metrics = self._divergence(targets, logits_TV / self.section.temperature, target_T)
        with torch.no_grad():
            metrics["teacher/top_k_overlap_share"] = overlap(targets.likeliest_TM, logits_TV)
            metrics["teacher/end_probability_mean"] = targets.end_T
        if signals[0].distilled:
            loss_T = loss_T * self.student.per_token([s.distilled for s in signals])
        return loss_T, metrics

    def _divergence(
        self,
        targets: Targets,
        logits_TV: Float[Tensor, "T V"],
        target_T: Int[Tensor, " T"],
    ) -> tuple[Float[Tensor, " T"], dict[str, Tensor]]:
        """Loss of each position, clipped, and what is shown of it."""
        log_p, ids_TK = targets.log_p_TL, targets.ids_TK
        if self.section.divergence.type == "sampled_token":
            log_p_T = gathered(log_p, target_T)
            log_q_T = gathered(logits_TV.log_softmax(-1), target_T)
            gap_T = log_q_T - log_p_T
            return sampled_token_terms(log_p_T, log_q_T), {"loss/reverse_kl_nats_mean": gap_T}
        log_p, log_q = self._restricted(log_p, ids_TK, logits_TV)
        match self.section.divergence:
            case config.ReverseKL():
                terms = reverse_kl_terms(log_p, log_q)
            case config.JSD(beta=beta):
                terms = jsd_terms(log_p, log_q, beta)
            case _:
                terms = forward_kl_terms(log_p, log_q)
        divergence_T = terms.sum(-1)
        metrics = {
            "loss/divergence_nats_mean": divergence_T,
            "teacher/support_entropy_nats_mean": entropy(log_p),
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

    def _restricted(
        self,
        log_p: Float[Tensor, "T L"],
        ids_TK: Int[Tensor, "T K"] | None,
        logits_TV: Float[Tensor, "T V"],
    ) -> tuple[Float[Tensor, "T M"], Float[Tensor, "T M"]]:
        """Both distributions on the same M buckets: the support, with the tail where it is kept."""
        support = self.section.support
        if support.type == "full":
            return log_p, logits_TV.log_softmax(-1)
        if ids_TK is None:
            ids_TK = top_k_ids(logits_TV.detach(), support.k)
            log_p = restrict(log_p, ids_TK, support.outside)
        if support.outside == "renormalise":
            return log_p, renormalised_from_logits(logits_TV.gather(-1, ids_TK))
        return log_p, restrict(logits_TV.log_softmax(-1), ids_TK, support.outside)


def overlap(
    likeliest_TM: Int[Tensor, "T M"], logits_TV: Float[Tensor, "T V"]
) -> Float[Tensor, " T"]:
    """Share of the teacher's likeliest M tokens that are among the student's, in [0, 1]."""
    ours_TM = top_k_ids(logits_TV, likeliest_TM.shape[-1])
    return (likeliest_TM[:, :, None] == ours_TM[:, None, :]).any(-1).float().mean(-1)


def check_support(section: config.Distill, policy: Policy) -> None:
    """Refuse a support that is larger than the vocabulary.

    Raises:
        ConfigError: If it is.
    """
    support = section.support
    if support.type != "full" and support.k > policy.vocab_size:
        raise ConfigError(
            f"method.support.k: {support.k}, but the vocabulary has {policy.vocab_size} tokens"
        )
