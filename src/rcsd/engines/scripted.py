"""An engine that says what it was told to: for tests and dry runs."""

from collections.abc import Sequence

from rcsd.types import Completion, Decoding


class ScriptedEngine:
    """Returns given completions in turn, from the start again when they are used up.

    Args:
        completions: What it says; at least one.
    """

    def __init__(self, completions: Sequence[Completion]) -> None:
        if not completions:
            raise ValueError("a scripted engine needs at least one completion")
        self._completions, self._next = list(completions), 0

    def sync(self, version: int) -> None:
        """Nothing depends on weights."""

    def sample(
        self,
        prompts: Sequence[Sequence[int]],
        decoding: Decoding,
        seed: int,
        first: int = 0,
    ) -> list[Completion]:
        """The next completions of the script, cut off at the token limit."""
        completions = []
        for _ in prompts:
            completion = self._completions[self._next % len(self._completions)]
            self._next += 1
            if len(completion.token_ids) > decoding.max_tokens:
                cut = completion.token_ids[: decoding.max_tokens]
                completion = Completion(cut, completion.text, finished=False)
            completions.append(completion)
        return completions
