"""The interface of a training method; the loop does not know which one runs."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Protocol, runtime_checkable

from torch import Tensor

from rcsd.data.prompts import PromptPair
from rcsd.graders.leakage import text_metrics
from rcsd.methods.rollouts import RolloutWorker
from rcsd.models.packing import share, split_microbatches
from rcsd.types import Rollout


@dataclass(frozen=True)
class Batch:
    """The rollouts of one optimizer step.

    Args:
        num_updates: Number of optimizer updates, each from all rollouts.
    """

    rollouts: Sequence[Rollout]
    metrics: Mapping[str, float] = field(default_factory=dict)
    num_updates: int = 1
    packs: bool = False

    @property
    def num_learned_tokens(self) -> int:
        """Completion tokens of all rollouts: the denominator of the step's loss."""
        return sum(len(rollout.completion.token_ids) for rollout in self.rollouts)

    def share(self, rank: int, world_size: int) -> "Batch":
        """The rollouts that one rank learns from; see `rcsd.models.packing.share`."""
        return replace(self, rollouts=share(self.rollouts, rank, world_size))

    def split(self, max_tokens_per_microbatch: int) -> list[list[Rollout]]:
        """Micro-batches that fit into memory; see `rcsd.models.packing.split_microbatches`."""
        return split_microbatches(self.rollouts, max_tokens_per_microbatch, self.packs)


@runtime_checkable
class Method(Protocol):
    """A training method."""

    worker: RolloutWorker
    """Samples and scores the completions that the method learns from."""

    def collect(self, prompts: Sequence[PromptPair], step: int) -> Batch:
        """Completions for the prompts, with the signals that the loss needs of the whole step."""
        ...

    def loss(
        self, microbatch: Sequence[Rollout], num_tokens: int
    ) -> tuple[Tensor, Mapping[str, Tensor]]:
        """The micro-batch's share of the step's loss and metrics, both divided by ``num_tokens``.

        ``num_tokens`` counts the learned tokens of the whole step, over all micro-batches and
        ranks. So the shares of all micro-batches add up to the step's mean, however it was split.
        """
        ...


def completion_metrics(rollouts: Sequence[Rollout]) -> dict[str, float]:
    """Length and truncation of the completions, and the text monitors."""
    lengths = [len(rollout.completion.token_ids) for rollout in rollouts]
    num_truncated = sum(not rollout.completion.finished for rollout in rollouts)
    return {
        "completion/length_tokens_mean": sum(lengths) / len(lengths),
        "completion/length_tokens_max": float(max(lengths)),
        "completion/truncated_share": num_truncated / len(rollouts),
        **text_metrics([(rollout.example, rollout.completion.text) for rollout in rollouts]),
    }
