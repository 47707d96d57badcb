"""Texts whose verdicts are known: of the rubric world, or labelled by hand."""

import random
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from rcsd.data.rows import example_from_row, json_rows
from rcsd.data.world.problems import FULL_STYLE, Style, draft_of, examples, written_answer
from rcsd.errors import DataError
from rcsd.graders.code import CodeJudge
from rcsd.types import Example

ARMS = ("right", "habit", "partial")
"""Answers to each problem of the world: right and complete; by the bad habit throughout; right or
wrong by chance, with parts left out."""


@dataclass(frozen=True)
class Case:
    """A text and what is true of it.

    Args:
        example: Question and rubric.
        text: The answer.
        exact: The true verdict on each criterion; None: not known.
        arm: Whose answer it is; empty: nobody says.
    """

    example: Example
    text: str
    exact: tuple[bool | None, ...]
    arm: str = ""

    @property
    def problem(self) -> str:
        """What intervals are resampled by: texts of one question are not independent."""
        return self.example.question


def world_cases(num_problems: int, seed: int) -> list[Case]:
    """Answers of each arm to problems of the rubric world, with verdicts by code.

    Args:
        num_problems: How many.
        seed: Of the problems and of what is left out.
    """
    rng, cases = random.Random(f"calibration {seed}"), []
    for example in examples("new_numbers", num_problems, seed):
        draft = draft_of(example)
        forks = len(draft.forks)
        parts = [rng.random() < 0.5 for _ in range(6)]
        choices = [rng.random() < 0.5 for _ in range(forks)]
        full = replace(FULL_STYLE, boxed=True)
        texts = (
            written_answer(draft, [True] * forks, full),
            written_answer(draft, [False] * forks, full),
            written_answer(draft, choices, Style(*parts)),
        )
        for arm, text in zip(ARMS, texts, strict=True):
            cases.append(Case(example, text, _by_code(example, text), arm))
    return cases


def _by_code(example: Example, text: str) -> tuple[bool | None, ...]:
    return tuple(CodeJudge().verdicts(example, text))


def with_text(case: Case, text: str) -> Case:
    """Another text to the same question: by code what code can tell, else the verdicts stay."""
    pairs = zip(_by_code(case.example, text), case.exact, strict=True)
    return replace(case, text=text, exact=tuple(old if new is None else new for new, old in pairs))


def read_cases(path: Path) -> list[Case]:
    """Cases from JSON rows ``{"question", "rubric", "text", "verdicts", "arm"?}``.

    Verdicts are true, false, or null where nobody labelled one.

    Raises:
        DataError: If the file cannot be read, or a row is malformed.
    """
    return [_case(row, path, line) for line, row in json_rows(path)]


def _case(row: Mapping[str, Any], path: Path, line: int) -> Case:
    fields = {name: row[name] for name in ("question", "rubric") if name in row}
    example = example_from_row({"id": str(line), **fields}, path, line)
    if example.rubric is None:
        raise DataError("a judge is measured by a rubric's criteria", path, line, "rubric")
    text, verdicts, arm = row.get("text"), row.get("verdicts"), row.get("arm", "")
    if not isinstance(text, str):
        raise DataError(f"expected a text, got {text!r}", path, line, "text")
    if not isinstance(arm, str):
        raise DataError(f"expected a name, got {arm!r}", path, line, "arm")
    num = len(example.rubric.criteria)
    if (
        not isinstance(verdicts, list)
        or len(verdicts) != num
        or not all(verdict is None or isinstance(verdict, bool) for verdict in verdicts)
    ):
        message = f"expected {num} of true, false and null, one for each criterion"
        raise DataError(f"{message}; got {verdicts!r}", path, line, "verdicts")
    return Case(example, text, tuple(verdicts), arm)
