"""Examples become prompts: token ids of both views, made once for the whole run.

With analysis first, the frozen weights write an analysis of the teacher's view, once for each
example and cached on disk; its tokens become a turn of the teacher's prompt as they were sampled.
"""

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from rcsd import config
from rcsd.engines import Engine
from rcsd.errors import ConfigError, DataError
from rcsd.files import append_rows, read_rows, write_rows
from rcsd.grammars import rubric_regex
from rcsd.models import Policy
from rcsd.ranks import Ranks
from rcsd.types import Completion, Decoding, Example, ViewName
from rcsd.views import (
    Words,
    analysis_conversation,
    answer_conversation,
    answer_now,
    continued_ids,
    control_token_in,
    prompt_ids,
    rubric_analysis_conversation,
    rubric_conversation,
    rubric_now,
)

# For what is written: the request, the request for an analysis, and the turn after the analysis.
_CONVERSATIONS = {
    "answer": (answer_conversation, analysis_conversation, answer_now),
    "rubric": (rubric_conversation, rubric_analysis_conversation, rubric_now),
}


@dataclass(frozen=True)
class Prompted:
    """An example with the prompts of both views, as token ids."""

    example: Example
    student_ids: tuple[int, ...]
    teacher_ids: tuple[int, ...]


@dataclass(frozen=True)
class Dropped:
    """An example that is left out, and why."""

    id: str
    reason: str


def prompted(
    examples: Iterable[Example], views: config.Views, policy: Policy, max_tokens: int
) -> tuple[list[Prompted], list[Dropped]]:
    """Prompts of all examples whose prompts fit; the others are listed.

    With ``views.analysis`` the teacher's prompt asks for the analysis: `with_analyses` goes on from
    it.

    Raises:
        DataError: If a view shows what an example lacks, or no example is left.
    """
    words = Words(views.templates)
    kept, dropped = [], []
    asking, analysing, _ = _CONVERSATIONS[views.writes]
    for example in examples:
        asked = asking(example, views.student, words)
        taught = (analysing if views.analysis else asking)(example, views.teacher, words)
        student = prompt_ids(policy.tokenizer, asked)
        teacher = student if taught == asked else prompt_ids(policy.tokenizer, taught)
        longest = max(len(student), len(teacher))
        token = control_token_in(policy.tokenizer, [*asked, *taught])
        if longest > max_tokens:
            reason = f"a prompt of {longest} tokens, and there is room for {max_tokens}"
            dropped.append(Dropped(example.id, reason))
        elif token is not None:
            dropped.append(Dropped(example.id, f"its text holds the control token {token}"))
        else:
            kept.append(Prompted(example, tuple(student), tuple(teacher)))
    if not kept:
        why = f"; the first: {dropped[0].reason}" if dropped else ""
        raise DataError(f"no example is left{why}")
    return kept, dropped


class TeacherPrompts:
    """Prompts of teachers who are shown less than the run's own.

    Args:
        views: The run's; without analysis, which would be another for each.
        policy: Its tokenizer and chat format.
    """

    def __init__(self, views: config.Views, policy: Policy) -> None:
        self._views, self._policy, self._words = views, policy, Words(views.templates)

    def of(self, example: Example) -> tuple[int, ...]:
        """The teacher's prompt; of an example without a rubric, what its view shows besides it."""
        view = self._views.teacher
        if example.rubric is None:
            view = WITHOUT_RUBRIC.get(view, view)
        conversation = _CONVERSATIONS[self._views.writes][0](example, view, self._words)
        return tuple(prompt_ids(self._policy.tokenizer, conversation))


WITHOUT_RUBRIC: Mapping[ViewName, ViewName] = {
    "rubric": "none",
    "rubric+answer": "answer",
    "solution+rubric": "solution",
}
"""What is left of a view that shows the rubric, where there is none."""


def whole_set(
    examples: Iterable[Example], views: config.Views, policy: Policy, max_tokens: int, field: str
) -> list[Prompted]:
    """Prompts of a held-out set; a set that silently shrinks would compare unlike things.

    Args:
        examples: The set.
        views: As in `prompted`.
        policy: As in `prompted`.
        max_tokens: As in `prompted`.
        field: Where the set stands in the configuration, for the error.

    Raises:
        DataError: If a prompt does not fit, and as `prompted`.
    """
    prompts, dropped = prompted(examples, views, policy, max_tokens)
    if dropped:
        raise DataError(f"held-out example {dropped[0].id!r}: {dropped[0].reason}", field=field)
    return prompts


