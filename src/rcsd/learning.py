"""What the optimizer does with a batch: updates, each in parts that fit into memory."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from accelerate import Accelerator
from torch import Tensor

from rcsd.memory import Limit, in_parts, random_state
from rcsd.methods import Batch, Method
from rcsd.models import Policy
from rcsd.types import Rollout


@dataclass(frozen=True)
class Learner:
    """Moves the policy's weights.

    Args:
        accelerator: Runs the backward pass.
        policy: The weights.
        optimizer: Theirs, with its learning rate's schedule.
        schedule: Goes on by one with each batch.
        max_grad_norm: Norm to which a larger gradient is scaled down; None lets it be.
        tokens_per_part: Tokens of one pass; lowered where they do not fit.
    """

    accelerator: Accelerator
    policy: Policy
    optimizer: torch.optim.Optimizer
    schedule: torch.optim.lr_scheduler.LRScheduler
    max_grad_norm: float | None
    tokens_per_part: Limit

    def learn(self, method: Method, batch: Batch) -> dict[str, float]:
        """Move the weights as often as the batch asks for; metrics are means over the updates.

        Raises:
            RunError: If a single completion does not fit into memory.
        """
        metrics: dict[str, float] = {}
        for _ in range(batch.num_updates):
            for shares in self._gradient(method, batch):
                _add(metrics, shares, batch.num_updates)
            norm = {"optim/grad_norm": self._clipped_grad_norm()}
            _add(metrics, norm, batch.num_updates)
            self.optimizer.step()
            self.optimizer.zero_grad()
        metrics["optim/lr"] = float(self.schedule.get_last_lr()[0])
        self.schedule.step()
        return metrics

    def _gradient(self, method: Method, batch: Batch) -> list[Mapping[str, Any]]:
        """Add up the gradient of the whole batch; returns each part's shares of the metrics."""
        rewind = random_state(self.policy.device)

        def begin() -> None:
            # A pass that fails half-way has left a part's gradient, or half of one.
            self.optimizer.zero_grad()
            rewind()

        def learn(part: list[Rollout]) -> Mapping[str, Tensor]:
            loss, shares = method.loss(part, batch.num_learned_tokens)
            self.accelerator.backward(loss)
            return shares

        return in_parts(batch.split, self.tokens_per_part, learn, begin)

    def _clipped_grad_norm(self) -> float:
        limit = float("inf") if self.max_grad_norm is None else self.max_grad_norm
        norm = self.accelerator.clip_grad_norm_(list(self.policy.trainable.values()), limit)
        assert norm is not None  # it is for engines that clip by themselves, and none runs here
        return float(norm)


def _add(metrics: dict[str, float], shares: Mapping[str, Any], num: int) -> None:
    for name, share in shares.items():
        metrics[name] = metrics.get(name, 0.0) + float(share) / num
