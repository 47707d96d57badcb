"""Divergences of the student from the teacher: terms, support, clip, reduction.

p is the teacher, q the student. Axes: T positions, V vocabulary, K support, L the support's
buckets (K, or K + 1 with a tail). Log-probabilities are in nats, float32 or wider, normalised over
the last axis; -inf is allowed. Terms are summed over the last axis by the caller.
"""

import math
from typing import Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor

Outside = Literal["renormalise", "tail"]
PerToken = Float[Tensor, " T"]
Buckets = Float[Tensor, "T L"]


def _kl_terms(log_a: Buckets, log_b: Buckets) -> Buckets:
    """Terms of KL(a || b), where 0 (log 0 - log b) is 0 and has no gradient."""
    # Masked on both sides of the product, for 0 * inf is NaN in the value and in the gradient.
    # Where a underflows to 0 its term is 0 too, although log a is still finite.
    absent = log_a.exp() == 0
    log_a, log_b = log_a.masked_fill(absent, 0.0), log_b.masked_fill(absent, 0.0)
    return log_a.exp() * (log_a - log_b)


def forward_kl_terms(log_p_TK: Buckets, log_q_TK: Buckets) -> Buckets:
    """Terms of the forward KL, from teacher to student.

        KL(p || q) = sum_v p_v (log p_v - log q_v)

    The student must put mass wherever the teacher does. RCSD's choice (arXiv 2606.19327), best in
    its ablation. Over the full vocabulary the gradient of the student's logits is q - p.

    Returns:
        One term an entry in nats, of either sign, not reduced; inf where p > 0 and q = 0.
    """
    return _kl_terms(log_p_TK, log_q_TK)


def reverse_kl_terms(log_p_TK: Buckets, log_q_TK: Buckets) -> Buckets:
    """Terms of the reverse KL, from student to teacher.

        KL(q || p) = sum_v q_v (log q_v - log p_v)

    The student must leave what the teacher leaves: it settles on some of the teacher's modes.

    Returns:
        One term an entry in nats, of either sign, not reduced; inf where q > 0 and p = 0.
    """
    return _kl_terms(log_q_TK, log_p_TK)


def jsd_terms(log_p_TK: Buckets, log_q_TK: Buckets, beta: float) -> Buckets:
    """Terms of the generalised Jensen-Shannon divergence.

        JSD(p, q) = beta KL(p || m) + (1 - beta) KL(q || m),   m = beta p + (1 - beta) q

    Bounded, so no single position dominates a step. RGSD (arXiv 2606.12507) takes beta 0.5.

    Returns:
        One term an entry in nats, >= 0, not reduced; their sum is at most log 2.

    Raises:
        ValueError: beta is not strictly between 0 and 1.
    """
    if not 0 < beta < 1:
        raise ValueError(
            f"beta must lie strictly between 0 and 1, not {beta}: the JSD vanishes at its ends. "
            "For a KL take the forward or the reverse KL, which are types of their own."
        )
    # logaddexp(-inf, -inf) has a NaN gradient, so one of the two is kept finite.
    finite_log_q_TK = log_q_TK.clamp(min=torch.finfo(log_q_TK.dtype).min)
    log_m_TK = torch.logaddexp(log_p_TK + math.log(beta), finite_log_q_TK + math.log1p(-beta))
    return beta * _kl_terms(log_p_TK, log_m_TK) + (1 - beta) * _kl_terms(log_q_TK, log_m_TK)


def sampled_token_terms(log_p_T: PerToken, log_q_T: PerToken) -> PerToken:
    """Policy-gradient loss of the tokens y that the student sampled.

        loss_t = -a_t log q(y_t),   a_t = log p(y_t) - log q(y_t), detached

    Over y ~ q its expected gradient is that of the reverse KL(q || p), without a vocabulary axis.
    Only the gradient means something: the value, of either sign, is no divergence.
    """
    return -(log_p_T - log_q_T).detach() * log_q_T


def entropy(log_p_TK: Buckets) -> PerToken:
    """Entropy H(p) = -sum_v p_v log p_v of each position, in nats, between 0 and log V."""
    return -_kl_terms(log_p_TK, torch.zeros_like(log_p_TK)).sum(-1)


