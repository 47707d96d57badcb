"""Out-of-memory back-off of the engines that sample in this process."""

from abc import ABC, abstractmethod
from collections.abc import Sequence

from rcsd.errors import RunError
from rcsd.models.memory import batch_limit, free_memory, is_out_of_memory
from rcsd.types import Completion, Decoding


class BackoffEngine(ABC):
    """Halves its batches until they fit, and keeps them so.

    All prompts are then sampled again with the same seed. Where an engine draws for each prompt by
    itself, completions do not depend on the batches; where it draws batch by batch they are other
    samples of the same policy. Prompts of one call are never drawn with two seeds, or one seed
    twice, which would make copies of completions.

    Args:
        batch_size: Prompts in a batch, at most; `batch_size.value` is lowered if memory runs out.
    """

    def __init__(self, batch_size: int) -> None:
        self.batch_size = batch_limit(batch_size)

    @abstractmethod
    def _sample(
        self, prompts: Sequence[Sequence[int]], decoding: Decoding, seed: int, first: int
    ) -> list[Completion]:
        """Sample in batches of ``self.batch_size.value``."""

    def sample(
        self, prompts: Sequence[Sequence[int]], decoding: Decoding, seed: int, first: int = 0
    ) -> list[Completion]:
        """One completion for each prompt, in the same order; see `rcsd.engines.base.Engine`.

        Raises:
            FloatingPointError: If the policy's probabilities are not numbers.
            RunError: If memory runs out on a single prompt.
        """
        while True:
            try:
                return self._sample(prompts, decoding, seed, first)
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
