"""Rows of a JSONL file and the examples in them; errors name the file, the line and the field."""

import json
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple

from pydantic import Field, PlainValidator, ValidationError

from rcsd.config import JsonlData
from rcsd.data.fields import (
    OptionalText,
    RowModel,
    Text,
    check_encodable,
    explain,
    is_absent,
    problem_list,
    shortened,
)
from rcsd.data.json_files import import_hint, json_lines
from rcsd.data.rubric import CriterionRow, build_rubric, rubric_rows
from rcsd.errors import DataError, RubricError
from rcsd.io import digest, write_rows
from rcsd.types import DEFAULT_TOLERANCE, LETTERS, AnswerKind, Example, Grading, Message

# Rows


def option_index(reference: str, options: Sequence[str]) -> int:
    """Index of the option that a reference means: by its letter, or by its text.

    Wrong options may have the same text. Raises DataError if one has that of the right option, or
    the reference is neither a letter nor a text.
    """
    texts, reference = [option.strip() for option in options], reference.strip()
    letters = [*LETTERS[: len(texts)]]
    for names in (letters, texts):
        if reference in names:
            index = names.index(reference)
            if texts.count(texts[index]) > 1:
                message = f"{shortened(texts[index])} stands there twice, and is the right option"
                raise DataError(message, field="options")
            return index
    message = (
        f"the reference {shortened(reference)} is neither one of {', '.join(letters)} nor an option"
    )
    raise DataError(message, field="options")


class GradingRow(RowModel):
    """Grading of the final answer ``{"kind", "options"?, "unit"?, "tolerance"?}``."""

    kind: AnswerKind
    options: list[Text] | None = None
    unit: str | None = None
    tolerance: Annotated[float, Field(ge=0, lt=1)] | None = None

    def build(self, reference: str) -> Grading:
        """Grading of an answer with that reference.

        Raises DataError if options and kind do not agree, or the reference is none of the options.
        """
        options = self.options or []
        if (self.kind == "choice") != (2 <= len(options) <= len(LETTERS)) or (
            options and self.kind != "choice"
        ):
            message = f"expected 2 to {len(LETTERS)} texts for kind choice, none for other kinds"
            raise DataError(f"{message}; got {shortened(options)}", field="options")
        if options:
            option_index(reference, options)
        tolerance = DEFAULT_TOLERANCE if self.tolerance is None else self.tolerance
        return Grading(self.kind, tuple(options), self.unit or "", tolerance)


class TurnRow(RowModel):
    """Earlier turn of a chat ``{"role": "system" | "user" | "assistant", "content": str}``."""

    role: Literal["system", "user", "assistant"]
    content: Text


def _check_id(value: object) -> str:
    if isinstance(value, float) and value.is_integer():  # pandas' ids where one is missing
        value = int(value)
    if isinstance(value, bool) or not isinstance(value, str | int) or value == "":
        raise ValueError(f"expected a text or a whole number, got {shortened(value)}")
    return check_encodable(str(value))


class Row(RowModel):
    """One row of data; all fields but ``question`` may be null or left out."""

    id: Annotated[str, PlainValidator(_check_id)] = ""
    question: Text
    reference_answer: OptionalText = None
    solution: OptionalText = None
    rubric: list[CriterionRow] | None = None
    tags: dict[str, str | None] | None = None
    grading: GradingRow | None = None
    turns: list[TurnRow] | None = None


FIELDS = tuple(Row.model_fields)


