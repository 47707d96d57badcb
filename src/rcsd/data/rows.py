"""Rows and examples, strictly: every error names the file, the line and the field."""

import difflib
import re
from collections.abc import Iterable, Mapping
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any, cast, get_args

from rcsd.config import JsonlData
from rcsd.data.checks import parse_check
from rcsd.data.lines import json_rows
from rcsd.data.rubric import parse_rubric, rubric_rows
from rcsd.errors import DataError, RubricError
from rcsd.io import write_rows
from rcsd.types import DEFAULT_TOLERANCE, LETTERS, AnswerKind, Example, Grading, Rubric

FIELDS = ("id", "question", "reference_answer", "solution", "rubric", "tags", "grading")


def load(section: JsonlData) -> tuple[list[Example], dict[str, object]]:
    """Examples of a data section (`rcsd.data.load`); there is nothing to record."""
    return read_jsonl(section.path), {}


def read_jsonl(path: str | Path) -> list[Example]:
    """Examples of a JSONL file, in order. A row without ``id`` gets its line number.

    Raises:
        DataError: If the file is missing, holds no row, or a row is malformed or repeats an id.
    """
    examples: list[Example] = []
    lines: dict[str, int] = {}
    for line, row in json_rows(path):
        example = example_from_row(row, path, line)
        if example.id in lines:
            raise DataError(
                f"{example.id!r} is the id of line {lines[example.id]} too; ids must differ",
                path,
                line,
                "id",
            )
        lines[example.id] = line
        examples.append(example)
    return examples


def example_from_row(
    row: Mapping[str, Any], path: str | Path | None = None, line: int | None = None
) -> Example:
    """Example of a row with the fields of `FIELDS`; all but ``question`` may be null or left out.

    Args:
        row: One JSON object.
        path: The file it comes from, for errors.
        line: The line it comes from; the id where the row has none.

    Raises:
        DataError: Naming the field and what is allowed.
    """
    for name in row:
        if name not in FIELDS:
            close = difflib.get_close_matches(name, FIELDS, n=1)
            hint = f"did you mean '{close[0]}'? " if close else ""
            message = f"unknown field; {hint}allowed are {', '.join(FIELDS)}"
            raise DataError(message, path, line, name)
    try:
        question = _text(row, "question")
        if question is None:
            raise DataError("the question is missing", field="question")
        return Example(
            id=_id(row, line),
            question=question,
            reference_answer=_text(row, "reference_answer"),
            solution=_text(row, "solution"),
            rubric=_rubric(row.get("rubric")),
            tags=_tags(row.get("tags")),
            grading=_grading(row.get("grading"), row.get("reference_answer")),
        )
    except DataError as error:
        message = str(error).removeprefix(f"field '{error.field}': ")
        raise DataError(message, path, line, error.field) from error


def _text(row: Mapping[str, Any], name: str) -> str | None:
    value = row.get(name)
    if value is None:
        return None
    if not isinstance(value, str) or not value.strip():
        raise DataError(f"expected a text that is not empty, got {value!r}", field=name)
    if re.search("[\ud800-\udfff]", value):
        raise DataError("holds half of a surrogate pair, which no UTF-8 can hold", field=name)
    return value


def _id(row: Mapping[str, Any], line: int | None) -> str:
    value = row.get("id", line)
    if isinstance(value, bool) or not isinstance(value, str | int) or value == "":
        raise DataError(f"expected a text or a whole number, got {value!r}", field="id")
    return str(value)


def _tags(value: object) -> dict[str, str]:
    if value is None:
        return {}
    if not isinstance(value, Mapping):
        raise DataError(f"expected an object of texts, got {value!r}", field="tags")
    for name, tag in value.items():
        if not isinstance(tag, str):
            raise DataError(f"expected a text, got {tag!r}", field=f"tags.{name}")
    return dict(value)


def _grading(value: object, reference: object) -> Grading | None:
    if value is None:
        return None
    try:
        return grading_from_row(value, reference)
    except DataError as error:
        field = "grading" + (f".{error.field}" if error.field else "")
        message = str(error).removeprefix(f"field '{error.field}': ")
        raise DataError(message, field=field) from error


