"""Engines sample completions. An engine is anything with `Engine`'s methods."""

from collections.abc import Sequence
from typing import Protocol, runtime_checkable

from rcsd.types import Completion, Decoding


@runtime_checkable
class Engine(Protocol):
    """What samples completions of prompts that are token ids."""

    def sample(
        self, prompts: Sequence[Sequence[int]], decoding: Decoding, seed: int, first: int = 0
    ) -> list[Completion]:
        """One completion for each prompt, in the same order; the same for the same seed.

        Args:
            prompts: Token ids.
            decoding: How completions are drawn.
            seed: Of the draws.
            first: Index of the first prompt among all that are asked with the seed, by other
                engines too: each prompt's draws hang on the seed and on its own index.
        """
        ...


@runtime_checkable
class PolicyEngine(Engine, Protocol):
    """An engine of a policy that is trained."""

    def load(self, version: int) -> None:
        """Take up the policy's present weights, which so many steps have made.

        Completions that are sampled from now on carry the number.
        """
        ...


TopK = tuple[tuple[int, ...], tuple[float, ...]]
"""Tokens, the likeliest first, and their log-probabilities in nats at temperature 1."""


@runtime_checkable
class TopKScorer(Protocol):
    """An engine that scores tokens which it need not have sampled."""

    def top_k(
        self, prompts: Sequence[Sequence[int]], completions: Sequence[Sequence[int]], k: int
    ) -> list[list[TopK]]:
        """The likeliest tokens at each position of each completion, by the base without adapters.

        Raises:
            RunError: If the engine does not say them.
        """
        ...


def sampling_seed(seed: int, step: int) -> int:
    """A seed for each step of a run, so that a resumed run draws what an unbroken one would."""
    return (seed * 1_000_003 + step) % (2**31 - 1)
