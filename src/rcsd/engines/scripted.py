"""An engine with given completions, for tests."""

from collections.abc import Sequence
from itertools import cycle, islice

from rcsd.types import Completion, Decoding


class ScriptedEngine:
    """Returns given completions in turn, again and again, cut off at the token limit."""

    def __init__(self, completions: Sequence[Completion]) -> None:
        self._script = cycle(completions)

    def sync(self, version: int) -> None:
        """Nothing depends on weights."""

    def sample(
        self, prompts: Sequence[Sequence[int]], decoding: Decoding, seed: int, first: int = 0
    ) -> list[Completion]:
        """The next completions of the script."""
        limit = decoding.max_tokens
        return [
            c if len(c.token_ids) <= limit else Completion(c.token_ids[:limit], c.text, False)
            for c in islice(self._script, len(prompts))
        ]
