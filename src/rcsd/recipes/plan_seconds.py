"""Seconds of a planned step, measured on this machine with shallow copies of the model."""

import contextlib
import copy
import dataclasses
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from transformers import AutoModelForCausalLM

from rcsd import config
from rcsd.engines.local import LocalEngine
from rcsd.errors import ConfigError
from rcsd.models.hub import model_folder
from rcsd.models.logits import target_log_q
from rcsd.models.packing import packed, padded
from rcsd.models.policy import Policy, build_policy, checkpoint_activations, load_tokenizer
from rcsd.models.scorer import Scorer, evaluating
from rcsd.recipes.plan import Plan
from rcsd.types import Decoding

TIMED_TOKENS = 16
"""Decoding steps that are timed."""
TRIES = 3
"""Repetitions of each measurement; the fastest counts, since other programs may run too."""


def measure_seconds(plan: Plan, clock: Callable[[], float] = time.perf_counter) -> dict[str, float]:
    """Seconds by phase of one process at mean lengths, without exchange between processes.

    Copies of the model with one and with two layers, at full width and with random weights, run
    each phase; a phase takes t_1 + (layers - 1) (t_2 - t_1).

    Args:
        plan: The step.
        clock: Seconds; a process clock where other programs share the CPU.

    Raises:
        ConfigError: If another engine than local or hf samples, or weights are sharded.
    """
    settings, layers = plan.settings, plan.model.layers
    if not isinstance(settings.engine, config.LocalEngine | config.HfEngine):
        raise ConfigError("--seconds times the engines local and hf; set engine: {type: local}")
    if settings.processes.sharding != "none":
        raise ConfigError("--seconds times one process; set processes.sharding: none")
    one, two = (_Timed(plan, num, clock).seconds() for num in (1, 2))
    return {name: t + max(0.0, two[name] - t) * (layers - 1) for name, t in one.items()}


class _Timed:
    """Phases of a step with so many layers."""

    def __init__(self, plan: Plan, num_layers: int, clock: Callable[[], float]) -> None:
        self.plan, self.clock = plan, clock
        self.policy = _shallow_policy(plan, num_layers)
        self.scorer, work, lengths = Scorer(self.policy.model), plan.work, plan.lengths
        self.trained = list(self.policy.trainable.values())
        self.optimizer = torch.optim.AdamW(self.trained, lr=1e-6)
        self.mean = max(1, round(lengths.completion))
        prompts = round(lengths.student), round(lengths.teacher)
        parts = work.microbatches(*prompts, self.mean)
        self.part = max(parts, key=len)
        self.rollouts = [rollout for part in parts for rollout in part]

    def seconds(self) -> dict[str, float]:
        """Seconds by phase."""
        work = self.plan.work
        seconds = {"sampling": self._sampling()} if work.samples else {}
        num_parts = len(self.rollouts) / len(self.part)
        with self._autocast():
            if passes := work.teacher_passes + work.frozen_passes:
                seconds["teacher"] = num_parts * passes * self._best(self._teacher_pass)
            seconds["student"] = num_parts * work.updates * self._best(self._student_pass)
        seconds["update"] = work.updates * self._best(self._update)
        return seconds

    def _sampling(self) -> float:
        """Prompts once, then a token at a time; prompts are as long as the mean context."""
        settings = self.plan.settings
        rows = min(settings.engine.batch_size, len(self.rollouts))
        prompts = [
            (*r.student_ids, *r.completion.token_ids[: self.mean // 2])
            for r in self.rollouts[:rows]
        ]
        engine, sampling = LocalEngine(self.policy, rows, self._autocast), settings.sampling
        drawn = (sampling.temperature, sampling.top_p, sampling.top_k)
        first, more = (
            self._best(lambda n=n: engine.sample(prompts, Decoding(n, *drawn), 0))
            for n in (1, 1 + TIMED_TOKENS)
        )
        batches = -(-len(self.rollouts) // rows)
        return batches * (first + (self.mean - 1) * (more - first) / TIMED_TOKENS)

    def _teacher_pass(self) -> None:
        """Targets without gradient: the top k, or one look at the vocabulary."""
        with evaluating(self.scorer):
            predictions = self._predictions([r.teacher_ids for r in self.part])
            size = max(1, self.plan.work.support)
            predictions.mapped(lambda logits_TV: logits_TV.topk(size).indices)

    def _student_pass(self) -> None:
        """A loss on K logits a position, or over the vocabulary, with its backward pass."""
        work = self.plan.work
        predictions = self._predictions([r.student_ids for r in self.part])
        size = (len(predictions), max(1, work.support))
        ids_TK = torch.randint(self.policy.vocab_size, size, device=self.policy.device)
        if work.is_sparse and work.support:
            loss_T = -predictions.logits_at(ids_TK).log_softmax(-1).mean(-1)
        else:
            loss_T = -target_log_q(predictions, ids_TK[:, 0], 1.0)
        loss_T.mean().backward()

    def _update(self) -> None:
        """Clip the gradient and step AdamW."""
        torch.nn.utils.clip_grad_norm_(self.trained, 1.0)
        self.optimizer.step()

    def _predictions(self, prompts: Sequence[tuple[int, ...]]) -> Any:
        policy, completions = self.policy, [r.completion.token_ids for r in self.part]
        if policy.packs:
            return self.scorer(packed(prompts, completions, policy.device))
        return self.scorer(padded(prompts, completions, policy.pad_id, policy.device))

    def _autocast(self) -> torch.autocast:
        is_mixed = self.plan.settings.precision == "bf16"
        return torch.autocast(self.policy.device.type, torch.bfloat16, enabled=is_mixed)

    def _best(self, work: Callable[[], object]) -> float:
        tried = []
        for _ in range(TRIES + 1):  # the first warms up
            began = self.clock()
            work()
            if self.policy.device.type == "cuda":
                torch.cuda.synchronize(self.policy.device)
            tried.append(self.clock() - began)
        return min(tried[1:])


def _shallow_policy(plan: Plan, num_layers: int) -> Policy:
    """The run's model with few layers and random weights."""
    section, hf_config = plan.settings.model, copy.deepcopy(plan.model.hf_config)
    text = hf_config.get_text_config()
    text.num_hidden_layers = num_layers
    if getattr(text, "layer_types", None):
        text.layer_types = text.layer_types[:num_layers]
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    with _seeded(), device:
        model: Any = AutoModelForCausalLM.from_config(
            hf_config, dtype=getattr(torch, section.dtype), attn_implementation=section.attention
        )
    tokenizer = load_tokenizer(section, model_folder(section.path))
    policy = build_policy(model, tokenizer, section.training, packing=section.packing)
    if section.activation_checkpointing:
        checkpoint_activations(policy)
    # A token that no row draws ends nothing, so all completions are as long as planned.
    return dataclasses.replace(policy, end_ids=(policy.vocab_size,))


@contextlib.contextmanager
def _seeded() -> Iterator[None]:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        yield
