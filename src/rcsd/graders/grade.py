"""Sample answers to a set and grade them, one row per completion; grade a file of answers."""

import functools
import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from rcsd.data.fields import Text, explain
from rcsd.data.json_files import json_rows
from rcsd.data.rows import GradingRow
from rcsd.data.thinking import without_thinking
from rcsd.engines.base import Engine
from rcsd.errors import DataError
from rcsd.graders.answers import Grade, can_be_wrong, grade, grade_example
from rcsd.graders.answers.mathematics import in_parallel
from rcsd.graders.answers.quantities import combine
from rcsd.graders.base import Judge
from rcsd.io import append_rows, check_writable, digest, drop_cut_row, read_rows, write_rows
from rcsd.types import (
    Completion,
    Decoding,
    Example,
    UnitRule,
    UnitVerdict,
    completion_from_row,
)


@dataclass(frozen=True)
class Graded:
    """One completion and its grades.

    Args:
        finished: Whether it ended by itself.
        verdicts: One for each criterion; None is unscored.
        score: In [0, 1]; NaN where a verdict is missing; None without a rubric.
        right: Whether the final answer is the reference's; None: ungraded, as always where code
            cannot tell a wrong one.
        extracted: The final answer in the text; None: there is none, or it was not graded.
        reason: Why the final answer is right, wrong or ungraded; empty: it was not graded.
        bounds: Lowest and highest score that missing verdicts leave possible; None: no rubric.
        unscored: Why a verdict is missing, one for each criterion, empty where it is not.
        number_right: Of a final answer that is a number: whether the number is right
            (`rcsd.graders.answers.quantities.Comparison`); None: ungraded, or another kind.
        unit_verdict: Verdict on its unit.
        explanations: The judge's own, one for each criterion or one for all; empty: none.
        prompt_sha256: Checksum of the prompt as a list of token ids in JSON; empty: unknown.
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
    number_right: bool | None = None
    unit_verdict: UnitVerdict | None = None
    explanations: tuple[str, ...] = ()

    def by_units(self, rule: UnitRule) -> "Graded":
        """The row with `right` by a rule for numbers and their units; other kinds as they are."""
        if self.number_right is None and self.unit_verdict is None:
            return self
        return replace(self, right=combine(self.number_right, self.unit_verdict, rule))

    def row(self, **labels: Any) -> dict[str, Any]:
        """Plain values after the labels; an unscored score is null, since NaN is not JSON."""
        unscored = self.score is not None and math.isnan(self.score)
        return labels | asdict(self) | ({"score": None} if unscored else {})

    @classmethod
    def from_row(cls, row: Mapping[str, Any]) -> "Graded":
        """Inverse of `row`; labels are left out. A missing field is a KeyError."""
        # Earlier versions did not write all of them.
        row = {"number_right": None, "unit_verdict": None, "explanations": (), **row}
        values = {field.name: row[field.name] for field in fields(cls)}
        values |= {n: tuple(values[n]) for n in ("verdicts", "unscored", "explanations")}
        if values["bounds"] is not None:  # there is a rubric
            low, high = values["bounds"]
            values["bounds"] = (low, high)
            values["score"] = math.nan if values["score"] is None else values["score"]
        return cls(**values)


@dataclass(frozen=True)
class Journal:
    """File of completions, appended to as they are sampled, so that an interrupted call resumes.

    The caller makes sure that those in it belong to the same prompts, decoding, seed and weights.
    The number of prompts in a call is fixed, so that a resumed run makes the same calls. Progress
    is the number of completions there are and of those wanted.
    """

    path: Path
    prompts_per_call: int
    progress: Callable[[int, int], None]

    def sample(
        self, engine: Engine, prompts: Sequence[Sequence[int]], decoding: Decoding, seed: int
    ) -> list[Completion]:
        """One completion of each prompt, from the file or from the engine."""
        drop_cut_row(self.path)
        try:
            completions = [completion_from_row(row) for row in read_rows(self.path)]
        except (KeyError, TypeError) as error:
            message = f"a completion is broken ({error}); delete the file"
            raise DataError(message, self.path) from error
        for start in range(0, len(prompts), self.prompts_per_call):
            batch = prompts[start : start + self.prompts_per_call]
            if len(completions) >= start + len(batch):
                continue
            self.progress(start, len(prompts))
            sampled = engine.sample(batch, decoding, seed, start)
            new = sampled[len(completions) - start :]
            append_rows(self.path, [asdict(completion) for completion in new])
            completions += new
        self.progress(len(prompts), len(prompts))
        return completions


def sample_and_grade(
    engine: Engine,
    examples: Sequence[Example],
    prompts: Sequence[Sequence[int]],
    decoding: Decoding,
    judge: Judge,
    seed: int = 0,
    journal: Journal | None = None,
) -> list[Graded]:
    """Sample an answer to each prompt and grade it by its example's reference and rubric.

    An example is repeated for several samples of a question; answers are graded by it, whatever the
    prompt shows. A journal makes the sampling resumable; None samples all in one call.
    """
    source = engine.sample if journal is None else functools.partial(journal.sample, engine)
    completions = source(prompts, decoding, seed)

    def graded(row: tuple[Example, Sequence[int], Completion]) -> Graded:
        example, ids, completion = row
        return replace(
            grade_text(example, completion.text, completion.finished),
            num_tokens=len(completion.token_ids),
            prompt_sha256=digest(json.dumps(list(ids))),
        )

    rows = in_parallel(graded, zip(examples, prompts, completions, strict=True))
    return judge_rows(rows, examples, judge)


def grade_text(example: Example, text: str, finished: bool = True) -> Graded:
    """A text as an answer to an example, its final answer graded, its criteria not yet judged.

    Its length in tokens is left 0.
    """
    is_graded = example.grading is not None or can_be_wrong(example)
    final = grade_example(example, text, finished) if is_graded else Grade(None, None, "")
    return Graded(
        example.id,
        example.prompt_text,
        text,
        num_tokens=0,
        finished=finished,
        verdicts=(),
        score=None,
        right=final.verdict if can_be_wrong(example) else None,
        tags=example.tags,
        extracted=final.extracted,
        reason=final.reason,
        number_right=final.number_right,
        unit_verdict=final.unit_verdict,
    )


def judge_rows(rows: Sequence[Graded], examples: Sequence[Example], judge: Judge) -> list[Graded]:
    """The rows with verdicts, by the rubric of each row's example; the judge is called once."""
    with_rubric = [n for n, example in enumerate(examples) if example.rubric is not None]
    answers = [(examples[n], without_thinking(rows[n].text)) for n in with_rubric]
    judgements = judge.judgements(answers)
    scored = list(rows)
    for n, judgement in zip(with_rubric, judgements, strict=True):
        scored[n] = replace(
            rows[n],
            verdicts=judgement.verdicts,
            score=judgement.score,
            bounds=judgement.bounds,
            unscored=judgement.reasons,
            explanations=judgement.explanations if any(judgement.explanations) else (),
        )
    return scored