def prompt_room(policy: Policy, max_prompt_tokens: int, max_tokens: int) -> int:
    """Longest prompt, in tokens: the given limit, or less where the model's positions end.

    Raises:
        ConfigError: If completions leave no room for prompts.
    """
    if policy.max_positions is None:
        return max_prompt_tokens
    if policy.max_positions <= max_tokens:
        raise ConfigError(
            f"max_tokens: {max_tokens} leaves no room for a prompt: the model takes sequences "
            f"of {policy.max_positions} tokens"
        )
    return min(max_prompt_tokens, policy.max_positions - max_tokens)


def longest_sequence(settings: config.Stage) -> int:
    """Tokens of the longest prompt of a run with what is sampled after it, and one more.

    The one more is what an engine samples after a whole sequence that it scores.
    """
    sampling, views = settings.sampling, settings.views
    written = [sampling.max_tokens]
    if settings.evaluation is not None:
        written.append(settings.evaluation.max_tokens)
    if views.analysis:
        written.append(views.max_analysis_tokens)
    return sampling.max_prompt_tokens + max(written) + 1


def regex_of(grammar: config.RubricGrammar | None) -> str | None:
    """The language that completions are held to, or None where they are free."""
    return None if grammar is None else rubric_regex(grammar.max_criteria, grammar.max_characters)


def decoding_of(section: config.Sampling) -> Decoding:
    """How completions are drawn in training."""
    return Decoding(
        section.max_tokens,
        section.temperature,
        section.top_p,
        section.top_k,
        regex_of(section.grammar),
    )


def prompts_fingerprint(prompts: Iterable[Prompted]) -> str:
    """SHA-256 of all prompts' token ids: data, words, chat format and analyses in one."""
    digest = hashlib.sha256()
    for prompt in prompts:
        digest.update(repr((prompt.student_ids, prompt.teacher_ids)).encode())
    return digest.hexdigest()


def with_analyses(
    prompts: Sequence[Prompted],
    views: config.Views,
    policy: Policy,
    engine: Engine,
    cache: Path,
    max_tokens: int,
    ranks: Ranks = Ranks(),  # noqa: B008 (one process alone)
) -> tuple[list[Prompted], int]:
    """Teacher prompts that go on after the teacher's own analysis.

    Must be called while the policy has the frozen weights.

    Args:
        prompts: Of `prompted`; the teacher's prompt asks for the analysis.
        views: The views.
        policy: Its weights are part of the cache's fingerprint.
        engine: Writes what the cache lacks, greedily.
        cache: Folder of cached analyses.
        max_tokens: Longest teacher prompt.
        ranks: The processes, all of which ask the engine; the main one has the cache.

    Returns:
        The prompts, and how many analyses were cut off at ``views.max_analysis_tokens``.
    """
    words = Words(views.templates)
    shown = [prompt.teacher_ids for prompt in prompts]
    analyses: dict[Sequence[int], Completion] | AnalysisCache = {}

    def unwritten() -> list[tuple[int, ...]]:
        nonlocal analyses
        analyses = AnalysisCache(cache, policy, views.max_analysis_tokens)
        return [ids for ids in shown if ids not in analyses]

    missing = ranks.from_main(unwritten)
    for start in range(0, len(missing), 256):
        asked = missing[start : start + 256]
        decoding = Decoding(max_tokens=views.max_analysis_tokens)
        for ids, completion in zip(asked, engine.sample(asked, decoding, seed=0), strict=True):
            if ranks.is_main:
                analyses[ids] = completion
    continued, num_cut = [], 0
    found = ranks.from_main(lambda: [analyses[ids] for ids in shown])
    for prompt, analysis in zip(prompts, found, strict=True):
        num_cut += not analysis.finished
        turn = analysis.token_ids[:-1] if analysis.finished else analysis.token_ids
        _, analysing, now = _CONVERSATIONS[views.writes]
        conversation = analysing(prompt.example, views.teacher, words)
        ids = continued_ids(policy.tokenizer, conversation, list(turn), now(words))
        if len(ids) > max_tokens:
            raise DataError(
                f"example {prompt.example.id!r}: with its analysis the teacher's prompt has "
                f"{len(ids)} tokens, and there is room for {max_tokens}; lower "
                "views.max_analysis_tokens or sampling.max_prompt_tokens",
                field="views.analysis",
            )
        continued.append(Prompted(prompt.example, prompt.student_ids, tuple(ids)))
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
        self._path = folder / f"{sha256(fingerprint)[:24]}.jsonl"
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


def prompt_key(ids: Sequence[int]) -> str:
    """What a prompt is found by in a cache: SHA-256 of its token ids."""
    return sha256(",".join(map(str, ids)))


def sha256(text: str) -> str:
    """SHA-256 of a text, in hexadecimal."""
    return hashlib.sha256(text.encode()).hexdigest()
