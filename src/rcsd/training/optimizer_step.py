"""What the optimizer does with a batch: updates, each in microbatches that fit into memory."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from accelerate import Accelerator
from torch import Tensor, nn
from torch.distributed.tensor import DTensor
from transformers import get_scheduler

from rcsd import config
from rcsd.distributed import Ranks, local
from rcsd.errors import RunError
from rcsd.methods.base import Batch, Method
from rcsd.models.memory import (
    AdaptiveLimit,
    in_lockstep,
    in_microbatches,
    microbatch_limit,
    random_state,
)
from rcsd.models.packing import shortest
from rcsd.models.policy import Policy
from rcsd.training.checkpoint import State
from rcsd.types import Rollout


def build_optimizer_step(
    settings: config.Config, accelerator: Accelerator, ranks: Ranks, policy: Policy
) -> "OptimizerStep":
    """AdamW with the run's schedule, over the policy's trained weights."""
    optim, tokens = settings.optim, settings.max_tokens_per_microbatch
    optimizer = torch.optim.AdamW(
        list(policy.trainable.values()),
        lr=optim.lr,
        betas=optim.betas,
        eps=optim.eps,
        weight_decay=optim.weight_decay,
    )
    name = "constant_with_warmup" if optim.schedule == "constant" else optim.schedule
    return OptimizerStep(
        accelerator,
        policy,
        accelerator.prepare(optimizer),
        get_scheduler(name, optimizer, optim.warmup_steps, settings.steps),
        optim.max_grad_norm,
        microbatch_limit(1 if tokens == "auto" else tokens),
        ranks,
    )


@dataclass(frozen=True)
class OptimizerStep:
    """Moves the policy's weights.

    Each process learns from its share of a batch, whose denominator is the whole batch's; then
    gradients are summed over processes, once an update. So their numbers of micro-batches may
    differ, one that runs out of memory is learned anew by one process alone, and a process without
    a share takes part with a gradient of zero.

    Args:
        accelerator: Runs the backward pass.
        policy: The weights.
        optimizer: Theirs, with its learning rate's schedule.
        schedule: Goes on by one with each batch.
        max_grad_norm: Norm to which a larger gradient is scaled down; None lets it be.
        max_tokens_per_microbatch: Tokens of one pass; lowered where they do not fit.
        ranks: The processes.
    """

    accelerator: Accelerator
    policy: Policy
    optimizer: torch.optim.Optimizer
    schedule: torch.optim.lr_scheduler.LRScheduler
    max_grad_norm: float | None
    max_tokens_per_microbatch: AdaptiveLimit
    ranks: Ranks

    def learn(self, method: Method, batch: Batch) -> dict[str, float]:
        """Move the weights as often as the batch asks for; metrics are means over the updates.

        Raises:
            RunError: If a single completion does not fit into memory.
            Terminated: If the run is asked to end, before the weights have moved.
        """
        metrics: dict[str, float] = {}
        trained = self.policy.trainable.values()
        for update in range(batch.num_updates):
            with self.ranks.interrupts.safe_to_stop(update == 0):
                found = self.ranks.all_gather_results(
                    lambda: self._gradient(method, batch), has_collectives=self.ranks.lockstep
                )
            for shares in (share for each in found for share in each):
                _add(metrics, shares, batch.num_updates)
            if not self.ranks.lockstep:  # there each pass has summed its own
                self.ranks.all_reduce_sum([p.grad for p in trained if p.grad is not None])
            norm = {"optim/grad_norm": self._clipped_grad_norm()}
            _add(metrics, norm, batch.num_updates)
            self.optimizer.step()
            self.optimizer.zero_grad()
        metrics["optim/lr"] = float(self.schedule.get_last_lr()[0])
        self.schedule.step()
        return metrics

    def weights(self) -> dict[str, Tensor]:
        """What `load_weights` takes up."""
        return {f"weights/{name}": p for name, p in self.policy.trainable.items()}

    def load_weights(self, state: State) -> None:
        """Put other weights in the place of the present ones."""
        trainable = self.policy.trainable
        for place, value in state.tensors.items():
            kind, _, name = place.partition("/")
            if kind == "weights":
                local(trainable[name].data).copy_(value)

    def state(self) -> State:
        """Weights and the optimizer's moments by parameter, and the place in the schedule."""
        trainable = self.policy.trainable
        tensors = self.weights()
        for name, parameter in trainable.items():
            for key, value in self.optimizer.state.get(parameter, {}).items():
                tensors[f"optimizer/{key}/{name}"] = value
        whole = self.schedule.state_dict()
        schedule = {key: whole[key] for key in ("last_epoch", "_step_count", "_last_lr")}
        return State(tensors, {"schedule": schedule})

    def load(self, state: State) -> None:
        """Go on from what `state` gave.

        Raises:
            RunError: If it is of other weights.
        """
        trainable = self.policy.trainable
        if {name for name in state.tensors if name in self.weights()} != set(self.weights()):
            raise RunError("the checkpoint lacks weights that are trained; cannot resume from it")
        self.load_weights(state)
        for place, value in state.tensors.items():
            kind, _, rest = place.partition("/")
            if kind == "optimizer":
                key, _, name = rest.partition("/")
                self.optimizer.state[trainable[name]][key] = _moment(value, trainable[name])
        schedule = state.values["schedule"]
        self.schedule.load_state_dict({**self.schedule.state_dict(), **schedule})
        for group, rate in zip(self.optimizer.param_groups, schedule["_last_lr"], strict=True):
            group["lr"] = rate

    def _gradient(self, method: Method, batch: Batch) -> list[Mapping[str, float]]:
        """Add up the gradient of this process's share; returns each microbatch's metrics.

        Values are divided by the tokens of the whole batch.
        """
        rewind = random_state(self.policy.device)
        own = batch.share(self.ranks.rank, self.ranks.world_size)

        def begin() -> None:
            # A pass that fails half-way has left a microbatch's gradient, or half of one.
            self.optimizer.zero_grad()
            rewind()

        def learn(microbatch: list[Rollout], counts: bool = True) -> Mapping[str, Tensor]:
            self.ranks.interrupts.check()
            loss, shares = method.loss(microbatch, batch.num_learned_tokens)
            self.accelerator.backward(loss if counts else 0 * loss)
            return shares

        if self.ranks.lockstep:
            divided, filler = (
                own.split(self.max_tokens_per_microbatch.value),
                shortest(batch.rollouts),
            )
            found = in_lockstep(divided, filler, self.ranks, learn)
        else:
            found = in_microbatches(own.split, self.max_tokens_per_microbatch, learn, begin)
            for parameter in self.policy.trainable.values():
                parameter.grad = _gradient_of(parameter)
        return [{name: float(share) for name, share in shares.items()} for shares in found]

    def _clipped_grad_norm(self) -> float:
        limit = float("inf") if self.max_grad_norm is None else self.max_grad_norm
        norm = nn.utils.clip_grad_norm_(list(self.policy.trainable.values()), limit)
        return float(norm.full_tensor() if isinstance(norm, DTensor) else norm)


def _gradient_of(parameter: nn.Parameter) -> Tensor:
    """As it can be summed over processes; zero where this one has learned nothing."""
    if parameter.grad is None:
        return torch.zeros_like(parameter)
    return parameter.grad.contiguous()


def _moment(value: Tensor, parameter: nn.Parameter) -> Tensor:
    """A part of the optimizer's state where its parameter lies; its count of steps stays."""
    if value.dim() == 0:
        return value
    moment = torch.zeros_like(parameter, dtype=value.dtype)
    local(moment).copy_(value)
    return moment


def _add(metrics: dict[str, float], shares: Mapping[str, Any], num: int) -> None:
    for name, share in shares.items():
        metrics[name] = metrics.get(name, 0.0) + float(share) / num
