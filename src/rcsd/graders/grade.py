"""Generate, grade, one row a completion; no averages here."""

import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Any

from rcsd.engines.base import Engine
from rcsd.errors import DataError
from rcsd.graders.answers import Grade, can_be_wrong, grade_example
from rcsd.graders.base import Judge
from rcsd.io import read_rows, write_rows
from rcsd.types import Completion, Decoding, Example


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
        extracted: The final answer that was found in the text; None: none, or nobody looked.
        reason: Why the final answer is right, wrong or ungraded; empty: nobody looked.
        bounds: The lowest and the highest score that missing verdicts leave possible; None without
            a rubric.
        unscored: Why a verdict is missing, one for each criterion, empty where it is not.
        prompt_sha256: Of the prompt's token ids; empty: not known.
        option_nats: Log-likelihood of each option, where they were compared
        (`rcsd.evaluation.clozes`).
        right_normalised: As ``right``, of the option that is likeliest for its length; None: no
            options were compared.
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
    extracted: str | None = None
    reason: str = ""
    bounds: tuple[float, float] | None = None
    unscored: tuple[str, ...] = ()
    prompt_sha256: str = ""
    option_nats: tuple[float, ...] = ()
    right_normalised: bool | None = None


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
    rows = graded_completions(examples, shown, engine.sample(shown, decoding, seed))
    return judged(rows, examples, judge)


def graded_completions(
    examples: Sequence[Example],
    shown: Sequence[Sequence[int]],
    completions: Sequence[Completion],
) -> list[Graded]:
    """Completions of the examples with their final answers graded; no judge has been asked.

    Args:
        examples: What was asked.
        shown: The prompts, as token ids.
        completions: What was said.
    """
    return [
        replace(
            answered(example, completion.text, completion.finished),
            num_tokens=len(completion.token_ids),
            prompt_sha256=prompt_sha256(ids),
        )
        for example, ids, completion in zip(examples, shown, completions, strict=True)
    ]


def prompt_sha256(ids: Sequence[int]) -> str:
    """Checksum of a prompt, as a list of token ids in JSON."""
    return hashlib.sha256(json.dumps(list(ids)).encode()).hexdigest()


def answered(example: Example, text: str, finished: bool = True) -> Graded:
    """A text as an answer to an example, its final answer graded; its length is not counted.

    Args:
        example: What was asked.
        text: What was said.
        finished: Whether it ended by itself.
    """
    asked = example.grading is not None or can_be_wrong(example)
    grade = grade_example(example, text, finished) if asked else Grade(None, None, "")
    return Graded(
        example.id,
        example.question,
        text,
        0,
        finished,
        (),
        None,
        grade.verdict if can_be_wrong(example) else None,
        example.tags,
        grade.extracted,
        grade.reason,
    )


def judged(rows: Sequence[Graded], examples: Sequence[Example], judge: Judge) -> list[Graded]:
    """The rows with what a judge says of their texts, by the rubric of each example that has one.

    Args:
        rows: Answers.
        examples: What each of them answers.
        judge: Asked once, of all.
    """
    asked = [place for place, example in enumerate(examples) if example.rubric is not None]
    said = judge.judgements([(examples[place], rows[place].text) for place in asked])
    scored = list(rows)
    for place, judgement in zip(asked, said, strict=True):
        scored[place] = replace(
            rows[place],
            verdicts=judgement.verdicts,
            score=judgement.score,
            bounds=judgement.bounds,
            unscored=judgement.reasons,
        )
    return scored


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
    tuples: dict[str, Any] = {
        name: tuple(values[name]) for name in ("verdicts", "unscored", "option_nats")
    }
    bounds = values["bounds"]
    if bounds is not None:  # there is a rubric
        low, high = bounds
        tuples["bounds"] = (low, high)
        values["score"] = math.nan if values["score"] is None else values["score"]
    return Graded(**values | tuples)


def row_from_graded(row: Graded) -> dict[str, Any]:
    """Plain values; an unscored row's NaN becomes null, since NaN is not JSON."""
    unscored = row.score is not None and math.isnan(row.score)
    return asdict(row) | ({"score": None} if unscored else {})
