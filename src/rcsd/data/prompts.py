"""Examples become prompts: token ids of both views, made once for the whole run."""

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from rcsd import config
from rcsd.data.rubric_grammar import rubric_regex
from rcsd.data.views import (
    Words,
    analysis_conversation,
    answer_conversation,
    answer_now,
    control_token_in,
    prompt_ids,
    rubric_analysis_conversation,
    rubric_conversation,
    rubric_now,
)
from rcsd.errors import ConfigError, DataError
from rcsd.types import Decoding, Example, ViewName

# For what is written: the request, the request for an analysis, and the turn after the analysis.
CONVERSATIONS = {
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
    examples: Iterable[Example], views: config.Views, tokenizer: Any, max_tokens: int
) -> tuple[list[Prompted], list[Dropped]]:
    """Prompts of all examples whose prompts fit; the others are listed.

    With ``views.analysis`` the teacher's prompt asks for the analysis:
    `rcsd.engines.analysis.with_analyses` goes on from it.

    Raises:
        DataError: If a view shows what an example lacks, or no example is left.
    """
    words = Words(views.templates)
    kept, dropped = [], []
    asking, analysing, _ = CONVERSATIONS[views.writes]
    for example in examples:
        asked = asking(example, views.student, words)
        taught = (analysing if views.analysis else asking)(example, views.teacher, words)
        student = prompt_ids(tokenizer, asked)
        teacher = student if taught == asked else prompt_ids(tokenizer, taught)
        longest = max(len(student), len(teacher))
        token = control_token_in(tokenizer, [*asked, *taught])
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
        tokenizer: Of the policy, with its chat template.
    """

    def __init__(self, views: config.Views, tokenizer: Any) -> None:
        self._views, self._tokenizer, self._words = views, tokenizer, Words(views.templates)

    def of(self, example: Example) -> tuple[int, ...]:
        """The teacher's prompt; of an example without a rubric, what its view shows besides it."""
        view = self._views.teacher
        if example.rubric is None:
            view = WITHOUT_RUBRIC.get(view, view)
        conversation = CONVERSATIONS[self._views.writes][0](example, view, self._words)
        return tuple(prompt_ids(self._tokenizer, conversation))


WITHOUT_RUBRIC: Mapping[ViewName, ViewName] = {
    "rubric": "none",
    "rubric+answer": "answer",
    "solution+rubric": "solution",
}
"""What is left of a view that shows the rubric, where there is none."""


def whole_set(
    examples: Iterable[Example], views: config.Views, tokenizer: Any, max_tokens: int, field: str
) -> list[Prompted]:
    """Prompts of a held-out set; a set that silently shrinks would compare unlike things.

    Args:
        examples: The set.
        views: As in `prompted`.
        tokenizer: As in `prompted`.
        max_tokens: As in `prompted`.
        field: Where the set stands in the configuration, for the error.

    Raises:
        DataError: If a prompt does not fit, and as `prompted`.
    """
    prompts, dropped = prompted(examples, views, tokenizer, max_tokens)
    if dropped:
        raise DataError(f"held-out example {dropped[0].id!r}: {dropped[0].reason}", field=field)
    return prompts


def prompt_room(max_positions: int | None, max_prompt_tokens: int, max_tokens: int) -> int:
    """Longest prompt, in tokens: the given limit, or less where the model's positions end.

    Raises:
        ConfigError: If completions leave no room for prompts.
    """
    if max_positions is None:
        return max_prompt_tokens
    if max_positions <= max_tokens:
        raise ConfigError(
            f"max_tokens: {max_tokens} leaves no room for a prompt: the model takes sequences "
            f"of {max_positions} tokens"
        )
    return min(max_prompt_tokens, max_positions - max_tokens)


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


def prompt_key(ids: Sequence[int]) -> str:
    """What a prompt is found by in a cache: SHA-256 of its token ids."""
    return sha256(",".join(map(str, ids)))


def sha256(text: str) -> str:
    """SHA-256 of a text, in hexadecimal."""
    return hashlib.sha256(text.encode()).hexdigest()
