"""Grading of a file of answers: one JSON row an answer."""

from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rcsd.data.rows import grading_from_row, json_rows
from rcsd.errors import DataError
from rcsd.graders.answers import Grade, grade
from rcsd.io import check_writable, write_rows

GRADING_FIELDS = ("kind", "options", "unit", "tolerance")


def grade_file(path: Path, out: Path) -> list[Grade]:
    """Write the rows of a file with ``extracted``, ``verdict`` and ``reason`` added.

    A row has ``completion``, ``reference`` and ``kind``, and may have ``unit``, ``options``,
    ``tolerance`` (`rcsd.types.Grading`) and ``finished``; other keys stay as they are.

    Raises:
        DataError: If a row is malformed, naming file, line and field, or a file cannot be read or
            written.
        RunError: If the process that does mathematics cannot be started.
    """
    check_writable(out, [path])
    rows: list[dict[str, Any]] = []
    grades: list[Grade] = []
    for line, row in json_rows(path):
        one = _grade_row(row, path, line)
        grades.append(one)
        added = {"extracted": one.extracted, "verdict": one.verdict, "reason": one.reason}
        rows.append(row | added)
    write_rows(out, rows)
    return grades


def count_reasons(grades: list[Grade]) -> dict[str, int]:
    """Ungraded answers by the beginning of the reason, most frequent first."""
    reasons = Counter(one.reason.split(":")[0] for one in grades if one.verdict is None)
    return dict(reasons.most_common())


def _grade_row(row: Mapping[str, Any], path: Path, line: int) -> Grade:
    for name in ("completion", "reference"):
        if not isinstance(row.get(name), str):
            raise DataError(f"expected a text, got {row.get(name)!r}", path, line, name)
    finished = row.get("finished", True)
    if not isinstance(finished, bool):
        raise DataError(f"expected true or false, got {finished!r}", path, line, "finished")
    fields = {name: row[name] for name in GRADING_FIELDS if row.get(name) is not None}
    try:
        grading = grading_from_row(fields, row["reference"])
        return grade(row["completion"], row["reference"], grading, finished)
    except DataError as error:
        message = str(error).removeprefix(f"field '{error.field}': ")
        raise DataError(message, path, line, error.field) from error