def top_k_ids(log_p_TV: Float[Tensor, "T V"], k: int) -> Int[Tensor, "T K"]:
    """Ids of the k most probable tokens, the most probable first."""
    return log_p_TV.topk(k, dim=-1).indices


def renormalised_from_logits(logits_TK: Float[Tensor, "T K"]) -> Float[Tensor, "T K"]:
    """Log-probabilities of the support alone: log_softmax over K, at least 2 tokens.

    The vocabulary's normaliser cancels, so K logits a position are all that a student needs: this
    equals ``restrict(log_softmax(logits_TV), ids, "renormalise")``. One of them must be finite.
    """
    if logits_TK.shape[-1] == 1:
        raise ValueError(
            "A renormalised support of one token has probability 1 for teacher and student, so the "
            "loss is always zero. Take k = 2 or more, or keep the rest as a tail."
        )
    return logits_TK.log_softmax(-1)


def restrict(
    log_p_TV: Float[Tensor, "T V"], ids_TK: Int[Tensor, "T K"], outside: Outside
) -> Buckets:
    """Distribution on a support, from the full one.

    ``renormalise`` scales the support's mass to 1 (RCSD, arXiv 2606.19327). ``tail`` keeps it and
    adds one more bucket, log(1 - sum_k p_k): the divergence is then a lower bound of the full one.
    The tail is summed over the rest of the vocabulary, so it keeps its precision and its gradient
    however small it is; 1 - sum is lost in float32 below about 1e-6.

    The support has K distinct tokens a position, the same ones for p and q.

    Returns:
        [T, K], or [T, K + 1] with the tail last.

    Raises:
        ValueError: ``renormalise`` on a support of a single token.
    """
    if outside == "renormalise":
        return renormalised_from_logits(log_p_TV.gather(-1, ids_TK))
    # Not -inf: where all of the rest is masked, its logsumexp would have a NaN gradient.
    nothing = math.log(torch.finfo(log_p_TV.dtype).tiny)
    log_rest_T = log_p_TV.scatter(-1, ids_TK, nothing).logsumexp(-1)
    # Gathered last: its gradient, as wide as the vocabulary, is freed before the other is made.
    return torch.cat([log_p_TV.gather(-1, ids_TK), log_rest_T.unsqueeze(-1)], dim=-1)


def clip_tokens(divergence_T: PerToken, max_nats: float) -> PerToken:
    """Divergences of positions, capped by a detached weight: min(1, c / d_t) d_t.

    A position above the cap keeps its gradient's direction; the length is scaled by c / d_t.
    Every other position is untouched. In nats, at most c, not reduced.
    """
    fixed_T = divergence_T.detach()
    return torch.where(fixed_T > max_nats, max_nats / fixed_T, 1.0) * divergence_T


def clip_entries(terms_TK: Buckets, max_nats: float) -> Buckets:
    """Terms clamped one by one, min(term, c), before they are summed. This reverses gradients.

    Only for reproducing RCSD's released code (c = 0.05). A clamped entry has no gradient, and the
    clamped entries are those where the teacher disagrees most. With p = (0.9, 0.1) and q = (0.5,
    0.5) the first term of the forward KL, 0.53, is clamped; only the second is left, and the
    gradient of the student's logits is (+0.05, -0.05) instead of (-0.40, +0.40): the update moves
    away from the teacher. ``clip_tokens`` does not have this fault. The sum may be negative.
    """
    return terms_TK.clamp(max=max_nats)


def token_mean(loss_T: PerToken, num_tokens: int) -> Float[Tensor, ""]:
    """Share of these positions in the mean over a whole optimizer step: sum_t loss_t / num_tokens.

    ``num_tokens`` are the completion tokens of the step, over all micro-batches and ranks. So the
    shares of all micro-batches add up to the mean over all tokens, however the step was split; a
    mean of means would weigh a token more in a small micro-batch than in a large one. Shares are to
    be added over ranks: DDP averages gradients, which divides once too often.
    """
    if num_tokens < 1:
        raise ValueError(f"num_tokens must be at least 1, not {num_tokens}: a step needs tokens.")
    return loss_T.sum() / num_tokens
