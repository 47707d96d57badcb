"""Prompts sharded among the ranks of a run."""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext

from rcsd.distributed import Ranks, Result
from rcsd.engines.base import PolicyEngine
from rcsd.training.fsdp import Sharding
from rcsd.training.prefetch import Prefetch
from rcsd.types import Completion, Decoding


class ShardedEngine:
    """Each rank samples its shard of the prompts; all ranks get all completions.

    Where the engine draws for each prompt by itself (`rcsd.engines.local`), completions do not
    depend on the number of ranks. ``sharding`` gathers weights that FSDP2 has sharded;
    ``holds_copy`` says that the engine holds its own copy of them.
    """

    def __init__(
        self,
        engine: PolicyEngine,
        ranks: Ranks,
        sharding: Sharding | None = None,
        holds_copy: bool = False,
    ) -> None:
        self._engine, self._ranks = engine, ranks
        self._sharding, self._holds_copy = sharding, holds_copy

    def shard(
        self, prompts: Sequence[Sequence[int]], decoding: Decoding, seed: int, first: int = 0
    ) -> tuple[Sequence[Sequence[int]], Decoding, int, int]:
        """Arguments of this rank's `sample`."""
        share = self._ranks.share(len(prompts))
        return prompts[share], decoding, seed, first + share.start

    def sample(
        self, prompts: Sequence[Sequence[int]], decoding: Decoding, seed: int, first: int = 0
    ) -> list[Completion]:
        """One completion for each prompt, in the same order."""
        request = self.shard(prompts, decoding, seed, first)

        def sample_shard() -> list[Completion]:
            return self._engine.sample(*request) if request[0] else []

        with self._all_weights():
            shards = self._on_all_ranks(sample_shard)
        return [completion for shard in shards for completion in shard]

    def sync(self, version: int) -> None:
        """Push the policy's weights to engines that hold their own copy.

        A barrier before (no rank still samples with the old weights) and after (no rank samples
        until the new ones are loaded).
        """
        if isinstance(self._engine, Prefetch):
            self._on_all_ranks(self._engine.finish)
        with self._all_weights() if self._holds_copy else nullcontext():
            self._on_all_ranks(lambda: self._engine.sync(version))

    def _on_all_ranks(self, work: Callable[[], Result]) -> list[Result]:
        """Results of all ranks; a request to end is acted on at once, where it is safe to stop."""

        def interruptible_work() -> Result:
            with self._ranks.interrupts.interruptible():
                return work()

        return self._ranks.all_gather_results(interruptible_work)

    def _all_weights(self) -> AbstractContextManager[None]:
        return nullcontext() if self._sharding is None else self._sharding.unsharded()
