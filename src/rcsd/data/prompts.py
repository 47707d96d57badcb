"""Prompts: token ids of the student's and the teacher's view, built once for a run."""

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from rcsd import config
from rcsd.data.rubric import rubric_regex
from rcsd.data.views import (
    PromptTemplates,
    Request,
    build_conversation,
    check_chat_template,
    check_template_kwargs,
    find_control_token,
    prompt_ids,
)
from rcsd.errors import ConfigError, DataError
from rcsd.io import digest
from rcsd.types import Conversation, Decoding, Example, ViewName

REQUESTS: Mapping[str, tuple[Request, Request]] = {
    "answer": ("answer", "analysis"),
    "rubric": ("write_rubric", "analyse_rubric"),
}
"""Requests for each kind of completion: at once, and after an analysis."""


@dataclass(frozen=True)
class PromptPair:
    """An example with the prompts of both views, as token ids."""

    example: Example
    student_ids: tuple[int, ...]
    teacher_ids: tuple[int, ...]


@dataclass(frozen=True)
class SkippedExample:
    """An example without a usable prompt, and the reason."""

    id: str
    reason: str


def build_prompts(
    examples: Iterable[Example], views: config.Views, tokenizer: Any, max_prompt_tokens: int
) -> tuple[list[PromptPair], list[SkippedExample]]:
    """Prompts of all examples that fit; the others are listed, never truncated.

    With ``views.analysis`` the teacher's prompt requests the analysis;
    `rcsd.engines.analysis.with_analyses` continues it.

    Raises:
        ConfigError: If a prompt leaves out the question, or views that should differ are alike.
        DataError: If an example lacks a part of a view, or no example is left.
        ModelError: If a role's chat template lacks a header or a variable that it is given.
    """
    for role, kwargs in (("student", views.student_kwargs), ("teacher", views.teacher_kwargs)):
        check_template_kwargs(tokenizer, kwargs, f"views.{role}_kwargs")
        check_chat_template(tokenizer, kwargs)
    templates = PromptTemplates(views.templates)
    request, analysis_request = REQUESTS[views.writes]
    teacher_request = analysis_request if views.analysis else request
    pairs, skipped = [], []
    for example in examples:
        student = build_conversation(request, example, views.student, templates)
        teacher = build_conversation(teacher_request, example, views.teacher, templates)
        student_ids = prompt_ids(tokenizer, student, views.student_kwargs)
        is_same = teacher == student and views.teacher_kwargs == views.student_kwargs
        teacher_ids = (
            student_ids if is_same else prompt_ids(tokenizer, teacher, views.teacher_kwargs)
        )
        _check_views(example, views, student, teacher)
        if student_ids == teacher_ids and not is_same:
            raise ConfigError(
                "views.teacher_kwargs: student and teacher see the same, since the chat template "
                "renders both alike: nothing would be learned"
            )
        longest = max(len(student_ids), len(teacher_ids))
        token = find_control_token(tokenizer, [*student, *teacher])
        if longest > max_prompt_tokens:
            reason = f"a prompt of {longest} tokens, and there is room for {max_prompt_tokens}"
            skipped.append(SkippedExample(example.id, reason))
        elif token is not None:
            skipped.append(SkippedExample(example.id, f"its text holds the control token {token}"))
        else:
            pairs.append(PromptPair(example, tuple(student_ids), tuple(teacher_ids)))
    if not pairs:
        why = f"; the first: {skipped[0].reason}" if skipped else ""
        raise DataError(f"no example is left{why}")
    return pairs, skipped


def _check_views(
    example: Example, views: config.Views, student: Conversation, teacher: Conversation
) -> None:
    """Refuse templates that lose the question, or that show both roles the same."""
    for conversation in (student, teacher):
        if not any(example.question.strip() in message["content"] for message in conversation):
            raise ConfigError("views.templates: a prompt leaves out the question")
    if views.teacher != views.student and student == teacher:
        raise ConfigError(
            f"views.templates: student and teacher see the same, though views.teacher is "
            f"{views.teacher!r}: nothing would be learned"
        )


def build_all_prompts(
    examples: Iterable[Example],
    views: config.Views,
    tokenizer: Any,
    max_prompt_tokens: int,
    field: str,
) -> list[PromptPair]:
    """Prompts of a validation or test set: a set that shrinks would compare unlike things.

    Raises DataError if a prompt does not fit, naming the set's key in the configuration
    (``field``); see also `build_prompts`.
    """
    prompts, skipped = build_prompts(examples, views, tokenizer, max_prompt_tokens)
    if skipped:
        raise DataError(f"held-out example {skipped[0].id!r}: {skipped[0].reason}", field=field)
    return prompts


def teacher_prompt(
    example: Example, views: config.Views, templates: PromptTemplates, tokenizer: Any
) -> tuple[int, ...]:
    """Teacher's prompt without analysis; without a rubric the view shows its other parts alone."""
    view = views.teacher
    if example.rubric is None:
        view = WITHOUT_RUBRIC.get(view, view)
    request, _ = REQUESTS[views.writes]
    conversation = build_conversation(request, example, view, templates)
    return tuple(prompt_ids(tokenizer, conversation, views.teacher_kwargs))


WITHOUT_RUBRIC: Mapping[ViewName, ViewName] = {
    "rubric": "none",
    "rubric+answer": "answer",
    "solution+rubric": "solution",
}
"""Views that show the rubric, and the same views without it."""


def limit_prompt_tokens(
    max_positions: int | None, max_prompt_tokens: int, max_completion_tokens: int
) -> int:
    """Longest prompt in tokens: ``max_prompt_tokens``, or less where the model's positions end.

    Raises ConfigError if completions leave no room for prompts.
    """
    if max_positions is None:
        return max_prompt_tokens
    if max_positions <= max_completion_tokens:
        raise ConfigError(
            f"max_tokens: {max_completion_tokens} leaves no room for a prompt: the model takes "
            f"sequences of {max_positions} tokens"
        )
    return min(max_prompt_tokens, max_positions - max_completion_tokens)


def longest_sequence(settings: config.Stage) -> int:
    """Tokens of the longest prompt with its completion, and one that an engine samples to score."""
    sampling, views = settings.sampling, settings.views
    completions = [sampling.max_tokens]
    if settings.evaluation is not None:
        completions.append(settings.evaluation.max_tokens)
    if views.analysis:
        completions.append(views.max_analysis_tokens)
    return sampling.max_prompt_tokens + max(completions) + 1


def grammar_regex(grammar: config.RubricGrammar | None) -> str | None:
    """Regular expression that constrains completions, or None where they are free."""
    return None if grammar is None else rubric_regex(grammar.max_criteria, grammar.max_characters)


def build_decoding(section: config.Sampling) -> Decoding:
    """Decoding in training."""
    return Decoding(
        section.max_tokens,
        section.temperature,
        section.top_p,
        section.top_k,
        grammar_regex(section.grammar),
    )


def prompts_fingerprint(prompts: Iterable[PromptPair]) -> str:
    """SHA-256 of all token ids: data, templates, chat format and analyses in one digest."""
    hasher = hashlib.sha256()
    for prompt in prompts:
        hasher.update(repr((prompt.student_ids, prompt.teacher_ids)).encode())
    return hasher.hexdigest()


def prompt_key(ids: Sequence[int]) -> str:
    """Key of a prompt in a cache: the digest of its token ids."""
    return digest(",".join(map(str, ids)))
