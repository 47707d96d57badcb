"""transformers' `generate`: slow, exact, the reference."""

import contextlib
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager

import torch
from transformers import GenerationConfig, LogitsProcessorList

from rcsd.engines.backoff import BackoffEngine
from rcsd.engines.constrained import RegexMask
from rcsd.models.packing import left_padded, through_end
from rcsd.models.policy import Policy
from rcsd.models.scorer import evaluating
from rcsd.types import Completion, Decoding


class HfEngine(BackoffEngine):
    """Samples from the policy's present weights, in the process that trains them.

    Args:
        policy: The policy.
        batch_size: Prompts in a batch; prompts of like length share one.
        precision: Context of the model's passes, as in training.
    """

    def __init__(
        self,
        policy: Policy,
        batch_size: int,
        precision: Callable[[], AbstractContextManager[object]] = contextlib.nullcontext,
    ) -> None:
        super().__init__(batch_size)
        self.policy, self.precision = policy, precision
        self._masks: dict[str, RegexMask] = {}
        self._version: int | None = None

    def sync(self, version: int) -> None:
        """Note the version; the weights are the policy's own."""
        self._version = version

    def _sample(
        self, prompts: Sequence[Sequence[int]], decoding: Decoding, seed: int, first: int
    ) -> list[Completion]:
        """One generator draws all prompts of a batch, so samples depend on batches and ranks."""
        batch_size = self.batch_size.value
        order = sorted(range(len(prompts)), key=lambda index: len(prompts[index]))
        completions: list[Completion | None] = [None] * len(prompts)
        devices = [self.policy.device] if self.policy.device.type == "cuda" else []
        with self.precision(), evaluating(self.policy.model), torch.random.fork_rng(devices):
            torch.manual_seed(seed + (first << 31))  # seeds have 31 bits
            for start in range(0, len(order), batch_size):
                batch = order[start : start + batch_size]
                sampled = self._batch([prompts[index] for index in batch], decoding)
                for index, completion in zip(batch, sampled, strict=True):
                    completions[index] = completion
        return [completion for completion in completions if completion is not None]

    def _batch(self, prompts: list[Sequence[int]], decoding: Decoding) -> list[Completion]:
        policy = self.policy
        ids_BL, mask_BL = left_padded(prompts, policy.pad_id, policy.device)
        drawn = {"do_sample": False}
        if decoding.temperature is not None:
            drawn = {
                "do_sample": True,
                "temperature": decoding.temperature,
                "top_p": decoding.top_p,
                "top_k": decoding.top_k or 0,
            }
        generation = GenerationConfig(
            max_new_tokens=decoding.max_tokens,
            eos_token_id=list(policy.end_ids),
            pad_token_id=policy.pad_id,
            **drawn,
        )
        try:
            output_BL = policy.model.generate(
                input_ids=ids_BL,
                attention_mask=mask_BL,
                generation_config=generation,
                logits_processor=self._processors(decoding, len(prompts)),
            )
        except RuntimeError as error:
            if "probability tensor contains" in str(error):
                raise FloatingPointError("next-token probabilities are not numbers") from error
            raise
        return [
            Completion(
                ids,
                policy.tokenizer.decode(ids, skip_special_tokens=True),
                finished,
                self._version,
            )
            for ids, finished in through_end(output_BL[:, ids_BL.shape[1] :], policy.end_ids)
        ]

    def _processors(self, decoding: Decoding, batch_size: int) -> LogitsProcessorList:
        if decoding.regex is None:
            return LogitsProcessorList()
        policy = self.policy
        if decoding.regex not in self._masks:
            self._masks[decoding.regex] = RegexMask(
                policy.tokenizer,
                policy.vocab_size,
                policy.end_ids,
                decoding.regex,
            )
        mask = self._masks[decoding.regex]
        mask.start(batch_size)
        return LogitsProcessorList([mask])
