"""Completions that other weights sampled than those that learn from them.

Axes: T completion tokens of all rows.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from rcsd import config
from rcsd.errors import RunError
from rcsd.types import Rollout


@dataclass(frozen=True)
class Freshness:
    """How far completions may lag behind the weights that learn from them.

    Args:
        max_lag_steps: They are learned from as they are while they lag by at most so many steps.
        cap: Largest importance weight of what lags further; None: it ends the run.
    """

    max_lag_steps: int
    cap: float | None = None

    def metrics(self, rollouts: Sequence[Rollout], step: int) -> dict[str, float]:
        """By how many steps completions lag; empty where nobody counts, or none may lag.

        Args:
            rollouts: Of a step.
            step: Steps that have made the present weights.

        Raises:
            RunError: If one lags too far, or comes from weights that are still to be made.
        """
        lags = [lag for rollout in rollouts if (lag := _lag(rollout, step)) is not None]
        if not lags or max(lags) == min(lags) == self.max_lag_steps == 0:
            return {}
        far = max(lags) > self.max_lag_steps
        if min(lags) < 0 or (far and self.cap is None):
            version = step - (max(lags) if far else min(lags))
            raise RunError(
                f"step {step + 1}: the engine sampled by the weights of step {version}, and those "
                f"of step {step} learn; engine.max_lag_steps allows {self.max_lag_steps} between "
                "them. A larger one, or engine.stale {type: weight}, lets them be learned from"
            )
        if far and not all(
            _tells(rollout) for rollout in rollouts if self._is_stale(rollout, step)
        ):
            raise RunError(
                f"step {step + 1}: completions lag by {max(lags)} steps and have no "
                "log-probabilities to weight them by, since top_p, top_k or a grammar cut what was "
                "sampled from; leave these out, or raise engine.max_lag_steps"
            )
        return {
            "completion/lag_steps_mean": sum(lags) / len(lags),
            "completion/lag_steps_max": float(max(lags)),
        }

    def stale(self, rollouts: Sequence[Rollout], step: int) -> set[int]:
        """Identities (`id`) of the rollouts that are to be weighted."""
        return {id(rollout) for rollout in rollouts if self._is_stale(rollout, step)}

    def _is_stale(self, rollout: Rollout, step: int) -> bool:
        return self.cap is not None and (_lag(rollout, step) or 0) > self.max_lag_steps


def importance_weights(
    log_q_T: Float[Tensor, " T"], sampled_log_q_T: Float[Tensor, " T"], cap: float
) -> Float[Tensor, " T"]:
    """``min(exp(log q_now - log q_engine), cap)``, in (0, cap], without gradient.

    They turn a mean over tokens of older weights into one of the present weights', as far as one
    position goes: earlier positions of a completion were visited as the older weights would. The
    cap bounds the variance and leaves a bias towards the older ones. Truncated importance sampling,
    as in TRL (``vllm_importance_sampling_mode: token_truncate``); the behaviour policy's part of
    decoupled PPO in AReaL (arXiv 2505.24298).

    Args:
        log_q_T: Log-probabilities of the sampled tokens by the present weights, in nats.
        sampled_log_q_T: By those that sampled, as the engine says.
        cap: Above 0.
    """
    return (log_q_T - sampled_log_q_T).detach().exp().clamp(max=cap)


def gaps(
    log_q_T: Float[Tensor, " T"], sampled_log_q_T: Float[Tensor, " T"]
) -> dict[str, Float[Tensor, " T"]]:
    """How far the trainer's log-probabilities of sampled tokens are from the engine's.

    With r = log q_trainer - log q_engine: |r|, and ``exp(r) - 1 - r``, whose expectation over the
    engine's samples is KL(engine||trainer), and which is never negative (k3 of Schulman, 2020,
    joschu.net/blog/kl-approx.html).
    """
    log_ratio_T = (log_q_T - sampled_log_q_T).detach()
    return {
        "engine/log_q_gap_nats_mean": log_ratio_T.abs(),
        "engine/kl_nats_mean": torch.expm1(log_ratio_T) - log_ratio_T,
    }


def freshness_of(engine: config.AnyEngine, overlap: bool) -> Freshness:
    """What a run's engine allows."""
    stale = getattr(engine, "stale", None)
    cap = stale.cap if isinstance(stale, config.WeightStale) else None
    return Freshness(config.max_lag_steps(engine, overlap), cap)


def _lag(rollout: Rollout, step: int) -> int | None:
    version = rollout.completion.version
    return None if version is None else step - version


def _tells(rollout: Rollout) -> bool:
    return len(rollout.completion.log_q) == len(rollout.completion.token_ids)
