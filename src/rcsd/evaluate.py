"""Generate, grade, one row a completion; no averages here."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Any

from rcsd.engines import Engine
from rcsd.errors import DataError
from rcsd.files import read_rows, write_rows
from rcsd.judges.answers import answer_verdict, can_be_wrong
from rcsd.judges.base import Judge
from rcsd.rubrics import rubric_score
from rcsd.types import Decoding, Example


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
        right: Whether the final answer is the reference's; None: ungraded, as always where code
            could not tell a wrong one.
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
    examples: Sequence[Example],
    shown: Sequence[Sequence[int]],
    engine: Engine,
    judge: Judge,
    decoding: Decoding,
    seed: int = 0,
) -> list[Graded]:
    """Completions of the examples, graded by each example's own rubric.

    Args:
        examples: What is asked.
        shown: The prompts that the model is given, as token ids: of either view.
        engine: Answers.
        judge: Gives the verdicts.
        decoding: Greedy or sampled.
        seed: Of the sampling.
    """
    return [
        replace(
            graded_text(example, completion.text, judge),
            num_tokens=len(completion.token_ids),
            finished=completion.finished,
        )
        for example, completion in zip(examples, engine.sample(shown, decoding, seed), strict=True)
    ]


def graded_text(example: Example, text: str, judge: Judge) -> Graded:
    """A text as an answer to an example; its length is not counted, and it is taken to be whole."""
    verdicts: tuple[bool | None, ...] = ()
    score = right = None
    if example.rubric is not None:
        verdicts = tuple(judge.verdicts(example, text))
        score = rubric_score(example.rubric, verdicts)
    if example.reference_answer is not None and can_be_wrong(example.reference_answer):
        right = answer_verdict(text, example.reference_answer)
    return Graded(example.id, example.question, text, 0, True, verdicts, score, right, example.tags)


def write_graded(rows: Sequence[Graded], path: Path, **labels: Any) -> None:
    """Write one JSON row a completion, with labels such as ``arm="base"`` on each."""
    write_rows(path, [labels | row_from_graded(row) for row in rows])


def read_graded(path: Path) -> list[Graded]:
    """What `write_graded` wrote, without the labels.

    Raises:
        DataError: If a row is not whole.
    """
    try:
        return [graded_from_row(row) for row in read_rows(path)]
    except (ValueError, KeyError, TypeError) as error:
        raise DataError(
            f"a graded completion is broken ({error}); delete the file", path
        ) from error


def graded_from_row(row: Mapping[str, Any]) -> Graded:
    """What `row_from_graded` made a row of; other keys are labels, and left out.

    Raises:
        KeyError: If a field is missing.
    """
    values = {field.name: row[field.name] for field in fields(Graded)}
    unscored = values["score"] is None and values["verdicts"]
    score = math.nan if unscored else values["score"]
    return Graded(**values | {"verdicts": tuple(values["verdicts"]), "score": score})


def row_from_graded(row: Graded) -> dict[str, Any]:
    """Plain values; an unscored row's NaN becomes null, since NaN is not JSON."""
    unscored = row.score is not None and math.isnan(row.score)
    return asdict(row) | ({"score": None} if unscored else {})
