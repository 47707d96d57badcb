"""Analyses of the teacher's view, written by the frozen weights and cached on disk.

An analysis is written once for each example; its tokens become a turn of the teacher's prompt as
they were sampled.
"""

from collections.abc import Sequence
from pathlib import Path

from rcsd import config
from rcsd.data.prompts import CONVERSATIONS, PromptPair, prompt_key
from rcsd.data.views import PromptTemplates, continued_ids
from rcsd.distributed import Ranks
from rcsd.engines.base import Engine
from rcsd.errors import DataError
from rcsd.io import append_rows, digest, read_rows, write_rows
from rcsd.models.policy import Policy
from rcsd.types import Completion, Decoding


def with_analyses(
    prompts: Sequence[PromptPair],
    views: config.Views,
    policy: Policy,
    engine: Engine,
    cache: Path,
    max_tokens: int,
    ranks: Ranks = Ranks(),  # noqa: B008 (one process alone)
) -> tuple[list[PromptPair], int]:
    """Teacher prompts that go on after the teacher's own analysis.

    Must be called while the policy has the frozen weights.

    Args:
        prompts: Of `build_prompts`; the teacher's prompt asks for the analysis.
        views: The views.
        policy: Its weights are part of the cache's fingerprint.
        engine: Writes what the cache lacks, greedily.
        cache: Folder of cached analyses.
        max_tokens: Longest teacher prompt.
        ranks: The processes, all of which ask the engine; the main one has the cache.

    Returns:
        The prompts, and how many analyses were cut off at ``views.max_analysis_tokens``.
    """
    words = PromptTemplates(views.templates)
    shown = [prompt.teacher_ids for prompt in prompts]
    analyses: dict[Sequence[int], Completion] | AnalysisCache = {}

    def unwritten() -> list[tuple[int, ...]]:
        nonlocal analyses
        analyses = AnalysisCache(cache, policy, views.max_analysis_tokens)
        return [ids for ids in shown if ids not in analyses]

    missing = ranks.on_main(unwritten)
    for start in range(0, len(missing), 256):
        asked = missing[start : start + 256]
        decoding = Decoding(max_tokens=views.max_analysis_tokens)
        for ids, completion in zip(asked, engine.sample(asked, decoding, seed=0), strict=True):
            if ranks.is_main:
                analyses[ids] = completion
    continued, num_cut = [], 0
    found = ranks.on_main(lambda: [analyses[ids] for ids in shown])
    for prompt, analysis in zip(prompts, found, strict=True):
        num_cut += not analysis.finished
        turn = analysis.token_ids[:-1] if analysis.finished else analysis.token_ids
        _, analysing, now = CONVERSATIONS[views.writes]
        conversation = analysing(prompt.example, views.teacher, words)
        ids = continued_ids(policy.tokenizer, conversation, list(turn), now(words))
        if len(ids) > max_tokens:
            raise DataError(
                f"example {prompt.example.id!r}: with its analysis the teacher's prompt has "
                f"{len(ids)} tokens, and there is room for {max_tokens}; lower "
                "views.max_analysis_tokens or sampling.max_prompt_tokens",
                field="views.analysis",
            )
        continued.append(PromptPair(prompt.example, prompt.student_ids, tuple(ids)))
    return continued, num_cut


class AnalysisCache:
    """Analyses on disk, one JSON row each, keyed by the prompt's token ids.

    The file's name is a fingerprint of the weights and the token limit; prompt ids hold the words,
    the chat format and the example. So what was written by other weights or for other words is
    never found.

    Raises:
        DataError: If a line of the file cannot be read.
    """

    def __init__(self, folder: Path, policy: Policy, max_tokens: int) -> None:
        fingerprint = f"{policy.weights_sha256} {max_tokens} greedy"
        self._path = folder / f"{digest(fingerprint)[:24]}.jsonl"
        self._rows: dict[str, Completion] = {}
        try:
            rows = read_rows(self._path)
            # What a kill cut off is dropped, and written anew.
            write_rows(self._path, rows)
            for row in rows:
                found = Completion(tuple(row["token_ids"]), row["text"], row["finished"])
                self._rows[row["key"]] = found
        except (ValueError, KeyError, TypeError) as error:
            message = f"the cache is broken ({error}); delete the file"
            raise DataError(message, self._path) from error

    def __contains__(self, prompt: Sequence[int]) -> bool:
        return prompt_key(prompt) in self._rows

    def __getitem__(self, prompt: Sequence[int]) -> Completion:
        return self._rows[prompt_key(prompt)]

    def __setitem__(self, prompt: Sequence[int], analysis: Completion) -> None:
        self._rows[prompt_key(prompt)] = analysis
        row = {
            "key": prompt_key(prompt),
            "token_ids": list(analysis.token_ids),
            "text": analysis.text,
            "finished": analysis.finished,
        }
        append_rows(self._path, [row])
