"""Generate, grade, one row a completion; no averages here."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from rcsd.engines import Engine
from rcsd.files import write_rows
from rcsd.judges.answers import answer_verdict
from rcsd.judges.base import Judge
from rcsd.prompting import Prompted
from rcsd.rubrics import rubric_score
from rcsd.types import Decoding


@dataclass(frozen=True)
class Graded:
    """One completion and what the judge says of it.

    Args:
        id: Of the example.
        question: As it was asked.
        text: What the model said.
        num_tokens: Its length.
        finished: Whether it ended by itself.
        verdicts: One for each criterion; None is unscored.
        score: In [0, 1]; NaN where a verdict is missing; None without a rubric.
        right: Whether the final answer is the reference's; None is ungraded.
        tags: Of the example.
    """

    id: str
    question: str
    text: str
    num_tokens: int
    finished: bool
    verdicts: tuple[bool | None, ...]
    score: float | None
    right: bool | None
    tags: Mapping[str, str] = field(default_factory=dict)


def graded(
    prompts: Sequence[Prompted],
    shown: Sequence[Sequence[int]],
    engine: Engine,
    judge: Judge,
    decoding: Decoding,
    seed: int = 0,
) -> list[Graded]:
    """Completions of the examples, graded by each example's own rubric.

    Args:
        prompts: The examples.
        shown: The prompts that the model is given, as token ids: of either view.
        engine: Answers.
        judge: Gives the verdicts.
        decoding: Greedy or sampled.
        seed: Of the sampling.
    """
    rows = []
    for prompt, completion in zip(prompts, engine.sample(shown, decoding, seed), strict=True):
        example = prompt.example
        verdicts: tuple[bool | None, ...] = ()
        score = right = None
        if example.rubric is not None:
            verdicts = tuple(judge.verdicts(example, completion.text))
            score = rubric_score(example.rubric, verdicts)
        if example.reference_answer is not None:
            right = answer_verdict(completion.text, example.reference_answer)
        rows.append(
            Graded(
                example.id,
                example.question,
                completion.text,
                len(completion.token_ids),
                completion.finished,
                verdicts,
                score,
                right,
                example.tags,
            )
        )
    return rows


def write_graded(rows: Sequence[Graded], path: Path, **labels: Any) -> None:
    """Write one JSON row a completion, with labels such as ``arm="base"`` on each."""
    write_rows(path, [labels | _jsonable(row) for row in rows])


def _jsonable(row: Graded) -> dict[str, Any]:
    """An unscored row's NaN becomes null: NaN is not JSON."""
    unscored = row.score is not None and math.isnan(row.score)
    return asdict(row) | ({"score": None} if unscored else {})
