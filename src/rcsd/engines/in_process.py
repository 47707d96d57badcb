"""Engines that sample from the policy's own weights: out-of-memory back-off, grammars, versions."""

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from contextlib import nullcontext

from jaxtyping import Float, Int
from torch import Tensor

from rcsd.engines.constrained import RegexMask
from rcsd.errors import RunError
from rcsd.models.memory import batch_limit, free_memory, is_out_of_memory
from rcsd.models.packing import through_end
from rcsd.models.policy import Policy
from rcsd.models.scorer import Precision
from rcsd.types import Completion, Decoding


class InProcessEngine(ABC):
    """Samples from the policy's present weights; halves its batches until they fit in memory.

    All prompts are then sampled again with the same seed. Where an engine draws for each prompt by
    itself, completions do not depend on the batches; where it draws batch by batch they are other
    samples of the same policy. Prompts of one call are never drawn with two seeds, or one seed
    twice, which would make copies of completions.
    """

    def __init__(self, policy: Policy, batch_size: int, precision: Precision = nullcontext) -> None:
        self.policy, self.precision = policy, precision
        self.batch_size = batch_limit(batch_size)
        self._masks: dict[str, RegexMask] = {}
        self._version: int | None = None

    def sync(self, version: int) -> None:
        """Note the version; the weights are the policy's own."""
        self._version = version

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
            except (RuntimeError, MemoryError) as error:
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

    def _mask(self, decoding: Decoding, num_rows: int) -> RegexMask | None:
        """A mask for rows that have seen prompts alone; None without a grammar."""
        if decoding.regex is None:
            return None
        if decoding.regex not in self._masks:
            policy = self.policy
            self._masks[decoding.regex] = RegexMask(
                policy.tokenizer, policy.vocab_size, policy.end_ids, decoding.regex
            )
        return self._masks[decoding.regex].fresh(num_rows)

    def _completions(
        self,
        prompts: Sequence[Sequence[int]],
        generated_BL: Int[Tensor, "B L"],
        log_q_BL: Float[Tensor, "B L"],
    ) -> list[Completion]:
        """Rows of sampled tokens, each after its prompt, up to their ends.

        Raises FloatingPointError if a log-probability is not a number.
        """
        completions = []
        rows = through_end(generated_BL, self.policy.end_ids), log_q_BL.tolist()
        for prompt, (ids, finished), row in zip(prompts, *rows, strict=True):
            log_q = tuple(row[: len(ids)])
            if not all(map(math.isfinite, log_q)):
                raise FloatingPointError("next-token probabilities are not numbers")
            text = self.policy.text(prompt, ids)
            completions.append(Completion(ids, text, finished, self._version, log_q))
        return completions
