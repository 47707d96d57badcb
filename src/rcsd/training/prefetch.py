"""Sampling the next step's completions while the present step is learned from."""

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
from rcsd.types import Completion, Decoding, completion_from_row


class Prefetch:
    """An engine that begins a step's completions before they are needed, by the weights then.

    It samples from a copy of the policy that shares the frozen weights and has its own trained
    ones, so neither an optimizer step nor a teacher's swapped weights reach it; from a server,
    which has its own anyway, without a copy. The training thread copies the weights when a step is
    begun; what is sampled then depends on nothing that happens afterwards. On a GPU, where this is
    untested, both threads share the default stream, so host work overlaps, not the device's.

    Args:
        engine: Samples what was not begun, by the policy's present weights: the first step.
        section: Engine of the copy; not `hf`, which draws from the process's random numbers.
        executor: Runs what is begun; one that runs it at once gives the same completions.
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
        self._copied_engine, self._weights = engine, []
        if section.type == "vllm_server":
            return
        frozen = {id(p): p for p in policy.model.parameters() if not p.requires_grad}
        # The tokenizer is copied too: a fast one does not take two threads at a time.
        self._copy = copy.deepcopy(policy, frozen)
        self._weights = [
            (self._copy.trainable[name], student) for name, student in policy.trainable.items()
        ]
        # A parameter that needs a gradient would leave its cast in autocast's cache, which all
        # threads share.
        self._copy.model.requires_grad_(False)
        self._copied_engine = build_engine(section, self._copy, precision)

    @torch.no_grad()
    def start(
        self, prompts: Sequence[Sequence[int]], decoding: Decoding, seed: int, first: int = 0
    ) -> None:
        """Begin the next `sample`, which must have the same arguments, by the present weights."""
        for target, student in self._weights:
            target.copy_(student)
        self._copied_engine.batch_size.value = self.engine.batch_size.value
        if self._version is not None and self._copied_engine is not self.engine:
            self._copied_engine.sync(self._version)
        sample = self._copied_engine.sample
        self._begun = self._executor.submit(sample, prompts, decoding, seed, first)

    def sync(self, version: int) -> None:
        """Sync the weights for what is begun from now on."""
        self.finish()
        self.engine.sync(version)
        self._version = version

    def finish(self) -> None:
        """Wait for what was begun, if it is sampled by the engine that `sync` changes.

        The completions that the step took have been learned from by now.
        """
        self._taken = None
        if self._begun is not None and self._copied_engine is self.engine:
            wait([self._begun])

    def give_up_unanswered(self) -> None:
        """Cancel prefetched requests to a server that does not answer."""
        if (give_up := getattr(self.engine, "give_up_unanswered", None)) is not None:
            give_up()

    def sample(
        self, prompts: Sequence[Sequence[int]], decoding: Decoding, seed: int, first: int = 0
    ) -> list[Completion]:
        """The completions that were begun, waited for; else sampled by the present weights."""
        if self._begun is None:
            return self.engine.sample(prompts, decoding, seed, first)
        self._taken, self._begun = self._begun, None
        completions = self._taken.result()
        self.engine.batch_size.follow(self._copied_engine.batch_size)
        return completions

    def state(self) -> list[dict[str, Any]] | None:
        """The next step's completions, waited for: the weights that sample them will be gone.

        In the middle of a step those that it has taken. None where nothing was begun, or sampling
        failed, as the step that needs it will say.
        """
        future = self._taken or self._begun
        if future is None or future.exception() is not None:
            return None
        return [asdict(completion) for completion in future.result()]

    def load_state(self, rows: Sequence[Mapping[str, Any]]) -> None:
        """Take up a checkpoint's completions."""
        self._begun = Future()
        self._begun.set_result([completion_from_row(row) for row in rows])
