"""Accounting of an import: rules, and what was left out and why."""

import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from rcsd.data.rows import example_from_row
from rcsd.errors import DataError
from rcsd.types import Example

Turns = Literal["single", "joined"]
"""Prompts that become questions: those of one user turn, or all, with the turns joined."""


@dataclass(frozen=True)
class Options:
    """Choices of the user."""

    turns: Turns = "single"


@dataclass
class Notes:
    """Log of one row; its reader writes here.

    Args:
        rules: Rule that decided each criterion or field.
        dropped: Place and reason of each criterion that was left out.
    """

    rules: list[str] = field(default_factory=list)
    dropped: list[str] = field(default_factory=list)


Reader = Callable[[Mapping[str, Any], Options, Notes], dict[str, Any]]
"""Function from a row of a data set to a row of ours; it raises a DataError for what it refuses."""


@dataclass(frozen=True)
class ImportReport:
    """Account of every row and criterion of a source.

    Args:
        num_rows: Rows in the source.
        counts: Number of criteria and fields by the rule that decided them.
        dropped_rows: Line and reason of each row that became no example.
        dropped_criteria: Line and reason of each criterion that was left out of its rubric.
        num_examples: Rows that became examples.
        refusals: Number of refused rows by reason.
        omissions: Number of criteria left out by reason.
        unread_fields: Fields of the source that no example holds, and the number of rows with them.
        source: File, folder or hub id.
        format: Layout that it was read as.
    """

    num_rows: int
    counts: Mapping[str, int]
    dropped_rows: tuple[tuple[int, str], ...]
    dropped_criteria: tuple[tuple[int, str], ...]
    num_examples: int = 0
    refusals: Mapping[str, int] = field(default_factory=dict)
    omissions: Mapping[str, int] = field(default_factory=dict)
    unread_fields: Mapping[str, int] = field(default_factory=dict)
    source: str = ""
    format: str = ""


def collect(
    rows: Iterable[tuple[int, Mapping[str, Any] | DataError]],
    reader: Reader,
    options: Options,
    fields: Iterable[str],
    source: str,
) -> tuple[list[Example], ImportReport]:
    """Examples of the well-formed rows, and a report in which the others are listed.

    Args:
        rows: Line numbers, from 1, and rows, or the error of a malformed one.
        reader: Turns a row into one of ours.
        options: Choices of the user.
        fields: Fields that the reader reads; others are counted as unread.
        source: File, folder or hub id, for errors.

    Raises:
        DataError: If no row becomes an example; it names the first reason.
    """
    examples: dict[str, Example] = {}
    accepted: list[tuple[int, Notes]] = []
    dropped_rows: list[tuple[int, str]] = []
    unread: Counter[str] = Counter()
    for line, row in rows:
        notes = Notes()
        try:
            if isinstance(row, DataError):
                raise row
            unread.update(set(row) - set(fields))
            example = example_from_row(reader(row, options, notes), line=line)
            if example.id in examples:
                raise DataError(f"{example.id!r} is the id of an earlier row", field="id")
        except DataError as error:
            why = f" ({'; '.join(notes.dropped)})" if notes.dropped else ""
            dropped_rows.append((line, f"{error.at(None, None)}{why}"))
            continue
        examples[example.id] = example
        accepted.append((line, notes))
    if not examples:
        first = dropped_rows[0][1] if dropped_rows else "there are no rows"
        raise DataError(f"no row became an example; the first: {first}", source)
    omitted = [(line, reason) for line, notes in accepted for reason in notes.dropped]
    return list(examples.values()), ImportReport(
        num_rows=len(accepted) + len(dropped_rows),
        counts=dict(Counter(rule for _, notes in accepted for rule in notes.rules)),
        dropped_rows=tuple(dropped_rows),
        dropped_criteria=tuple(omitted),
        num_examples=len(examples),
        refusals=dict(Counter(reason_name(reason) for _, reason in dropped_rows)),
        omissions=dict(Counter(reason_name(reason) for _, reason in omitted)),
        unread_fields=dict(unread),
        source=source,
    )


def reason_name(reason: str) -> str:
    """Reason without what differs from row to row, for counting."""
    match = re.match(r"field '([^']*)': ", reason) or re.match(
        r"(rubric\[\d+\](?:\.\w+)?): ", reason
    )
    place, rest = (match[1], reason[match.end() :]) if match else ("", reason)
    rest = re.split(r", got |; |: | at column | \(", rest, maxsplit=1)[0]
    rest = re.sub(r"'[^']*'|\"[^\"]*\"|(?<!\w)-?\d+(?:\.\d+)?", "…", rest)
    place = re.sub(r"\[\d+\]", "[]", place)
    return f"{place}: {rest}" if place else rest
