"""transformers' `generate`: slow, exact, the reference."""

from collections.abc import Sequence

import torch
from transformers import GenerationConfig, LogitsProcessorList

from rcsd.engines.in_process import InProcessEngine
from rcsd.models.packing import pad_rows
from rcsd.models.scorer import evaluating
from rcsd.types import Completion, Decoding


class HfEngine(InProcessEngine):
    """Samples by `generate`; prompts of like length share a batch.

    One generator draws all prompts of a batch, so samples depend on batches and ranks.
    """

    def _sample(
        self, prompts: Sequence[Sequence[int]], decoding: Decoding, seed: int, first: int
    ) -> list[Completion]:
        batch_size = self.batch_size.value
        order = sorted(range(len(prompts)), key=lambda index: len(prompts[index]))
        completions: dict[int, Completion] = {}
        devices = [self.policy.device] if self.policy.device.type == "cuda" else []
        with self.precision(), evaluating(self.policy.model), torch.random.fork_rng(devices):
            torch.manual_seed(seed + (first << 31))  # seeds have 31 bits
            for start in range(0, len(order), batch_size):
                batch = order[start : start + batch_size]
                sampled = self._batch([prompts[index] for index in batch], decoding)
                completions |= zip(batch, sampled, strict=True)
        return [completions[index] for index in range(len(prompts))]

    def _batch(self, prompts: list[Sequence[int]], decoding: Decoding) -> list[Completion]:
        policy = self.policy
        ids_BL, mask_BL = pad_rows(prompts, policy.pad_id, "left", policy.device)
        draws = {"do_sample": False}
        if decoding.temperature is not None:
            draws = {
                "do_sample": True,
                "temperature": decoding.temperature,
                "top_p": decoding.top_p,
                "top_k": decoding.top_k or 0,
            }
        generation = GenerationConfig(
            max_new_tokens=decoding.max_tokens,
            eos_token_id=list(policy.end_ids),
            pad_token_id=policy.pad_id,
            **draws,
        )
        mask = self._mask(decoding, len(prompts))
        try:
            output_BL = policy.model.generate(
                input_ids=ids_BL,
                attention_mask=mask_BL,
                generation_config=generation,
                logits_processor=LogitsProcessorList([] if mask is None else [mask]),
            )
        except RuntimeError as error:
            if "probability tensor contains" in str(error):
                raise FloatingPointError("next-token probabilities are not numbers") from error
            raise
        return self._completions(prompts, output_BL[:, ids_BL.shape[1] :])
