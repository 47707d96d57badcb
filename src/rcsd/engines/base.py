"""Protocols of the engines that sample completions."""

from collections.abc import Sequence
from typing import Protocol, runtime_checkable

from rcsd.types import Completion, Decoding


@runtime_checkable
class Engine(Protocol):
    """Samples completions of prompts that are token ids."""

    def sample(
        self, prompts: Sequence[Sequence[int]], decoding: Decoding, seed: int, first: int = 0
    ) -> list[Completion]:
        """One completion for each prompt, in the same order; the same for the same seed.

        ``first`` is the index of the first prompt among all that are sampled with the seed, by
        other engines too: each prompt's draws depend on the seed and its own index.
        """
        ...


@runtime_checkable
class PolicyEngine(Engine, Protocol):
    """An engine of a policy that is trained."""

    def sync(self, version: int) -> None:
        """Sample from the policy's present weights from now on.

        Completions carry the version: the optimizer step that the weights come from.
        """
        ...


def sampling_seed(seed: int, step: int) -> int:
    """A seed for each step of a run, so that a resumed run samples as an uninterrupted one."""
    return (seed * 1_000_003 + step) % (2**31 - 1)
