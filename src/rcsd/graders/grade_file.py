"""A file of answers, graded: one JSON row an answer."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rcsd.data.rows import grading_from_row, json_rows
from rcsd.errors import DataError
from rcsd.graders.answers import Grade, grade
from rcsd.io import check_writable, write_rows

GRADING_FIELDS = ("kind", "options", "unit", "tolerance")
FIELDS = ("extracted", "verdict", "reason")
"""What grading adds to a row."""


@dataclass(frozen=True, slots=True)
class Counts:
    """How a file's answers were graded.

    Args:
        right: Rows.
        wrong: Rows.
        ungraded: Rows, by the beginning of the reason.
    """

    right: int
    wrong: int
    ungraded: Mapping[str, int]


def graded_file(path: Path, out: Path) -> Counts:
    """Write the rows of a file with ``extracted``, ``verdict`` and ``reason``; all else is kept.

    A row has ``completion``, ``reference`` and ``kind``, and may have ``unit``, ``options``,
    ``tolerance`` (`rcsd.types.Grading`) and ``finished``.

    Raises:
        DataError: If a row is malformed, naming file, line and field, or a file cannot be read or
            written.
        RunError: If the process that does mathematics cannot be started.
    """
    check_writable(out, [path])
    rows: list[dict[str, Any]] = []
    grades: list[Grade] = []
    for line, row in json_rows(path):
        found = _graded_row(row, path, line)
        grades.append(found)
        rows.append(
            row | dict(zip(FIELDS, (found.extracted, found.verdict, found.reason), strict=True))
        )
    write_rows(out, rows)
    verdicts = Counter(found.verdict for found in grades)
    reasons = Counter(found.reason.split(":")[0] for found in grades if found.verdict is None)
    return Counts(verdicts[True], verdicts[False], dict(reasons.most_common()))


def _graded_row(row: Mapping[str, Any], path: Path, line: int) -> Grade:
    for name in ("completion", "reference"):
        if not isinstance(row.get(name), str):
            raise DataError(f"expected a text, got {row.get(name)!r}", path, line, name)
    finished = row.get("finished", True)
    if not isinstance(finished, bool):
        raise DataError(f"expected true or false, got {finished!r}", path, line, "finished")
    asked = {name: row[name] for name in GRADING_FIELDS if row.get(name) is not None}
    try:
        grading = grading_from_row(asked, row["reference"])
        return grade(row["completion"], row["reference"], grading, finished)
    except DataError as error:
        message = str(error).removeprefix(f"field '{error.field}': ")
        raise DataError(message, path, line, error.field) from error
