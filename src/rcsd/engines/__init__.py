"""Engines sample completions. An engine is anything with `Engine`'s methods."""

from collections.abc import Sequence
from typing import Protocol, runtime_checkable

from rcsd.types import Completion, Decoding


@runtime_checkable
class Engine(Protocol):
    """What samples completions of prompts that are token ids."""

    def sample(
        self, prompts: Sequence[Sequence[int]], decoding: Decoding, seed: int
    ) -> list[Completion]:
        """One completion for each prompt, in the same order; the same for the same seed."""
        ...


def sampling_seed(seed: int, step: int) -> int:
    """A seed for each step of a run, so that a resumed run draws what an unbroken one would."""
    return (seed * 1_000_003 + step) % (2**31 - 1)
