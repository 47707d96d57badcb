"""Engines sample completions. An engine is anything with `Engine`'s methods."""

from collections.abc import Sequence
from typing import Protocol

from rcsd.types import Completion, Decoding


class Engine(Protocol):
    """What samples completions of prompts that are token ids."""

    def sample(
        self, prompts: Sequence[Sequence[int]], decoding: Decoding, seed: int
    ) -> list[Completion]:
        """One completion for each prompt, in the same order; the same for the same seed."""
        ...
