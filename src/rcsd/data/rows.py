"""Rows of JSONL and examples, strictly: every error names the file, the line and the field."""

import difflib
import json
import os
import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from rcsd.errors import DataError, RubricError
from rcsd.judges.checks import validate_check
from rcsd.rubrics import Rubric, parse_rubric, rubric_rows
from rcsd.types import Example

FIELDS = ("id", "question", "reference_answer", "solution", "rubric", "tags")


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


def json_rows(path: str | Path) -> Iterator[tuple[int, dict[str, Any]]]:
    """Line numbers, counted from 1, and JSON objects of a file; blank lines are passed over.

    Raises:
        DataError: If the file cannot be read, holds no row, or a line is not UTF-8 or no object.
    """
    try:
        content = Path(path).read_bytes().removeprefix(b"\xef\xbb\xbf")
    except FileNotFoundError as error:
        raise DataError("there is no such file", path) from error
    except OSError as error:
        raise DataError(f"cannot be read: {error.strerror}", path) from error
    empty = True
    for line, raw in enumerate(content.split(b"\n"), start=1):
        if raw.strip():
            empty = False
            yield line, _json_object(raw, path, line)
    if empty:
        raise DataError("the file holds no rows; expected one JSON object a line", path)


def _json_object(raw: bytes, path: str | Path, line: int) -> dict[str, Any]:
    def without_repeats(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        row = dict(pairs)
        if len(row) < len(pairs):
            keys = [key for key, _ in pairs]
            repeated = next(key for key in keys if keys.count(key) > 1)
            raise DataError("the key stands there twice", path, line, repeated)
        return row

    def not_a_number(name: str) -> float:
        raise DataError(f"invalid JSON: {name} is not a JSON number", path, line)

    try:
        row = json.loads(
            raw.decode(), object_pairs_hook=without_repeats, parse_constant=not_a_number
        )
    except UnicodeDecodeError as error:
        raise DataError(
            f"invalid UTF-8 at byte {error.start + 1} of the line", path, line
        ) from error
    except json.JSONDecodeError as error:
        raise DataError(f"invalid JSON at column {error.colno}: {error.msg}", path, line) from error
    except (ValueError, RecursionError) as error:
        raise DataError(f"invalid JSON: {error}", path, line) from error
    if not isinstance(row, dict):
        raise DataError(f"expected a JSON object, got {type(row).__name__}", path, line)
    return row


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
                validate_check(criterion.check)
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
    }
    return {name: value for name, value in row.items() if value is not None}


def write_jsonl(examples: Iterable[Example], path: str | Path) -> None:
    """Write examples, one row a line; the file appears whole or not at all.

    Raises:
        DataError: If the file cannot be written.
    """
    path = Path(path)
    draft = path.with_name(f".{path.name}.{os.getpid()}.draft")
    try:
        with draft.open("w", encoding="utf-8", newline="\n") as file:
            for example in examples:
                file.write(json.dumps(row_from_example(example), ensure_ascii=False) + "\n")
            file.flush()
            os.fsync(file.fileno())
        draft.replace(path)
    except OSError as error:
        raise DataError(f"cannot be written: {error.strerror}", path) from error
    finally:
        draft.unlink(missing_ok=True)
