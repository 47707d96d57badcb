"""Completions of an evaluation, kept as they come."""

from collections.abc import Sequence

from rcsd import config
from rcsd.engines.base import Engine
from rcsd.evaluation.journal import Journal
from rcsd.types import Completion, Decoding, Progress

_BATCHES_AT_ONCE = 8
"""After so many batches completions are kept."""


class Sampler:
    """Samples what the journal lacks, in calls that are as large as after a kill.

    Args:
        engine: Samples.
        journal: What there is, and where the rest is kept.
        settings: How many of each question, and how they are drawn.
        progress: Told of every call.
    """

    def __init__(
        self, engine: Engine, journal: Journal, settings: config.Evaluating, progress: Progress
    ) -> None:
        self._engine, self._journal = engine, journal
        self._settings, self._progress = settings, progress
        section = settings.engine
        batch_size = settings.batch_size if section is None else section.batch_size
        self._num_at_once = _BATCHES_AT_ONCE * batch_size

    def completions(
        self, name: str, prompts: Sequence[tuple[int, ...]]
    ) -> tuple[Sequence[Completion], Sequence[Completion]]:
        """Of a set the greedy ones, and the samples.

        Args:
            name: Of the set.
            prompts: One for each question, as token ids.
        """
        settings = self._settings
        num_greedy, num_samples = settings.num_answers(name)
        greedy = self._all(name, prompts, Decoding(settings.max_tokens)) if num_greedy else ()
        decoding = Decoding(
            settings.max_tokens, settings.temperature, settings.top_p, settings.top_k
        )
        repeated = [prompt for prompt in prompts for _ in range(num_samples)]
        return greedy, self._all(name, repeated, decoding)

    def _all(
        self, name: str, prompts: Sequence[tuple[int, ...]], decoding: Decoding
    ) -> Sequence[Completion]:
        greedy = decoding.temperature is None
        for first in range(0, len(prompts), self._num_at_once):
            done = len(self._journal.completions(name, greedy))
            part = prompts[first : first + self._num_at_once]
            if done >= first + len(part):
                continue
            self._progress(f"answer {name}", first, len(prompts), "")
            found = self._engine.sample(part, decoding, self._settings.seed, first)
            self._journal.add(name, greedy, found[done - first :])
        if prompts:
            self._progress(f"answer {name}", len(prompts), len(prompts), "")
        return self._journal.completions(name, greedy)
