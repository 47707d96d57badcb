"""Frozen nouns that several rooms share."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, TypedDict

from rcsd.rubrics import Rubric

ViewName = Literal["none", "rubric", "rubric+answer", "answer", "solution", "solution+rubric"]
"""What a view shows beside the question."""


class Message(TypedDict):
    """One turn of a conversation, in the form that chat templates take."""

    role: Literal["system", "user", "assistant"]
    content: str


Conversation = list[Message]


LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
"""Names of options, in their order."""

AnswerKind = Literal["choice", "number", "math", "text"]
"""What a reference answer is."""


@dataclass(frozen=True, slots=True)
class Grading:
    """How final answers to a question are told right from wrong (`rcsd.judges.grading`).

    Args:
        kind: ``choice``: one of the options; ``number``: a quantity; ``math``: an expression;
            ``text``: a few words.
        options: Of a choice, in the order in which they are shown: A, B, C, ...
        unit: Of a number, as its benchmark writes it; empty: it has none.
        tolerance: Of a number: the error allowed, as a share of its size; None: the grader's own.
    """

    kind: AnswerKind
    options: tuple[str, ...] = ()
    unit: str = ""
    tolerance: float | None = None


@dataclass(frozen=True, slots=True)
class Example:
    """One row of data.

    Args:
        id: Unique in its data set.
        question: What the student is asked.
        reference_answer: The answer alone, or None.
        solution: A worked solution, or None.
        rubric: The criteria of a strong answer, or None.
        tags: Labels that evaluation groups by, such as ``{"template": "lamp_energy"}``.
        grading: How final answers are graded; None: as `rcsd.judges.answers` reads the reference.
    """

    id: str
    question: str
    reference_answer: str | None = None
    solution: str | None = None
    rubric: Rubric | None = None
    tags: Mapping[str, str] = field(default_factory=dict)
    grading: Grading | None = None


@dataclass(frozen=True, slots=True)
class Completion:
    """What a model answered.

    Args:
        token_ids: The sampled tokens, the end-of-turn token included where it was sampled.
        text: Their text without special tokens.
        finished: Whether the model ended by itself; False: cut off at the token limit.
        version: Steps that had made the weights which sampled it; None: nobody counts.
        log_q: Log-probability of each token, in nats, by the engine's own reckoning: at the
            temperature of sampling, over the whole vocabulary. Empty where it tells none.
    """

    token_ids: tuple[int, ...]
    text: str
    finished: bool
    version: int | None = None
    log_q: tuple[float, ...] = ()


def completion_of(row: Mapping[str, Any]) -> Completion:
    """What `dataclasses.asdict` made a row of; JSON makes lists of tuples."""
    tuples = {name: tuple(row[name]) for name in ("token_ids", "log_q")}
    return Completion(**{**row, **tuples})


@dataclass(frozen=True, slots=True)
class Decoding:
    """How completions are drawn.

    Args:
        max_tokens: Longest completion.
        temperature: Above 0, or None for greedy decoding.
        top_p: Nucleus in (0, 1].
        top_k: Likeliest tokens kept, or None for all.
        regex: Language that completions are held to (`rcsd.grammars`), or None.
    """

    max_tokens: int
    temperature: float | None = None
    top_p: float = 1.0
    top_k: int | None = None
    regex: str | None = None


@dataclass(frozen=True, slots=True)
class Signal:
    """What an objective knows of a completion before any loss.

    Args:
        advantages: One for each of its tokens: above 0 makes the token likelier. Empty where the
            objective reinforces nothing.
        weight: What each of its tokens counts in the mean over the step's tokens.
        distilled: What the divergence at each of its tokens counts; empty: all of it.
        sampled_log_q: Log-probability of each token when it was sampled, in nats, where a method
            learns from the same completion more than once; else empty.
        frozen_log_q: The same under the frozen weights, where a method stays near them; else empty.
        reward: What it earned, or None: unscored, or the method has no rewards.
    """

    advantages: tuple[float, ...] = ()
    weight: float = 1.0
    distilled: tuple[float, ...] = ()
    sampled_log_q: tuple[float, ...] = ()
    frozen_log_q: tuple[float, ...] = ()
    reward: float | None = None


@dataclass(frozen=True, slots=True)
class Rollout:
    """A completion with the two prompts under which it is scored, as token ids.

    Args:
        example: What it answers.
        student_ids: The student's prompt, generation header included.
        teacher_ids: The teacher's prompt; equal to the student's where a method has no teacher.
        completion: The tokens that are learned from.
        signals: What each objective of the method knows of it; empty where it has none.
        num_tokens_before: Completion tokens of the rollouts that stand before it in its step.
    """

    example: Example
    student_ids: tuple[int, ...]
    teacher_ids: tuple[int, ...]
    completion: Completion
    signals: tuple[Signal, ...] = ()
    num_tokens_before: int = 0
