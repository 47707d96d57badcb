"""Rows of a JSONL file and the examples in them; errors name the file, the line and the field."""

import json
import math
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any, NamedTuple

from pydantic import AfterValidator, Field, PlainValidator, ValidationError

from rcsd.config import JsonlData
from rcsd.data.fields import RowModel, Text, check_encodable, explain, shortened
from rcsd.data.rubric import CriterionRow, build_rubric, rubric_rows
from rcsd.errors import DataError, RubricError
from rcsd.io import write_rows
from rcsd.types import DEFAULT_TOLERANCE, LETTERS, AnswerKind, Example, Grading

# JSON


def read_bytes(path: str | Path) -> bytes:
    """Bytes of a file.

    Raises:
        DataError: If it cannot be read.
    """
    try:
        return Path(path).read_bytes()
    except FileNotFoundError as error:
        raise DataError("there is no such file", path) from error
    except OSError as error:
        raise DataError(f"cannot be read: {error.strerror}", path) from error


def parse_json(raw: bytes, path: str | Path | None = None, line: int | None = None) -> Any:
    """Value of strict JSON: no repeated keys, no NaN, no numbers and texts beyond bounds.

    Args:
        raw: UTF-8, with or without a byte order mark.
        path: File, for errors.
        line: Line in it; None where the JSON is a file.

    Raises:
        DataError: Naming place and reason.
    """
    try:
        text = raw.removeprefix(b"\xef\xbb\xbf").decode()
        value = json.loads(
            text, object_pairs_hook=_object, parse_constant=_finite, parse_float=_finite
        )
        if re.search(r"\\u[dD][89a-fA-F]", text):  # most likely a complete pair
            check_encodable(json.dumps(value, ensure_ascii=False))
    except DataError as error:
        raise error.at(path, line) from error
    except UnicodeDecodeError as error:
        hint = "; it looks like UTF-16" if raw.startswith((b"\xff\xfe", b"\xfe\xff")) else ""
        message = f"invalid UTF-8 at byte {error.start + 1}{' of the line' * bool(line)}{hint}"
        raise DataError(message, path, line) from error
    except json.JSONDecodeError as error:
        message = f"invalid JSON at column {error.colno}: {error.msg}"
        raise DataError(message, path, error.lineno if path and line is None else line) from error
    except (ValueError, RecursionError) as error:
        raise DataError(f"invalid JSON: {error}", path, line) from error
    return value


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    row = dict(pairs)
    if len(row) < len(pairs):
        keys = [key for key, _ in pairs]
        repeated = next(key for key in keys if keys.count(key) > 1)
        raise DataError("the key stands there twice", field=repeated)
    return row


def _finite(digits: str) -> float:
    if not math.isfinite(number := float(digits)):
        why = "is too large for a number" if digits[-1].isdigit() else "is not a JSON number"
        raise ValueError(f"{digits[:40]} {why}")
    return number


def json_lines(path: str | Path) -> Iterator[tuple[int, dict[str, Any] | DataError]]:
    """Line numbers, from 1, and JSON objects of a file, or the error in place of a malformed one.

    Blank lines are skipped.

    Raises:
        DataError: If the file cannot be read or holds no row.
    """
    content = read_bytes(path).removeprefix(b"\xef\xbb\xbf")
    empty = True
    for line, raw in enumerate(content.split(b"\n"), start=1):
        if not raw.strip():
            continue
        empty = False
        try:
            row = parse_json(raw, path, line)
        except DataError as error:
            row = error
        if not isinstance(row, dict | DataError):
            row = DataError(f"expected a JSON object, got {type(row).__name__}", path, line)
        yield line, row
    if empty:
        raise DataError("the file holds no rows; expected one JSON object a line", path)


def json_rows(path: str | Path) -> Iterator[tuple[int, dict[str, Any]]]:
    """Line numbers and JSON objects, as `json_lines`; the first malformed line is an error."""
    for line, row in json_lines(path):
        if isinstance(row, DataError):
            raise row
        yield line, row


# Rows


def _check_options(options: list[str]) -> list[str]:
    if options and not 2 <= len(options) <= len(LETTERS):
        raise ValueError(f"expected 2 to {len(LETTERS)} texts, got {len(options)}")
    for option, count in Counter(option.strip() for option in options).items():
        if count > 1:
            raise ValueError(f"{option!r} stands there twice")
    return options


class GradingRow(RowModel):
    """Grading of the final answer ``{"kind", "options"?, "unit"?, "tolerance"?}``."""

    kind: AnswerKind
    options: Annotated[list[Text], AfterValidator(_check_options)] | None = None
    unit: str | None = None
    tolerance: Annotated[float, Field(ge=0, lt=1)] | None = None

    def build(self, reference: object) -> Grading:
        """Grading of an answer with that reference.

        Raises:
            DataError: If options and kind do not agree, or the reference is none of the options.
        """
        if not isinstance(reference, str):
            message = "an answer is graded, but the row has no reference answer"
            raise DataError(message, field="grading")
        options = self.options or []
        if bool(options) != (self.kind == "choice"):
            message = f"expected 2 to {len(LETTERS)} texts for kind choice, none for other kinds"
            raise DataError(f"{message}; got {shortened(options)}", field="grading.options")
        letters = LETTERS[: len(options)]
        if options and reference.strip() not in (*letters, *map(str.strip, options)):
            message = (
                f"the reference {reference!r} is neither one of {', '.join(letters)} nor an option"
            )
            raise DataError(message, field="grading.options")
        tolerance = DEFAULT_TOLERANCE if self.tolerance is None else self.tolerance
        return Grading(self.kind, tuple(options), self.unit or "", tolerance)


