"""Ours: the parts of `rcsd.training.trainer.run`, without its files, records and evaluations."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from accelerate import Accelerator

from measuring import Stopwatch, device_here
from rcsd import config
from rcsd.config.base import override, parse
from rcsd.data.prompts import PromptPair
from rcsd.engines.base import PolicyEngine
from rcsd.engines.build import build_engine
from rcsd.methods.base import Batch, Method
from rcsd.methods.build import MethodParts, build_methods
from rcsd.models.memory import AdaptiveLimit, microbatch_limit
from rcsd.models.policy import Policy, build_policy
from rcsd.models.scorer import Scorer
from rcsd.models.teacher import build_teacher
from rcsd.types import Example
from workload import BUILTIN, Work, model_and_tokenizer

EXAMPLE = Example("random", "random tokens")


def settings_of(work: Work, overrides: Sequence[str] = ()) -> config.Config:
    """A run that does the work; ``overrides`` are those of ``rcsd train``.

    Raises:
        ConfigError: If an override is wrong.
    """
    tree: dict[str, Any] = {
        "model": {
            "path": f"builtin:{work.model}" if work.model in BUILTIN else work.model,
            "training": {"type": "lora", "rank": work.lora_rank, "alpha": 2 * work.lora_rank},
        },
        "data": {"type": "jsonl", "path": "random.jsonl"},
        "method": {"type": "distill", "support": {"type": "teacher_top_k", "k": work.top_k}},
        "sampling": {"max_tokens": work.completion_tokens},
        "optim": {"lr": 1e-5},
        "steps": 1,
        "examples_per_step": work.examples,
        "completions_per_example": work.completions,
        "precision": "bf16" if device_here().type == "cuda" else None,
        "out": "runs/benchmark",
    }
    override(tree, overrides)
    return parse(config.Config, tree, "benchmark")


@dataclass(frozen=True)
class Run:
    """What a run is made of, and what a step needs of it."""

    settings: config.Config
    accelerator: Accelerator
    policy: Policy
    method: Method
    optimizer: Any
    max_tokens_per_microbatch: AdaptiveLimit

    def time_teacher(self, watch: Stopwatch) -> None:
        """Let the watch count what objectives ask of the teacher as its phase."""
        objectives: Any = getattr(self.method, "objectives", [])
        for _, objective in objectives:
            objective.targets = watch.wrapped("teacher", objective.targets)

    def learn(self, batch: Batch, watch: Stopwatch) -> None:
        """One optimizer step as a run takes it; the teacher's time is part of the student's."""
        with watch("student"):
            for microbatch in batch.split(self.max_tokens_per_microbatch.value):
                loss, _ = self.method.loss(microbatch, batch.num_learned_tokens)
                self.accelerator.backward(loss)
        with watch("optimizer"):
            limit = self.settings.optim.max_grad_norm
            if limit is not None:
                self.accelerator.clip_grad_norm_(list(self.policy.trainable.values()), limit)
            self.optimizer.step()
            self.optimizer.zero_grad()


def run_of(
    settings: config.Config, model: Any, tokenizer: Any, engine: PolicyEngine | None = None
) -> Run:
    """The run's parts, around a model in memory.

    Args:
        settings: The run.
        model: Without adapters.
        tokenizer: Its tokenizer.
        engine: Samples; None takes the one of the settings.
    """
    policy = build_policy(model, tokenizer, settings.model.training)
    # No token ends a completion, so all have the length that was asked for.
    policy = replace(policy, end_ids=(policy.vocab_size,))
    accelerator = Accelerator(mixed_precision=settings.precision or "no")
    trained = list(policy.trainable.values())
    optimizer = torch.optim.AdamW(trained, lr=settings.optim.lr, betas=settings.optim.betas)
    scorer, optimizer = accelerator.prepare(Scorer(policy.model), optimizer)
    teacher = build_teacher(settings.teacher, policy)
    engine = engine or build_engine(settings.engine, policy, lambda: accelerator.autocast())
    limit = microbatch_limit(settings.max_tokens_per_microbatch)
    method = build_methods(
        settings, MethodParts([EXAMPLE], policy, scorer, teacher, engine, limit)
    )(0)
    return Run(settings, accelerator, policy, method, optimizer, limit)


class Ours:
    """Our step.

    Args:
        work: What is to be done.
        overrides: Of the run's configuration.
    """

    def __init__(self, work: Work, overrides: Sequence[str] = ()) -> None:
        self.work = work
        self.settings: dict[str, Any] = {"overrides": list(overrides)}
        self._run = run_of(settings_of(work, overrides), *model_and_tokenizer(work.model))
        self._watch = Stopwatch(self._run.policy.device)
        self._run.time_teacher(self._watch)

    def run(self, num_steps: int) -> list[dict[str, float]]:
        """Seconds by phase, and tokens learned, of each step."""
        return [self._step(step) for step in range(num_steps)]

    def _step(self, step: int) -> dict[str, float]:
        prompts = [
            PromptPair(EXAMPLE, tuple(student), tuple(teacher))
            for student, teacher in self.work.prompts(step)
        ]
        with self._watch("step"):
            with self._watch("sampling"):
                batch = self._run.method.collect(prompts, step)
            self._run.learn(batch, self._watch)
        seconds = self._watch.taken()
        seconds["student"] -= seconds["teacher"]
        return {**seconds, "tokens": batch.num_learned_tokens}
