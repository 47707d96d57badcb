"""Methods say what is learned from; the loop does not know which method runs."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Protocol, runtime_checkable

from torch import Tensor

from rcsd.data.prompts import PromptPair
from rcsd.graders.leakage import text_monitors
from rcsd.methods.rollouts import Student
from rcsd.models.packing import share, split_microbatches
from rcsd.types import Rollout


@dataclass(frozen=True)
class Batch:
    """What one optimizer step learns from.

    Args:
        rollouts: Completions with their prompts.
        metrics: What is known before the loss, by metric name.
        num_updates: How many times the optimizer learns from it, each time from all of it.
        packs: Whether its rows are packed.
    """

    rollouts: Sequence[Rollout]
    metrics: Mapping[str, float] = field(default_factory=dict)
    num_updates: int = 1
    packs: bool = False

    @property
    def num_learned_tokens(self) -> int:
        """Completion tokens of all rollouts."""
        return sum(len(rollout.completion.token_ids) for rollout in self.rollouts)

    def share(self, rank: int, world_size: int) -> "Batch":
        """What one of several processes learns from; see `rcsd.models.packing.share`."""
        return replace(self, rollouts=share(self.rollouts, rank, world_size))

    def split(self, max_tokens_per_microbatch: int) -> list[list[Rollout]]:
        """Parts that fit into memory; see `rcsd.models.packing.split_microbatches`."""
        return split_microbatches(self.rollouts, max_tokens_per_microbatch, self.packs)


@runtime_checkable
class Method(Protocol):
    """A way of learning."""

    student: Student
    """Whose completions it learns from."""

    def collect(self, prompts: Sequence[PromptPair], step: int) -> Batch:
        """What the step learns from: completions, and what the method needs to know of them."""
        ...

    def loss(
        self, microbatch: Sequence[Rollout], num_tokens: int
    ) -> tuple[Tensor, Mapping[str, Tensor]]:
        """The microbatch's share of the step's loss and metrics, both divided by ``num_tokens``.

        ``num_tokens`` counts the learned tokens of the whole step, over all micro-batches and
        ranks. So the shares of all micro-batches add up to the step's mean, however it was split.
        """
        ...


def completion_metrics(rollouts: Sequence[Rollout]) -> dict[str, float]:
    """Length and truncation of the completions, and what their texts give away."""
    lengths = [len(rollout.completion.token_ids) for rollout in rollouts]
    cut = sum(not rollout.completion.finished for rollout in rollouts)
    return {
        "completion/length_tokens_mean": sum(lengths) / len(lengths),
        "completion/length_tokens_max": float(max(lengths)),
        "completion/truncated_share": cut / len(rollouts),
        **text_monitors([(rollout.example, rollout.completion.text) for rollout in rollouts]),
    }
