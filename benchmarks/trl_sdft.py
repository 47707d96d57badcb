"""TRL's SDFTTrainer, as it is published: its phases are timed by wrapping its methods.

Its loss is the nearest to ours that it has: forward KL (``distillation_alpha`` 0 is KL(teacher ||
student) in `compute_divergence`), renormalised on a top k, which it takes of the student.
"""

import importlib
import tempfile
from collections.abc import Callable
from contextlib import AbstractContextManager, contextmanager
from typing import Any

from datasets import Dataset
from peft import LoraConfig
from transformers import TrainerCallback

from measuring import Stopwatch, device_here
from workload import Work, model_and_tokenizer, number_tokenizer, text_of

# Not every Python that we support has TRL.
sdft: Any = importlib.import_module("trl.experimental.sdft")


class Trl:
    """TRL's step.

    Args:
        work: What is to be done.
        variant: One of `step.variants_of`.
    """

    def __init__(self, work: Work, variant: dict[str, Any]) -> None:
        self.work, self.settings = work, variant
        self._folder = tempfile.TemporaryDirectory()
        self._trainer = self._built()

    def run(self, num_steps: int) -> list[dict[str, float]]:
        """Seconds by phase, and tokens learned, of each step."""
        self._trainer.args.max_steps = num_steps
        self._trainer.train_dataset = _rows(self.work, num_steps)
        steps = _timed(self._trainer, self.work)
        self._trainer.train()
        self._folder.cleanup()
        return steps

    def _built(self) -> Any:
        work, cuda = self.work, device_here().type == "cuda"
        model, _ = model_and_tokenizer(work.model)
        # No token ends a completion: the end token lies outside of the model's vocabulary.
        model.generation_config.eos_token_id = None
        end_id = model.config.vocab_size
        per_forward = self.settings["per_device_train_batch_size"]
        arguments = sdft.SDFTConfig(
            output_dir=self._folder.name,
            gradient_accumulation_steps=work.num_completions // per_forward,
            num_generations=work.completions,
            max_completion_length=work.completion_tokens,
            max_prompt_length=None,
            temperature=1.0,
            distillation_mode="topk_logits",
            distillation_topk=work.top_k,
            distillation_alpha=0.0,
            distillation_is_clip=None,
            teacher_model_kind="base",
            teacher_prompt_template="{prompt} {privileged_context}",
            learning_rate=1e-5,
            bf16=cuda,
            use_cpu=not cuda,
            shuffle_dataset=False,
            disable_tqdm=True,
            report_to=[],
            logging_strategy="no",
            save_strategy="no",
            **self.settings,
        )
        return sdft.SDFTTrainer(
            model=model,
            args=arguments,
            train_dataset=_rows(work, num_steps=1),
            processing_class=number_tokenizer(end_id, end_id),
            peft_config=LoraConfig(
                r=work.lora_rank,
                lora_alpha=2 * work.lora_rank,
                target_modules="all-linear",
                task_type="CAUSAL_LM",
            ),
        )


def _rows(work: Work, num_steps: int) -> Dataset:
    """The examples of these steps, as texts that become the prompts' ids again."""
    prompts = [prompt for step in range(num_steps) for prompt in work.prompts(step)]
    shown = [text_of(teacher[len(student) :]) for student, teacher in prompts]
    return Dataset.from_dict(
        {"prompt": [text_of(student) for student, _ in prompts], "privileged_context": shown}
    )


def _timed(trainer: Any, work: Work) -> list[dict[str, float]]:
    """The list that each step of the trainer will add its seconds to."""
    watch = Stopwatch(device_here())
    steps: list[dict[str, float]] = []
    num_tokens = 0
    score: Callable[..., Any] = trainer._compute_teacher_student_logits
    as_teacher: Callable[[], AbstractContextManager[None]] = (
        trainer._get_teacher_context_for_self_distillation
    )

    def checked(model: Any, teacher: Any, inputs: dict[str, Any]) -> Any:
        nonlocal num_tokens
        scored = score(model, teacher, inputs)
        arrived = inputs["prompt_ids"].shape[1], inputs["teacher_input_ids"].shape[1]
        expected = work.student_prefix, work.teacher_prefix + work.completion_tokens
        assert arrived == expected, f"TRL's prompts have {arrived} tokens, not {expected}"
        num_tokens += int(scored.loss_mask.sum())
        return scored

    @contextmanager
    def timed_teacher() -> Any:
        with watch("teacher"), as_teacher():
            yield

    trainer._generate_transformers = watch.wrapped("sampling", trainer._generate_transformers)
    trainer._prepare_training_batch = watch.wrapped("prepared", trainer._prepare_training_batch)
    trainer._compute_teacher_student_logits = checked
    trainer._get_teacher_context_for_self_distillation = timed_teacher
    trainer.training_step = watch.wrapped("learned", trainer.training_step)

    class Ends(TrainerCallback):
        """Takes the seconds at the end of each step."""

        def on_step_begin(self, *_: Any, **__: Any) -> None:
            self.step = watch("step")
            self.step.__enter__()

        def on_step_end(self, *_: Any, **__: Any) -> None:
            nonlocal num_tokens
            self.step.__exit__(None, None, None)
            seconds = watch.taken()
            prepared, learned = seconds.pop("prepared"), seconds.pop("learned")
            seconds["student"] = learned - prepared - seconds["teacher"]
            # What is left: clipping, the optimizer, the schedule.
            seconds["optimizer"] = seconds["step"] - learned
            steps.append({**seconds, "tokens": num_tokens})
            num_tokens = 0

    trainer.add_callback(Ends())
    return steps
