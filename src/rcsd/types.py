"""Frozen nouns that several rooms share."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, TypedDict

from rcsd.errors import RubricError

ViewName = Literal["none", "rubric", "rubric+answer", "answer", "solution", "solution+rubric"]
"""What a view shows beside the question."""


class Message(TypedDict):
    """One turn of a conversation, in the form that chat templates take."""

    role: Literal["system", "user", "assistant"]
    content: str


Conversation = list[Message]

Progress = Callable[[str, int, int, str], None]
"""Callback: a stage's name, how much of it is done, of how much, and a note."""


LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
"""Names of options, in their order."""

AnswerKind = Literal["choice", "number", "math", "text"]
"""What a reference answer is."""


UnitVerdict = Literal["right", "absent", "wrong", "none asked"]
"""Verdict on the unit of a number; absent: a bare number where one is asked for."""

UnitRule = Literal["accept_absent", "ignore", "require"]
"""Rule for one verdict on a number and its unit: ``accept_absent``: a bare number passes, a wrong
unit fails; ``ignore``: by the number alone; ``require``: the unit must be right."""

DEFAULT_UNITS: UnitRule = "accept_absent"

DEFAULT_TOLERANCE = 0.01
"""Relative error that is allowed of a number where the data state none."""


@dataclass(frozen=True, slots=True)
class Grading:
    """Grading of final answers to a question (`rcsd.graders.answers`).

    Args:
        kind: ``choice``: one of the options; ``number``: a quantity; ``math``: an expression;
            ``text``: a few words.
        unit: Of a number, as its benchmark writes it; empty: it has none.
        tolerance: Of a number: the relative error that is allowed, in [0, 1).
    """

    kind: AnswerKind
    options: tuple[str, ...] = ()
    unit: str = ""
    tolerance: float = DEFAULT_TOLERANCE


@dataclass(frozen=True, slots=True)
class Criterion:
    """One demand on an answer, with the points that meeting it is worth.

    Args:
        weight: Points, not 0. Positive: met is good. Negative: a violation; met means points lost.
        check: How code decides whether it is met (see `rcsd.graders.checks`), or None: a judge
        must.
    """

    text: str
    weight: float
    title: str = ""
    check: Mapping[str, Any] | None = None


@dataclass(frozen=True, slots=True)
class Rubric:
    """Weighted criteria of a strong answer; at least one of them positive."""

    criteria: tuple[Criterion, ...]

    def __post_init__(self) -> None:
        """Refuse a rubric that cannot be scored."""
        if not self.criteria:
            raise RubricError("a rubric needs at least one criterion")
        if not any(criterion.weight > 0 for criterion in self.criteria):
            raise RubricError("a rubric needs at least one criterion with a positive weight")


@dataclass(frozen=True, slots=True)
class Example:
    """One row of data.

    Args:
        id: Unique in its data set.
        reference_answer: The answer alone, or None.
        tags: Labels that evaluation groups by, such as ``{"template": "lamp_energy"}``.
        grading: How final answers are graded; None: by
            `rcsd.graders.answers.default_grading` of the reference.
        turns: System prompt and earlier turns of a chat; the question is its last turn.
    """

    id: str
    question: str
    reference_answer: str | None = None
    solution: str | None = None
    rubric: Rubric | None = None
    tags: Mapping[str, str] = field(default_factory=dict)
    grading: Grading | None = None
    turns: tuple[Message, ...] = ()

    @property
    def prompt_text(self) -> str:
        """Question, after the earlier turns where there are any."""
        if not self.turns:
            return self.question
        turns = [*self.turns, Message(role="user", content=self.question)]
        return "\n\n".join(f"{turn['role']}: {turn['content']}" for turn in turns)


@dataclass(frozen=True, slots=True)
class Completion:
    """A model's answer.

    Args:
        token_ids: The sampled tokens, the end-of-turn token included where it was sampled.
        finished: Whether the model ended by itself; False: cut off at the token limit.
        version: Optimizer step that the weights which sampled it come from; None: not known.
        log_q: The engine's log-probability of each token, in nats, at the temperature of sampling,
            over the whole vocabulary; empty: the engine gives none. Not compared: batches round
            differently.
    """

    token_ids: tuple[int, ...]
    text: str
    finished: bool
    version: int | None = None
    log_q: tuple[float, ...] = field(default=(), compare=False)


def completion_from_row(row: Mapping[str, Any]) -> Completion:
    """Completion from a row of `dataclasses.asdict`; JSON makes lists of tuples."""
    tuples = {name: tuple(row[name]) for name in ("token_ids", "log_q")}
    return Completion(**{**row, **tuples})


@dataclass(frozen=True, slots=True)
class Decoding:
    """Decoding of completions.

    Args:
        temperature: Above 0, or None for greedy decoding.
        top_p: Nucleus in (0, 1].
        top_k: Likeliest tokens kept, or None for all.
        regex: Language that completions are held to (`rcsd.data.rubric`), or None.
    """

    max_tokens: int
    temperature: float | None = None
    top_p: float = 1.0
    top_k: int | None = None
    regex: str | None = None


@dataclass(frozen=True, slots=True)
class Rollout:
    """A completion with the two prompts under which it is scored, as token ids.

    Args:
        teacher_ids: The teacher's prompt; equal to the student's where a method has no teacher.
        index: Position among the rollouts of its optimizer step.
        num_tokens_before: Completion tokens of the rollouts before it in its step.
        signals: One value for each objective of the method, of a type of the objective's choice:
            advantages or masks, computed once per step before the loss.
        reward: In the unit of the method's rewards; NaN: unscored; None: the method has no rewards.
    """

    example: Example
    student_ids: tuple[int, ...]
    teacher_ids: tuple[int, ...]
    completion: Completion
    index: int = 0
    num_tokens_before: int = 0
    signals: tuple[Any, ...] = ()
    reward: float | None = None


def rubric_score(rubric: Rubric, verdicts: Sequence[bool | None]) -> float:
    """Score in [0, 1]: points of the met criteria over the positive points, clipped.

    ``clip(sum_i w_i met_i / sum_i max(w_i, 0), 0, 1)``, as in HealthBench (arXiv 2505.08775). A met
    criterion of negative weight is a violation and costs its points. NaN if any verdict is None:
    what was not judged is not called wrong. Raises ValueError on another number of verdicts than
    criteria.
    """
    low, _ = score_bounds(rubric, verdicts)
    return math.nan if any(verdict is None for verdict in verdicts) else low


def score_bounds(rubric: Rubric, verdicts: Sequence[bool | None]) -> tuple[float, float]:
    """Lowest and highest `rubric_score` that the missing verdicts leave possible; errors as there.

    The lowest takes every unscored criterion for unmet and every unscored violation for met; the
    highest the other way round.
    """
    weights = [criterion.weight for criterion in rubric.criteria]
    if len(verdicts) != len(weights):
        raise ValueError(f"{len(verdicts)} verdicts for {len(weights)} criteria")
    total = sum(weight for weight in weights if weight > 0)

    def score(unscored_met: Callable[[float], bool]) -> float:
        decided = (
            weight
            for weight, met in zip(weights, verdicts, strict=True)
            if (unscored_met(weight) if met is None else met)
        )
        return min(1.0, max(0.0, sum(decided) / total))

    return score(lambda weight: weight < 0), score(lambda weight: weight > 0)
