"""transformers' `generate`: slow, exact, the reference."""

from collections.abc import Sequence

import torch
from torch import Tensor
from transformers import GenerationConfig, LogitsProcessor, LogitsProcessorList

from rcsd.engines.in_process import InProcessEngine
from rcsd.models.logits import gathered
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
        noted = _LogQ(decoding.temperature or 1.0)
        try:
            output_BL = policy.model.generate(
                input_ids=ids_BL,
                attention_mask=mask_BL,
                generation_config=generation,
                logits_processor=LogitsProcessorList([noted] if mask is None else [noted, mask]),
            )
        except RuntimeError as error:
            if "probability tensor contains" in str(error):
                raise FloatingPointError("next-token probabilities are not numbers") from error
            raise
        generated_BL = output_BL[:, ids_BL.shape[1] :]
        return self._completions(prompts, generated_BL, noted.log_q(output_BL))


class _LogQ(LogitsProcessor):
    """Log-probabilities of the drawn tokens, from logits before any cut; changes none."""

    def __init__(self, temperature: float) -> None:
        self._temperature = temperature
        self._columns: list[Tensor] = []
        self._scores_BV: Tensor | None = None

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        """Note the last draw, and keep what the next one is made from."""
        self._note(input_ids)
        self._scores_BV = scores / self._temperature
        return scores

    def _note(self, ids_BL: Tensor) -> None:
        if self._scores_BV is not None:
            self._columns.append(gathered(self._scores_BV, ids_BL[:, -1]))

    def log_q(self, ids_BL: Tensor) -> Tensor:
        """Log-probabilities of all draws of a finished batch, in nats."""
        self._note(ids_BL)
        return torch.stack(self._columns, 1)