def example_from_row(
    row: Mapping[str, Any], path: str | Path | None = None, line: int | None = None
) -> Example:
    """Example of a row as in `Row`; the line is the id where it has none.

    Raises DataError naming place, field and what is allowed.
    """
    try:
        read = Row.model_validate({**row, "id": line} if is_absent(row.get("id")) else row)
        grading = None
        if read.grading is not None and read.reference_answer is None:
            raise DataError("an answer is graded, but the row has no reference answer")
        if read.grading is not None and read.reference_answer is not None:
            grading = read.grading.build(read.reference_answer)
        return Example(
            id=read.id,
            question=read.question,
            reference_answer=read.reference_answer,
            solution=read.solution,
            rubric=None if read.rubric is None else build_rubric(read.rubric),
            tags={name: tag for name, tag in (read.tags or {}).items() if tag is not None},
            grading=grading,
            turns=tuple(Message(**turn.model_dump()) for turn in read.turns or ()),
        )
    except ValidationError as error:
        field, message = explain(error)
        raise DataError(message, path, line, field) from error
    except RubricError as error:
        raise DataError(str(error), path, line, "rubric") from error
    except DataError as error:
        field = f"grading.{error.field}" if error.field else "grading"
        raise DataError(error.message, path, line, field) from error


def row_id(row: Mapping[str, Any], seen: Counter[str]) -> str:
    """Id of a row that has none: a digest of its content, so the same wherever it stands.

    Equal rows are told apart by ``-2``, ``-3``; ``seen`` counts them.
    """
    content = {name: value for name, value in row.items() if name not in ("id", "tags")}
    name = digest(json.dumps(content, sort_keys=True, default=str))[:12]
    seen[name] += 1
    return name if seen[name] == 1 else f"{name}-{seen[name]}"


def row_from_example(example: Example) -> dict[str, Any]:
    """Row that `example_from_row` reads back to an equal example; empty fields are left out."""
    grading = None
    if example.grading is not None:
        grading = asdict(example.grading) | {"options": list(example.grading.options)}
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
        "turns": list(example.turns),
    }
    return {name: value for name, value in row.items() if value not in (None, {}, [])}


# Files


class FileRow(NamedTuple):
    """A line, from 1, the row's id or else that number, and the example or the row's error."""

    line: int
    id: str
    example: Example | None
    error: DataError | None


def read_rows(path: str | Path) -> Iterator[FileRow]:
    """Every row of a JSONL file, malformed ones included; a repeated id is malformed.

    Raises DataError if the file cannot be read or holds no row.
    """
    lines: dict[str, int] = {}
    for line, value in json_lines(path):
        id = value.get("id") if isinstance(value, dict) else None
        id = str(line if is_absent(id) or not isinstance(id, str | int) else id)
        try:
            if isinstance(value, DataError):
                raise value
            example = example_from_row(value, path, line)
            id = example.id
            if id in lines:
                message = f"{shortened(id)} is the id of line {lines[id]} too; ids must differ"
                raise DataError(message, path, line, "id")
            yield FileRow(line, id, example, None)
        except DataError as error:
            yield FileRow(line, id, None, error)
        lines.setdefault(id, line)


def read_jsonl(path: str | Path) -> list[Example]:
    """Examples of a JSONL file, in order. A row without ``id`` gets its line number.

    Raises DataError if the file is missing, holds no row, or rows are malformed or repeat an id:
    it has the place of the first, and lists the others.
    """
    rows = list(read_rows(path))
    errors = [(row.line, row.error) for row in rows if row.error is not None]
    if errors:
        line, first = errors[0]
        problems = [(line, str(error.at(None, None))) for line, error in errors]
        message = first.message + problem_list(problems)
        if len(errors) == len(rows):
            message += f"; {import_hint(path)}"
        raise DataError(message, path, line, first.field) from first
    return [row.example for row in rows if row.example is not None]


def load(section: JsonlData) -> tuple[list[Example], dict[str, object]]:
    """Examples of a data section (`rcsd.data.load`); there is nothing to record."""
    return read_jsonl(section.path), {}


def write_jsonl(examples: Iterable[Example], path: str | Path) -> None:
    """Write examples, one row a line; the file appears complete or not at all.

    Raises DataError if the file cannot be written.
    """
    write_rows(Path(path), map(row_from_example, examples))