def grading_from_row(value: object, reference: object) -> Grading:
    """How an answer is graded, of ``{"kind", "options"?, "unit"?, "tolerance"?}``.

    Args:
        value: The object.
        reference: The answer that it goes with; of a choice its letter, or the option's text.

    Raises:
        DataError: Naming the field and what is allowed.
    """
    if not isinstance(value, Mapping):
        raise DataError(f'expected an object such as {{"kind": "number"}}, got {value!r}')
    allowed = [field.name for field in fields(Grading)]
    for name in value:
        if name not in allowed:
            raise DataError(f"unknown field; allowed are {', '.join(allowed)}", field=name)
    kind, options, unit = value.get("kind"), value.get("options") or (), value.get("unit") or ""
    tolerance = value.get("tolerance")
    tolerance = DEFAULT_TOLERANCE if tolerance is None else tolerance
    if kind not in get_args(AnswerKind):
        raise DataError(f"{kind!r}: allowed are {', '.join(get_args(AnswerKind))}", field="kind")
    if not isinstance(unit, str):
        raise DataError(f"expected a text, got {unit!r}", field="unit")
    is_number = isinstance(tolerance, int | float) and not isinstance(tolerance, bool)
    if not (is_number and 0 <= tolerance < 1):
        raise DataError(
            f"expected a number of at least 0 and below 1, got {tolerance!r}", field="tolerance"
        )
    if not isinstance(reference, str):
        raise DataError("an answer is graded, but the row has no reference answer")
    if kind == "choice":
        _check_options(options, reference)
    elif options:
        raise DataError(f"options belong to kind choice, not to {kind}", field="options")
    return Grading(cast(AnswerKind, kind), tuple(options), unit, tolerance)


def _check_options(options: object, reference: str) -> None:
    if not isinstance(options, list | tuple) or not 2 <= len(options) <= len(LETTERS):
        raise DataError(f"expected 2 to {len(LETTERS)} texts, got {options!r}", field="options")
    for place, option in enumerate(options):
        if not isinstance(option, str) or not option.strip():
            raise DataError(f"expected a text that is not empty, got {option!r}", field="options")
        if option.strip() in {other.strip() for other in options[:place]}:
            raise DataError(f"{option!r} stands there twice", field="options")
    letters = LETTERS[: len(options)]
    if reference.strip() not in (*letters, *(option.strip() for option in options)):
        raise DataError(
            f"the reference {reference!r} is neither one of {', '.join(letters)} nor an option",
            field="options",
        )


def _rubric(value: object) -> Rubric | None:
    if value is None:
        return None
    try:
        rubric = parse_rubric(value)
    except RubricError as error:
        place, _, message = str(error).partition(": ")
        if place.startswith("["):
            raise DataError(message, field=f"rubric{place}") from error
        raise DataError(str(error), field="rubric") from error
    for index, criterion in enumerate(rubric.criteria):
        if criterion.check is not None:
            try:
                parse_check(criterion.check)
            except RubricError as error:
                raise DataError(str(error), field=f"rubric[{index}].check") from error
    return rubric


def row_from_example(example: Example) -> dict[str, Any]:
    """Row that `example_from_row` reads back to an equal example; what is None is left out."""
    row = {
        "id": example.id,
        "question": example.question,
        "reference_answer": example.reference_answer,
        "solution": example.solution,
        "rubric": None if example.rubric is None else rubric_rows(example.rubric),
        "tags": dict(example.tags) or None,
        "grading": None if example.grading is None else _grading_row(example.grading),
    }
    return {name: value for name, value in row.items() if value is not None}


def _grading_row(grading: Grading) -> dict[str, Any]:
    row = asdict(grading) | {"options": list(grading.options)}
    if grading.kind != "number":
        del row["tolerance"]
    return {name: value for name, value in row.items() if value not in ([], "")}


def write_jsonl(examples: Iterable[Example], path: str | Path) -> None:
    """Write examples, one row a line; the file appears whole or not at all, and its folder is made.

    Raises:
        DataError: If the file cannot be written.
    """
    write_rows(Path(path), map(row_from_example, examples))
