"""Rows of a file of rubrics one by one, so that a malformed row hides no other."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from rcsd.data.lines import json_lines, json_rows
from rcsd.data.lint import Row
from rcsd.data.rows import example_from_row
from rcsd.errors import DataError
from rcsd.types import Example, Rubric


def read_rows(path: str | Path) -> list[Row]:
    """Every row of a JSONL file, malformed ones included; a repeated id is malformed.

    A line that is not JSON is malformed without a rubric: what it would have held is not known.

    Raises:
        DataError: If the file cannot be read or holds no row.
    """
    rows: list[Row] = []
    lines: dict[str, int] = {}
    for line, given in json_lines(path):
        row = _row(given, path, line)
        if row.example is not None and row.id in lines:
            message = f"{row.id!r} is the id of line {lines[row.id]} too; ids must differ"
            error = DataError(message, path, line, "id")
            row = Row(line, row.id, None, error, row.rubric)
        lines.setdefault(row.id, line)
        rows.append(row)
    return rows


def _row(given: Mapping[str, Any] | DataError, path: str | Path, line: int) -> Row:
    if isinstance(given, DataError):
        return Row(line, str(line), None, given, "none")
    try:
        example = example_from_row(given, path, line)
    except DataError as error:
        id = given.get("id", line)
        shown = str(id) if isinstance(id, str | int) else str(line)
        return Row(line, shown, None, error, _state(given))
    return Row(line, example.id, example, None, "none" if example.rubric is None else "readable")


def _state(row: Mapping[str, Any]) -> Literal["none", "readable", "malformed"]:
    """Of the rubric of a row that is malformed somewhere."""
    if row.get("rubric") is None:
        return "none"
    try:
        example_from_row({"id": "0", "question": "?", "rubric": row["rubric"]})
    except DataError:
        return "malformed"
    return "readable"


def read_completions(paths: Sequence[str | Path], gold: Sequence[Example]) -> dict[str, list[str]]:
    """Completions of gold's rows by id, from rows with ``id`` and ``text`` as evaluations write.

    Other fields are not read, and rows of other ids are passed over; the same text twice is two
    completions.

    Raises:
        DataError: If a file cannot be read, a row lacks its id or text, a file holds nothing of
            gold's rows, or no criterion of gold has a check: then only a judge could order answers.
    """
    found: dict[str, list[str]] = {example.id: [] for example in gold}
    for path in paths:
        num_read = 0
        for line, row in json_rows(path):
            id, text = _completion(row, path, line)
            if id in found:
                found[id].append(text)
                num_read += 1
        if num_read == 0:
            shown = ", ".join(map(repr, list(found)[:3]))
            raise DataError(f"no completion is of a gold row; gold's ids: {shown}, ...", path)
    if paths and not any(c.check for e in gold if e.rubric for c in e.rubric.criteria):
        raise DataError(
            "no criterion of gold has a check, so code cannot say which completions meet it; "
            "leave --completions out",
            field="rubric[0].check",
        )
    return {id: texts for id, texts in found.items() if texts}


def _completion(row: Mapping[str, Any], path: str | Path, line: int) -> tuple[str, str]:
    id, text = row.get("id"), row.get("text")
    if isinstance(id, bool) or not isinstance(id, str | int):
        raise DataError(f"expected a text or a whole number, got {id!r}", path, line, "id")
    if not isinstance(text, str):
        raise DataError(f"expected a text, got {text!r}", path, line, "text")
    return str(id), text


@dataclass(frozen=True)
class WrittenFile:
    """Written rubrics that belong to gold rows.

    Args:
        rubrics: By the id of the gold row.
        num_malformed: Rows that could not be read.
        num_others: Rows whose id gold lacks.
    """

    rubrics: Mapping[str, Rubric]
    num_malformed: int
    num_others: int


def written_rubrics(
    gold: Sequence[Example], path: str | Path, skip_malformed: bool = False
) -> WrittenFile:
    """The rubrics of a file that were written for gold's rows, matched by id.

    Args:
        gold: Examples.
        path: JSONL rows with the same ids and questions.
        skip_malformed: Count rows that cannot be read instead of refusing them.

    Raises:
        DataError: If a row is malformed, asks another question than gold's row of that id, or no
            row belongs to gold.
    """
    questions = {example.id: example.question for example in gold}
    rubrics: dict[str, Rubric] = {}
    num_malformed = num_others = 0
    for row in read_rows(path):
        if row.error is not None and not skip_malformed:
            raise row.error
        if row.example is None:
            num_malformed += 1
        elif row.id not in questions:
            num_others += 1
        elif row.example.question != questions[row.id]:
            message = f"row {row.id!r} asks another question than gold's row of that id"
            raise DataError(message, path, row.line, "question")
        elif row.example.rubric is not None:
            rubrics[row.id] = row.example.rubric
    if not rubrics:
        shown = ", ".join(map(repr, list(questions)[:3]))
        raise DataError(f"no rubric is of a gold row; gold's ids are such as {shown}", path)
    return WrittenFile(rubrics, num_malformed, num_others)