def _check_id(value: object) -> str:
    if isinstance(value, bool) or not isinstance(value, str | int) or value == "":
        raise ValueError(f"expected a text or a whole number, got {shortened(value)}")
    return check_encodable(str(value))


class Row(RowModel):
    """One row of data; all fields but ``question`` may be null or left out."""

    id: Annotated[str, PlainValidator(_check_id)] = ""
    question: Text
    reference_answer: Text | None = None
    solution: Text | None = None
    rubric: list[CriterionRow] | None = None
    tags: dict[str, str | None] | None = None
    grading: GradingRow | None = None


FIELDS = tuple(Row.model_fields)


def example_from_row(
    row: Mapping[str, Any], path: str | Path | None = None, line: int | None = None
) -> Example:
    """Example of a row as in `Row`.

    Args:
        row: JSON object.
        path: File it comes from, for errors.
        line: Line it comes from; the id where the row has none.

    Raises:
        DataError: Naming the field and what is allowed.
    """
    try:
        read = Row.model_validate({"id": line} | dict(row))
        return Example(
            id=read.id,
            question=read.question,
            reference_answer=read.reference_answer,
            solution=read.solution,
            rubric=None if read.rubric is None else build_rubric(read.rubric),
            tags={name: tag for name, tag in (read.tags or {}).items() if tag is not None},
            grading=None if read.grading is None else read.grading.build(read.reference_answer),
        )
    except ValidationError as error:
        field, message = explain(error)
        raise DataError(message, path, line, field) from error
    except RubricError as error:
        raise DataError(str(error), path, line, "rubric") from error
    except DataError as error:
        raise error.at(path, line) from error


def grading_from_row(value: object, reference: object) -> Grading:
    """Grading of an answer with that reference, from a row as in `GradingRow`.

    Raises:
        DataError: Naming the field and what is allowed.
    """
    try:
        return GradingRow.model_validate(value).build(reference)
    except ValidationError as error:
        field, message = explain(error)
        raise DataError(message, field=field) from error
    except DataError as error:
        field = (error.field or "").removeprefix("grading.")
        raise DataError(error.message, field=field) from error


def row_from_example(example: Example) -> dict[str, Any]:
    """Row that `example_from_row` reads back to an equal example; empty fields are left out."""
    grading = None if example.grading is None else asdict(example.grading)
    if grading is not None:
        grading["options"] = list(grading["options"])
        grading = {
            name: value
            for name, value in grading.items()
            if value not in ([], "") and (name != "tolerance" or grading["kind"] == "number")
        }
    row = {
        "id": example.id,
        "question": example.question,
        "reference_answer": example.reference_answer,
        "solution": example.solution,
        "rubric": None if example.rubric is None else rubric_rows(example.rubric),
        "tags": dict(example.tags),
        "grading": grading,
    }
    return {name: value for name, value in row.items() if value not in (None, {})}


# Files


class FileRow(NamedTuple):
    """A line of a file, numbered from 1, with its example; or the error of a malformed one.

    Its id is the one in the row, or else the line number.
    """

    line: int
    id: str
    example: Example | None
    error: DataError | None


def read_rows(path: str | Path) -> Iterator[FileRow]:
    """Every row of a JSONL file, malformed ones included; a repeated id is malformed.

    Raises:
        DataError: If the file cannot be read or holds no row.
    """
    lines: dict[str, int] = {}
    for line, value in json_lines(path):
        id = value.get("id") if isinstance(value, dict) else None
        id = str(id if isinstance(id, str | int) else line)
        try:
            if isinstance(value, DataError):
                raise value
            example = example_from_row(value, path, line)
            if id in lines:
                message = f"{id!r} is the id of line {lines[id]} too; ids must differ"
                raise DataError(message, path, line, "id")
            yield FileRow(line, id, example, None)
        except DataError as error:
            yield FileRow(line, id, None, error)
        lines.setdefault(id, line)


def read_jsonl(path: str | Path) -> list[Example]:
    """Examples of a JSONL file, in order. A row without ``id`` gets its line number.

    Raises:
        DataError: If the file is missing, holds no row, or a row is malformed or repeats an id.
    """
    examples = []
    for row in read_rows(path):
        if row.example is None:
            assert row.error is not None
            raise row.error
        examples.append(row.example)
    return examples


def load(section: JsonlData) -> tuple[list[Example], dict[str, object]]:
    """Examples of a data section (`rcsd.data.load`); there is nothing to record."""
    return read_jsonl(section.path), {}


def write_jsonl(examples: Iterable[Example], path: str | Path) -> None:
    """Write examples, one row a line; the file appears complete or not at all.

    Raises:
        DataError: If the file cannot be written.
    """
    write_rows(Path(path), map(row_from_example, examples))