def write_graded(rows: Sequence[Graded], path: Path, **labels: Any) -> None:
    """Write one JSON row a completion, with labels such as ``arm="base"`` on each."""
    write_rows(path, [row.row(**labels) for row in rows])


def read_graded(path: Path) -> list[Graded]:
    """Rows that `write_graded` wrote, without the labels; a broken one is a DataError."""
    try:
        return [Graded.from_row(row) for row in read_rows(path)]
    except (ValueError, KeyError, TypeError) as error:
        message = f"a graded completion is broken ({error}); delete the file"
        raise DataError(message, path) from error


class AnswerRow(GradingRow):
    """Row of a file of answers, with the fields that say how it is graded."""

    completion: str
    reference: Text
    finished: bool = True


def grade_file(path: Path, out: Path) -> list[Grade]:
    """Write the rows of a file with the fields of `Grade` added.

    Rows are as in `AnswerRow`; a field may be null, and other keys stay as they are.

    Raises:
        DataError: If a row is malformed, naming file, line and field.
    """
    check_writable(out, [path])

    def graded(numbered: tuple[int, dict[str, Any]]) -> tuple[dict[str, Any], Grade]:
        line, row = numbered
        fields = {name: row[name] for name in AnswerRow.model_fields if row.get(name) is not None}
        try:
            answer = AnswerRow.model_validate(fields)
            grading = answer.build(answer.reference)
            verdict = grade(answer.completion, answer.reference, grading, answer.finished)
        except ValidationError as error:
            field, message = explain(error)
            raise DataError(message, path, line, field) from error
        except DataError as error:
            raise error.at(path, line) from error
        return row | verdict._asdict(), verdict

    rows = in_parallel(graded, json_rows(path))
    write_rows(out, [row for row, _ in rows])
    return [verdict for _, verdict in rows]
