"""Policy gradients: advantages, clipped surrogate, distance to the frozen weights, reductions.

q is the student, which sampled the tokens; p the frozen weights. Axes: N examples, G completions of
one example, T completion tokens. Log-probabilities are those of the sampled tokens, in nats.
"""

from collections.abc import Sequence
from typing import Literal

import torch
from jaxtyping import Bool, Float
from torch import Tensor

Reduction = Literal["token", "sequence", "constant"]
PerToken = Float[Tensor, " T"]
DEVIATION_FLOOR = 1e-4  # TRL's: added to a deviation before it divides


def group_advantages(
    reward_NG: Float[Tensor, "N G"], by_deviation: bool
) -> tuple[Float[Tensor, "N G"], Float[Tensor, " N"]]:
    """Advantages of completions over the others of the same example, and each group's deviation.

        a_ng = r_ng - mean_g r_ng,   divided by std_g r_ng + 1e-4 if ``by_deviation``

    The group's mean stands in for a value network (GRPO, arXiv 2402.03300). Dividing by the
    deviation makes an example count more the more its completions agree; Dr. GRPO (arXiv
    2503.20783) leaves it out. The deviation has G - 1 in its denominator, and is 0 where fewer than
    two rewards differ.

    A reward of NaN is unscored, and left out of its group's mean and deviation. Advantages are
    exactly 0 where unscored and in groups without spread.
    """
    scored_NG = ~reward_NG.isnan()
    num_N1 = scored_NG.sum(1, keepdim=True)
    mean_N1 = reward_NG.nansum(1, keepdim=True) / num_N1.clamp(min=1)
    gap_NG = torch.where(scored_NG, reward_NG - mean_N1, 0.0)
    deviation_N1 = (gap_NG.square().sum(1, keepdim=True) / (num_N1 - 1).clamp(min=1)).sqrt()
    # By comparison, not by a deviation that rounding keeps above 0.
    highest_N1 = reward_NG.nan_to_num(nan=-torch.inf).amax(1, keepdim=True)
    lowest_N1 = reward_NG.nan_to_num(nan=torch.inf).amin(1, keepdim=True)
    spread_N1 = highest_N1 > lowest_N1
    deviation_N1 = torch.where(spread_N1, deviation_N1, 0.0)
    advantage_NG = gap_NG / (deviation_N1 + DEVIATION_FLOOR) if by_deviation else gap_NG
    return torch.where(spread_N1, advantage_NG, 0.0), deviation_N1[:, 0]


def policy_gradient_terms(log_q_T: PerToken, advantage_T: PerToken) -> PerToken:
    """REINFORCE of the sampled tokens y: ``-a_t log q(y_t)``, with the advantage detached.

    Its gradient is that of `clipped_surrogate` where the ratio is 1. Not reduced.
    """
    return -advantage_T.detach() * log_q_T


def clipped_surrogate(
    log_q_T: PerToken,
    sampled_log_q_T: PerToken,
    advantage_T: PerToken,
    clip_low: float,
    clip_high: float,
) -> tuple[PerToken, Bool[Tensor, " T"]]:
    """PPO's surrogate for tokens that an earlier state of the student sampled; and those clipped.

        loss_t = -min(ratio_t a_t, clip(ratio_t, 1 - low, 1 + high) a_t),
        ratio_t = q(y_t) / q_sampled(y_t)

    Once a token's probability has moved far enough in the direction of its advantage it has no
    gradient any more (arXiv 1707.06347, equation 7; two bounds: DAPO, arXiv 2503.14476).
    ``clip_low`` lies in (0, 1), ``clip_high`` above 0; ``log_q_T`` alone gets a gradient. Losses
    are of either sign, not reduced.
    """
    ratio_T = (log_q_T - sampled_log_q_T.detach()).exp()
    advantage_T = advantage_T.detach()
    low, high = 1 - clip_low, 1 + clip_high
    loss_T = -torch.minimum(ratio_T * advantage_T, ratio_T.clamp(low, high) * advantage_T)
    below_T, above_T = (ratio_T < low) & (advantage_T < 0), (ratio_T > high) & (advantage_T > 0)
    return loss_T, below_T | above_T


def frozen_kl_terms(
    log_p_T: PerToken, log_q_T: PerToken, sampled_log_q_T: PerToken | None = None
) -> PerToken:
    """Estimates of KL(q || p), from the student to the frozen weights, at the sampled tokens.

        k3_t = p(y_t) / q(y_t) - 1 - (log p(y_t) - log q(y_t)),   times q(y_t) / q_sampled(y_t)

    GRPO's k3 (arXiv 2402.03300, equation 4) is never negative (nats), and its mean over y ~ q is
    the KL. Its gradient is not the KL's: over y ~ q it is that of KL(p || q), since the samples'
    own dependence on q is left out. The ratio puts it back (DeepSeek-V3.2, arXiv 2512.02556), where
    its value is 1 too: at one position the gradient is then (log q - log p) times that of log q.
    Without ``sampled_log_q_T`` it is left out; ``log_q_T`` alone gets a gradient.
    """
    gap_T = log_p_T.detach() - log_q_T
    k3_T = gap_T.exp() - gap_T - 1
    if sampled_log_q_T is None:
        return k3_T
    return (log_q_T - sampled_log_q_T.detach()).exp() * k3_T


def reduction_weights(lengths: Sequence[int], reduction: Reduction, max_tokens: int) -> list[float]:
    """Weight of each token of a completion in the mean over the step's tokens.

    The loop divides the step's sum by its N tokens, whatever it learns. With these weights w_i on
    the tokens of completion i, out of S completions with lengths |y_i| >= 1, the outcome is

        token     sum_i sum_t loss_it / N               w_i = 1                   DAPO
        sequence  1/S sum_i 1/|y_i| sum_t loss_it       w_i = N / (S |y_i|)       GRPO
        constant  sum_i sum_t loss_it / (S max_tokens)  w_i = N / (S max_tokens)  Dr. GRPO

    ``sequence`` lets a token of a long completion count less, so long wrong ones are punished less
    a token; ``constant`` does not (arXiv 2503.20783), and neither does ``token``.
    """
    total, count = sum(lengths), len(lengths)
    if reduction == "sequence":
        return [total / (count * length) for length in lengths]
    if reduction == "constant":
        return [total / (count * max_tokens)] * count
    return [1.0] * count


def least_likely(log_q_T: PerToken, share: float) -> Bool[Tensor, " T"]:
    """The least likely tokens: exactly round(share T) of them, the earlier first among equals."""
    chosen_T = torch.zeros_like(log_q_T, dtype=torch.bool)
    chosen_T[log_q_T.argsort(stable=True)[: round(share * len(log_q_T))]] = True
    return chosen_T
