"""One optimizer step: micro-batches that fit into memory, one gradient over all ranks."""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from accelerate import Accelerator
from torch import Tensor, nn
from torch.distributed.tensor import DTensor
from transformers import get_scheduler

from rcsd import config
from rcsd.distributed import Ranks, local
from rcsd.methods.base import Batch, Method
from rcsd.models.checkpoint import State
from rcsd.models.memory import (
    AdaptiveLimit,
    in_lockstep,
    in_microbatches,
    microbatch_limit,
    random_state,
)
from rcsd.models.packing import shortest
from rcsd.models.policy import Policy
from rcsd.types import Rollout


def build_optimizer_step(
    settings: config.Config, accelerator: Accelerator, ranks: Ranks, policy: Policy
) -> "OptimizerStep":
    """AdamW with the run's schedule, over the policy's trained weights."""
    optim = settings.optim
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
        microbatch_limit(settings.max_tokens_per_microbatch),
        ranks,
    )


@dataclass(frozen=True)
class OptimizerStep:
    """Updates the policy's weights from a batch.

    Each rank learns from its share of a batch, with the whole batch's denominator; then gradients
    are summed over ranks, once an update. So ranks may have different numbers of micro-batches, one
    that runs out of memory is repeated in smaller ones by one rank alone, and a rank without a
    share contributes a gradient of zero.

    Args:
        schedule: Learning rate; advances once a batch.
        max_grad_norm: Norm to which a larger gradient is scaled down; None: no limit.
        max_tokens_per_microbatch: Tokens of one pass; lowered where memory runs out.
    """

    accelerator: Accelerator
    policy: Policy
    optimizer: torch.optim.Optimizer
    schedule: torch.optim.lr_scheduler.LRScheduler
    max_grad_norm: float | None
    max_tokens_per_microbatch: AdaptiveLimit
    ranks: Ranks

    def __call__(self, method: Method, batch: Batch) -> dict[str, float]:
        """Update the weights as often as the batch asks for; metrics are means over the updates.

        Those of the engine are of the first, before which the weights are those that sampled.

        Raises:
            RunError: If memory runs out on a single completion.
            Terminated: If the run is asked to end, before the weights have moved.
        """
        metrics: dict[str, float] = {}

        def add(shares: Mapping[str, float], update: int) -> None:
            for name, share in shares.items():
                if not name.startswith("engine/"):
                    metrics[name] = metrics.get(name, 0.0) + share / batch.num_updates
                elif update == 0:
                    metrics[name] = metrics.get(name, 0.0) + share

        for update in range(batch.num_updates):
            # Each rank's gradient of its share. Only before the first update a run may stop.
            with self.ranks.interrupts.safe_to_stop(update == 0):
                shares = self.ranks.all_gather_results(
                    lambda: self._backward(method, batch), has_collectives=self.ranks.lockstep
                )
            for of_microbatch in (each for of_rank in shares for each in of_rank):
                add(of_microbatch, update)

            # The gradient of the batch; FSDP2 has summed it in the backward pass.
            if not self.ranks.lockstep:
                gradients = [p.grad for p in self.policy.trainable.values() if p.grad is not None]
                self.ranks.all_reduce_sum(gradients)
            limit = float("inf") if self.max_grad_norm is None else self.max_grad_norm
            norm = nn.utils.clip_grad_norm_(list(self.policy.trainable.values()), limit)
            norm = norm.full_tensor() if isinstance(norm, DTensor) else norm
            add({"optim/grad_norm": float(norm)}, update)
            self.optimizer.step()
            self.optimizer.zero_grad()
        metrics["optim/lr"] = float(self.schedule.get_last_lr()[0])
        self.schedule.step()
        return metrics

    def _backward(self, method: Method, batch: Batch) -> list[dict[str, float]]:
        """Accumulate the gradient of this rank's share; returns each micro-batch's metrics."""
        restore_random_state = random_state(self.policy.device)
        local_batch = batch.share(self.ranks.rank, self.ranks.world_size)

        def begin() -> None:
            # A pass that ran out of memory has left the gradient of some micro-batches.
            self.optimizer.zero_grad()
            restore_random_state()

        def backward(microbatch: list[Rollout], counts: bool = True) -> Mapping[str, Tensor]:
            self.ranks.interrupts.check()
            loss, shares = method.loss(microbatch, batch.num_learned_tokens)
            self.accelerator.backward(loss if counts else 0 * loss)
            return shares

        if self.ranks.lockstep:
            microbatches = local_batch.split(self.max_tokens_per_microbatch.value)
            shares = in_lockstep(microbatches, shortest(batch.rollouts), self.ranks, backward)
        else:
            shares = in_microbatches(
                local_batch.split, self.max_tokens_per_microbatch, backward, begin
            )
            for parameter in self.policy.trainable.values():
                # Contiguous, to be summed; zero where this rank has learned nothing.
                grad = torch.zeros_like(parameter) if parameter.grad is None else parameter.grad
                parameter.grad = grad.contiguous()
        return [{name: float(share) for name, share in each.items()} for each in shares]

    def weights(self) -> dict[str, Tensor]:
        """The trained weights, as `load_weights` takes them."""
        return {f"weights/{name}": p for name, p in self.policy.trainable.items()}

    def load_weights(self, state: State) -> None:
        """Replace the trained weights."""
        for name, value in state.part("weights").items():
            local(self.policy.trainable[name].data).copy_(value)

    def state(self) -> State:
        """Weights, the optimizer's moments by parameter, and the position in the schedule."""
        tensors = self.weights()
        for name, parameter in self.policy.trainable.items():
            for key, value in self.optimizer.state.get(parameter, {}).items():
                tensors[f"optimizer/{key}/{name}"] = value
        values = self.schedule.state_dict()
        schedule = {key: values[key] for key in ("last_epoch", "_step_count", "_last_lr")}
        return State(tensors, {"schedule": schedule})

    def load(self, state: State) -> None:
        """Load what `state` gave."""
        trainable = self.policy.trainable
        self.load_weights(state)
        for place, value in state.part("optimizer").items():
            key, _, name = place.partition("/")
            parameter = trainable[name]
            moment = value  # a count of steps
            if value.dim() > 0:  # on the parameter's device, in its sharding
                moment = torch.zeros_like(parameter, dtype=value.dtype)
                local(moment).copy_(value)
            self.optimizer.state[parameter][key] = moment
        schedule = state.values["schedule"]
        self.schedule.load_state_dict({**self.schedule.state_dict(), **schedule})
        for group, rate in zip(self.optimizer.param_groups, schedule["_last_lr"], strict=True):
            group["lr"] = rate
