"""An engine whose completions were begun before they are asked for."""

import contextlib
import copy
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Executor, Future, wait
from contextlib import AbstractContextManager
from dataclasses import asdict
from typing import Any

import torch

from rcsd import config
from rcsd.engines.build import BuiltEngine, build_engine
from rcsd.models.policy import Policy
from rcsd.types import Completion, Decoding, completion_of


class Prefetch:
    """Samples the next step's completions while this one is learned from, by the weights before it.

    It samples from a copy of the policy that shares the frozen weights and has its own trained
    ones, so an optimizer's step and a teacher's weights that are swapped in do not reach it; from a
    server, which has its own anyway, it samples without a copy. The copy's are set by the thread
    that learns, when a step is begun; what is sampled then depends on nothing that happens
    afterwards. On a GPU, where this is untested, both threads take the device's one default stream,
    so there what the host does overlaps, not the device's work.

    Args:
        engine: Samples by the policy's present weights what was not begun: the first step.
        section: How the copy is sampled from. Not by transformers' generate, which draws from the
            process's random numbers, as dropout does.
        policy: The student.
        executor: Runs what is begun, elsewhere; one that runs it at once gives the same.
        precision: Context in which the model runs, as it does in training.
    """

    def __init__(
        self,
        engine: BuiltEngine,
        section: config.AnyEngine,
        policy: Policy,
        executor: Executor,
        precision: Callable[[], AbstractContextManager[object]] = contextlib.nullcontext,
    ) -> None:
        self.engine, self._executor = engine, executor
        self._begun: Future[list[Completion]] | None = None
        self._taken: Future[list[Completion]] | None = None
        self._version: int | None = None
        self._behind, self._pairs = engine, []
        if section.type == "vllm_server":  # which has weights of its own
            return
        frozen = {id(p): p for p in policy.model.parameters() if not p.requires_grad}
        # The tokenizer is copied too: a fast one does not take two threads at a time.
        self._copy = copy.deepcopy(policy, frozen)
        self._pairs = [
            (self._copy.trainable[name], student) for name, student in policy.trainable.items()
        ]
        # What needs a gradient would leave its cast in autocast's cache, which all threads share.
        self._copy.model.requires_grad_(False)
        self._behind = build_engine(section, self._copy, precision)

    @torch.no_grad()
    def start(
        self, prompts: Sequence[Sequence[int]], decoding: Decoding, seed: int, first: int = 0
    ) -> None:
        """Begin what the next `sample` will be asked for, by the policy's present weights."""
        for own, student in self._pairs:
            own.copy_(student)
        self._behind.batch_size.value = self.engine.batch_size.value
        if self._version is not None and self._behind is not self.engine:
            self._behind.sync(self._version)
        self._begun = self._executor.submit(self._behind.sample, prompts, decoding, seed, first)

    def sync(self, version: int) -> None:
        """What is begun from now on is sampled by these weights; what was begun is not."""
        self.finish()
        self.engine.sync(version)
        self._version, self._taken = version, None

    def finish(self) -> None:
        """Where one engine samples both, it ends what was begun before it takes other weights."""
        if self._begun is not None and self._behind is self.engine:
            wait([self._begun])

    def sample(
        self,
        prompts: Sequence[Sequence[int]],
        decoding: Decoding,
        seed: int,
        first: int = 0,
    ) -> list[Completion]:
        """What was begun, once it is there; else by the policy's present weights.

        Raises:
            FloatingPointError: If the policy's probabilities are not numbers.
            RunError: If memory runs out on a single prompt.
        """
        if self._begun is None:
            return self.engine.sample(prompts, decoding, seed, first)
        self._taken, self._begun = self._begun, None
        completions = self._taken.result()
        self.engine.batch_size.follow(self._behind.batch_size)
        return completions

    def state(self) -> list[dict[str, Any]] | None:
        """What the next step is to learn from, waited for: its weights will be gone.

        In the middle of a step that is what the step has taken. None where nothing was begun, or
        where it failed, as the step that asks for it will say.
        """
        held = self._taken or self._begun
        if held is None or held.exception() is not None:
            return None
        return [asdict(completion) for completion in held.result()]

    def load_state(self, rows: Sequence[Mapping[str, Any]]) -> None:
        """Take up what a checkpoint kept."""
        self._begun = Future()
        self._begun.set_result([completion_of(row) for row in rows])
