"""The step of RCSD's released code (its trainer over transformers and TRL), made again plainly.

What it does as that code does: one prompt and completion at a time, with gradient accumulation (its
script has ``per_device_train_batch_size 1``); the frozen teacher writes its analysis anew in every
step; the student's forward pass first, then the teacher's; logits of both at all positions of
prompt and completion; the student's entropy over the whole vocabulary, as a metric; the teacher's
top k, gathered from both and renormalised; the forward KL, each entry clamped at 0.05; the mean of
the means of the pairs.

What is ours, each time in its favour: it writes one analysis for an example, not for each of its
completions; no prompt is padded; it samples from all tokens rather than a nucleus; gradient
checkpointing, which its script has on, is tried on and off, and the faster is taken. Its script
samples by vLLM, which no contestant uses here: transformers generates, one prompt at a time as its
batches are. Guessed: that its data fill no other prompts than these.
"""

import contextlib
from typing import Any

import torch
from peft import LoraConfig, get_peft_model
from torch import Tensor
from torch.nn import functional as F
from transformers import GenerationConfig

from measuring import Stopwatch, device_here
from workload import Work, model_and_tokenizer

ENTRY_CLIP_NATS = 0.05


class Published:
    """The released code's step.

    Args:
        work: What is to be done.
        variant: One of `step.variants_of`.
    """

    def __init__(self, work: Work, variant: dict[str, Any]) -> None:
        self.work, self.settings = work, variant
        model, _ = model_and_tokenizer(work.model)
        if variant["gradient_checkpointing"]:
            model.gradient_checkpointing_enable({"use_reentrant": False})
            model.enable_input_require_grads()
        lora = LoraConfig(
            r=work.lora_rank,
            lora_alpha=2 * work.lora_rank,
            target_modules="all-linear",
            task_type="CAUSAL_LM",
        )
        self._model: Any = get_peft_model(model, lora).train()
        self._trained = [p for p in self._model.parameters() if p.requires_grad]
        self._optimizer = torch.optim.AdamW(self._trained, lr=1e-5)
        self._watch = Stopwatch(device_here())

    def run(self, num_steps: int) -> list[dict[str, float]]:
        """Seconds by phase, and tokens learned, of each step."""
        return [self._step(step) for step in range(num_steps)]

    def _step(self, step: int) -> dict[str, float]:
        work, watch, num_tokens = self.work, self._watch, 0
        with watch("step"), _precision():
            for student_ids, teacher_ids in work.prompts(step):
                asked = teacher_ids[: len(teacher_ids) - work.analysis_tokens]
                with watch("analysis"), self._model.disable_adapter():
                    teacher_BL = self._continued(asked, work.analysis_tokens)
                for _ in range(work.completions):
                    with watch("sampling"):
                        student_BL = self._continued(student_ids, work.completion_tokens)
                    completion_BT = student_BL[:, len(student_ids) :]
                    num_tokens += completion_BT.numel()
                    self._learn(student_BL, torch.cat([teacher_BL, completion_BT], dim=1))
            with watch("optimizer"):
                torch.nn.utils.clip_grad_norm_(self._trained, 1.0)
                self._optimizer.step()
                self._optimizer.zero_grad()
        return {**watch.taken(), "tokens": num_tokens}

    @torch.no_grad()
    def _continued(self, prompt: list[int], num_tokens: int) -> Tensor:
        """A prompt with exactly so many sampled tokens after it."""
        ids_BL = torch.tensor([prompt], device=device_here())
        if num_tokens == 0:
            return ids_BL
        self._model.eval()
        try:
            return self._model.generate(
                input_ids=ids_BL,
                attention_mask=torch.ones_like(ids_BL),
                generation_config=GenerationConfig(
                    max_new_tokens=num_tokens,
                    do_sample=True,
                    top_k=0,
                    eos_token_id=self._model.config.vocab_size,  # outside: none ends early
                    pad_token_id=0,
                ),
            )
        finally:
            self._model.train()

    def _learn(self, student_BL: Tensor, teacher_BL: Tensor) -> None:
        """Forward and backward pass of one pair."""
        num = self.work.completion_tokens
        with self._watch("student"):
            logits = self._model(input_ids=student_BL, use_cache=False).logits
            logits_BTV = logits[:, -num - 1 : -1]
            with torch.no_grad():
                log_q_BTV = logits_BTV.log_softmax(-1)
                _ = -(log_q_BTV.exp() * log_q_BTV).sum(-1).mean()
                del log_q_BTV
        with self._watch("teacher"), torch.no_grad(), self._model.disable_adapter():
            teacher_logits = self._model(input_ids=teacher_BL, use_cache=False).logits
            teacher_BTV = teacher_logits[:, -num - 1 : -1]
            ids_BTK = teacher_BTV.topk(self.work.top_k, dim=-1).indices
            log_p_BTK = teacher_BTV.gather(-1, ids_BTK).log_softmax(-1)
        with self._watch("student"):
            log_q_BTK = logits_BTV.gather(-1, ids_BTK).log_softmax(-1)
            terms = F.kl_div(log_q_BTK, log_p_BTK, reduction="none", log_target=True)
            loss = terms.clamp(max=ENTRY_CLIP_NATS).sum() / num
            (loss / self.work.num_completions).backward()


def _precision() -> contextlib.AbstractContextManager[Any]:
    cuda = device_here().type == "cuda"
    return torch.autocast("cuda", torch.bfloat16) if cuda else contextlib.nullcontext()
