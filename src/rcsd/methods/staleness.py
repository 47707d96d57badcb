"""Completions sampled by other weights than those that learn from them.

Axes: T completion tokens of all rows.
"""

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from rcsd import config
from rcsd.errors import RunError
from rcsd.types import Rollout


@dataclass(frozen=True)
class Freshness:
    """Limit on the lag of completions behind the weights that learn from them.

    Args:
        max_lag_steps: Completions that lag by at most so many steps are learned from as they are.
        cap: Largest importance weight of those that lag further; None: they end the run.
    """

    max_lag_steps: int
    cap: float | None = None

    def metrics(self, rollouts: Sequence[Rollout], step: int) -> dict[str, float]:
        """Lag of the completions in steps; empty where no version is known, or none may lag.

        ``step`` is the version of the present weights. Raises RunError if one lags too far, or
        comes from a later version.
        """
        lags = [step - v for r in rollouts if (v := r.completion.version) is not None]
        if not lags or max(lags) == min(lags) == self.max_lag_steps == 0:
            return {}
        is_far = max(lags) > self.max_lag_steps
        if min(lags) < 0 or (is_far and self.cap is None):
            version = step - (max(lags) if is_far else min(lags))
            raise RunError(
                f"step {step + 1}: the engine sampled by the weights of step {version}, and those "
                f"of step {step} learn; engine.max_lag_steps allows {self.max_lag_steps} between "
                "them. A larger one, or engine.stale {type: weight}, lets them be learned from"
            )
        stale = self.stale(rollouts, step)
        completions = [rollout.completion for rollout in rollouts if rollout.index in stale]
        if any(len(each.log_q) != len(each.token_ids) for each in completions):
            raise RunError(
                f"step {step + 1}: completions lag by {max(lags)} steps and have no "
                "log-probabilities to weight them by, since top_p, top_k or a grammar cut what was "
                "sampled from; leave these out, or raise engine.max_lag_steps"
            )
        return {
            "completion/lag_steps_mean": sum(lags) / len(lags),
            "completion/lag_steps_max": float(max(lags)),
        }

    def stale(self, rollouts: Sequence[Rollout], step: int) -> frozenset[int]:
        """Indices of the rollouts that need importance weights."""
        latest = step - self.max_lag_steps
        versions = ((rollout.index, rollout.completion.version) for rollout in rollouts)
        far = (index for index, version in versions if version is not None and version < latest)
        return frozenset(far if self.cap is not None else ())


def importance_weights(
    log_q_T: Float[Tensor, " T"], sampled_log_q_T: Float[Tensor, " T"], cap: float
) -> Float[Tensor, " T"]:
    """``min(exp(log q_now - log q_engine), cap)``, in (0, cap], without gradient.

    Both at the temperature of sampling, over the whole vocabulary; cuts and grammars are refused.
    They turn a mean over tokens of older weights into one of the present weights', as far as one
    position goes: earlier positions of a completion were visited as the older weights would. The
    cap bounds the variance and leaves a bias towards the older ones. Truncated importance sampling,
    as in TRL (``vllm_importance_sampling_mode: token_truncate``); the behaviour policy's part of
    decoupled PPO in AReaL (arXiv 2505.24298).
    """
    return (log_q_T - sampled_log_q_T).detach().exp().clamp(max=cap)


def gaps(
    log_q_T: Float[Tensor, " T"], sampled_log_q_T: Float[Tensor, " T"]
) -> dict[str, Float[Tensor, " T"]]:
    """Difference of the trainer's and the engine's log-probabilities of sampled tokens.

    With r = log q_trainer - log q_engine: |r|, and ``exp(r) - 1 - r``, whose expectation over the
    engine's samples is KL(engine||trainer), and which is never negative (k3 of Schulman, 2020,
    joschu.net/blog/kl-approx.html).
    """
    log_ratio_T = (log_q_T - sampled_log_q_T).detach()
    return {
        "engine/log_q_gap_nats_mean": log_ratio_T.abs(),
        "engine/kl_nats_mean": torch.expm1(log_ratio_T) - log_ratio_T,
    }


def build_freshness(engine: config.AnyEngine, overlap: bool) -> Freshness:
    """The limit that a run's engine section sets."""
    stale = getattr(engine, "stale", None)
    cap = stale.cap if isinstance(stale, config.WeightStale) else None
    limit = getattr(engine, "max_lag_steps", None)
    return Freshness(int(overlap) if limit is None else limit, cap)


def warn_of_drift(engine: config.AnyEngine, metrics: Mapping[str, float]) -> None:
    """Warn if engine and trainer differ on a step's completions that do not lag."""
    gap, allowed = metrics.get("engine/log_q_gap_nats_mean", 0.0), engine.max_gap_nats
    if gap > allowed and metrics.get("completion/lag_steps_max", 0.0) == 0:
        warnings.warn(
            f"engine and trainer differ by {gap:.3g} nats a sampled token, and engine.max_gap_nats "
            f"allows {allowed:.3g}: completions come from another policy than the one that learns",
            RuntimeWarning,
            stacklevel=2,
        )
