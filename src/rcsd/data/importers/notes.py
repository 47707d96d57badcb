"""What an importer did, row by row: rules, repairs, and what was left out and why."""

import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from rcsd.data.rows import example_from_row
from rcsd.errors import DataError
from rcsd.types import Example

Turns = Literal["single", "joined"]
"""Which prompts become questions: those of one user turn, or all, with the turns joined."""


@dataclass(frozen=True)
class Options:
    """What a user decides about an import.

    Args:
        rubric: Which of a row's rubrics is taken, where it has several.
        turns: What becomes of a prompt of several turns.
        strict: Whether a row that needs a repair is refused instead.
    """

    rubric: str = "GT"
    turns: Turns = "single"
    strict: bool = False


@dataclass
class Notes:
    """What was done to one row; a reader writes here.

    Args:
        rules: The rule that decided each criterion or field.
        repairs: Name and detail of each repair.
        dropped: Place and reason of each criterion that was left out.
    """

    rules: list[str] = field(default_factory=list)
    repairs: list[tuple[str, str]] = field(default_factory=list)
    dropped: list[str] = field(default_factory=list)


Reader = Callable[[Mapping[str, Any], Options, Notes], dict[str, Any]]
"""A row of a data set becomes a row of ours; what it cannot read raises a DataError."""


@dataclass(frozen=True)
class ImportReport:
    """What an importer did; every row and criterion of the source is accounted for.

    Args:
        num_rows: Rows in the source.
        counts: How many criteria and fields each rule decided, by the rule's name.
        dropped_rows: Line and reason of each row that became no example.
        dropped_criteria: Line and reason of each criterion that was left out of its rubric.
        num_examples: Rows that became examples.
        repairs: How many times each repair was made in them, by its name.
        repaired_rows: Line, name and detail of each repair.
        refusals: How many rows each reason refused.
        omissions: How many criteria each reason left out.
        unread_fields: Fields of the source that no example holds, and in how many rows they stand.
        source: File, folder or hub id.
        format: The layout that it was read as.
    """

    num_rows: int
    counts: Mapping[str, int]
    dropped_rows: tuple[tuple[int, str], ...]
    dropped_criteria: tuple[tuple[int, str], ...]
    num_examples: int = 0
    repairs: Mapping[str, int] = field(default_factory=dict)
    repaired_rows: tuple[tuple[int, str], ...] = ()
    refusals: Mapping[str, int] = field(default_factory=dict)
    omissions: Mapping[str, int] = field(default_factory=dict)
    unread_fields: Mapping[str, int] = field(default_factory=dict)
    source: str = ""
    format: str = ""


def collect(
    rows: Iterable[tuple[int, Mapping[str, Any] | DataError]],
    reader: Reader,
    options: Options,
    fields: frozenset[str],
    source: str,
) -> tuple[list[Example], ImportReport]:
    """Examples of the rows that can be read, and a report in which the others are listed.

    Args:
        rows: Line numbers, counted from 1, and rows, or why a line is none.
        reader: Turns a row into one of ours.
        options: What the user decided.
        fields: The fields that the reader reads; others are counted as unread.
        source: File, folder or hub id, for errors.

    Raises:
        DataError: If no row becomes an example; it names the first reason.
    """
    examples: dict[str, Example] = {}
    counts: Counter[str] = Counter()
    repairs: Counter[str] = Counter()
    unread: Counter[str] = Counter()
    repaired: list[tuple[int, str]] = []
    dropped_rows: list[tuple[int, str]] = []
    dropped_criteria: list[tuple[int, str]] = []
    num_rows = 0
    for line, row in rows:
        num_rows += 1
        notes = Notes()
        try:
            if isinstance(row, DataError):
                raise row
            unread.update(set(row) - fields)
            example = _example(row, line, reader, options, notes)
            if example.id in examples:
                raise DataError(f"{example.id!r} is the id of an earlier row", field="id")
        except DataError as error:
            why = f" ({'; '.join(notes.dropped)})" if notes.dropped else ""
            dropped_rows.append((line, f"{_without_place(error)}{why}"))
            continue
        examples[example.id] = example
        counts.update(notes.rules)
        repairs.update(name for name, _ in notes.repairs)
        repaired += [
            (line, f"{name}: {detail}" if detail else name) for name, detail in notes.repairs
        ]
        dropped_criteria += [(line, reason) for reason in notes.dropped]
    report = ImportReport(
        num_rows,
        dict(counts),
        tuple(dropped_rows),
        tuple(dropped_criteria),
        num_examples=len(examples),
        repairs=dict(repairs),
        repaired_rows=tuple(repaired),
        refusals=dict(Counter(reason_name(reason) for _, reason in dropped_rows)),
        omissions=dict(Counter(reason_name(reason) for _, reason in dropped_criteria)),
        unread_fields=dict(unread),
        source=source,
    )
    if not examples:
        first = dropped_rows[0][1] if dropped_rows else "there are no rows"
        raise DataError(f"no row became an example; the first: {first}", source)
    return list(examples.values()), report


def _without_place(error: DataError) -> DataError:
    """The error without file and line, which the list gives anyway."""
    place = ":".join(str(part) for part in (error.path, error.line) if part is not None)
    return DataError(str(error).removeprefix(f"{place}: "))


def _example(
    row: Mapping[str, Any], line: int, reader: Reader, options: Options, notes: Notes
) -> Example:
    ours = reader(row, options, notes)
    if options.strict and notes.repairs:
        names = ", ".join(dict.fromkeys(name for name, _ in notes.repairs))
        raise DataError(f"needs a repair, and strict allows none: {names}", field="rubric")
    example = example_from_row(ours, line=line)
    if notes.repairs:
        names = ", ".join(dict.fromkeys(name for name, _ in notes.repairs))
        example = replace(example, tags={**example.tags, "rubric_repairs": names})
    return example


def reason_name(reason: str) -> str:
    """A reason without what differs from row to row, so that reasons can be counted."""
    found = re.match(r"field '([^']*)': ", reason)
    place, rest = (found[1], reason[found.end() :]) if found else ("", reason)
    found = re.match(r"(rubric\[\d+\](?:\.\w+)?): ", rest)
    place, rest = (found[1], rest[found.end() :]) if found else (place, rest)
    rest = re.split(r", got |; |: | at column | \(", rest, maxsplit=1)[0]
    rest = re.sub(r"'[^']*'|\"[^\"]*\"|(?<!\w)-?\d+(?:\.\d+)?", "…", rest)
    place = re.sub(r"\[\d+\]", "[]", place)
    return f"{place}: {rest}" if place else rest
