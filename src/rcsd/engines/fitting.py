"""An engine that samples in smaller batches where memory runs out."""

from collections.abc import Sequence
from typing import Protocol, runtime_checkable

from rcsd.errors import RunError
from rcsd.models.memory import AdaptiveLimit, free_memory, is_out_of_memory
from rcsd.types import Completion, Decoding


@runtime_checkable
class Batched(Protocol):
    """An engine that generates so many prompts together."""

    batch_size: int

    def sample(
        self,
        prompts: Sequence[Sequence[int]],
        decoding: Decoding,
        seed: int,
        first: int = 0,
    ) -> list[Completion]:
        """As `rcsd.engines.base.PolicyEngine`."""
        ...

    def load(self, version: int) -> None:
        """As `rcsd.engines.base.PolicyEngine`."""
        ...


class FittingEngine:
    """Halves the batches of another engine until they fit, and keeps them so.

    All prompts are then sampled anew with the same seed. Where an engine draws for each prompt by
    itself the completions do not depend on the batches; where it draws batch by batch they are
    other samples of the same policy. Never are the prompts of one call drawn with two seeds or one
    seed twice, which would make copies of completions.

    Args:
        engine: Samples.
        batch_size: Its batches; lowered where they do not fit.
    """

    def __init__(self, engine: Batched, batch_size: AdaptiveLimit) -> None:
        self.engine, self.batch_size = engine, batch_size

    def load(self, version: int) -> None:
        """As the engine does."""
        self.engine.load(version)

    def sample(
        self,
        prompts: Sequence[Sequence[int]],
        decoding: Decoding,
        seed: int,
        first: int = 0,
    ) -> list[Completion]:
        """One completion for each prompt, in the same order.

        Raises:
            RunError: If memory runs out on a single prompt.
        """
        while True:
            self.engine.batch_size = self.batch_size.value
            try:
                return self.engine.sample(prompts, decoding, seed, first)
            except RuntimeError as error:
                if not is_out_of_memory(error):
                    raise
            free_memory()
            tried = min(self.batch_size.value, len(prompts))
            if tried == 1:
                raise RunError(
                    f"out of memory while sampling up to {decoding.max_tokens} tokens after a "
                    f"single prompt of up to {max(map(len, prompts))}; lower sampling.max_tokens "
                    "or sampling.max_prompt_tokens (of an evaluation: evaluation.max_tokens)"
                )
            self.batch_size.lower(tried // 2)
