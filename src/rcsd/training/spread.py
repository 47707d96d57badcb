"""An engine whose prompts are shared out among the processes of a run."""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext

from rcsd.distributed import Ranks
from rcsd.engines.base import PolicyEngine
from rcsd.types import Completion, Decoding


class Spread:
    """Each process samples for its share of the prompts, and all get all completions.

    Where the engine draws for each prompt by itself (`rcsd.engines.local`), what is sampled does
    not depend on how many processes there are.

    Args:
        engine: This process's.
        ranks: The processes; every one of them must ask for the same.
        whole: Context in which this process has all of the policy's weights.
    """

    def __init__(
        self,
        engine: PolicyEngine,
        ranks: Ranks,
        whole: Callable[[], AbstractContextManager[None]] = nullcontext,
    ) -> None:
        self.engine, self._ranks, self._whole = engine, ranks, whole

    def sync(self, version: int) -> None:
        """As the engine does."""
        self.engine.sync(version)

    def share(
        self, prompts: Sequence[Sequence[int]], decoding: Decoding, seed: int, first: int = 0
    ) -> tuple[Sequence[Sequence[int]], Decoding, int, int]:
        """What this process's engine is asked for."""
        own = self._ranks.share(len(prompts))
        return prompts[own], decoding, seed, first + own.start

    def sample(
        self,
        prompts: Sequence[Sequence[int]],
        decoding: Decoding,
        seed: int,
        first: int = 0,
    ) -> list[Completion]:
        """One completion for each prompt, in the same order."""
        request = self.share(prompts, decoding, seed, first)
        with self._whole():
            shares = self._ranks.all_gather_results(lambda: self._sampled(*request))
        return [completion for share in shares for completion in share]

    def _sampled(
        self,
        prompts: Sequence[Sequence[int]],
        decoding: Decoding,
        seed: int,
        first: int,
    ) -> list[Completion]:
        if not prompts:
            return []
        with self._ranks.interrupts.interruptible():
            return self.engine.sample(prompts, decoding, seed, first)
