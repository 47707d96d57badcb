"""Files of JSON that a kill can interrupt: whole or not there, and rows that are whole."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any


def write_json(path: Path, value: object) -> None:
    """Write a JSON file that is whole or not there."""
    _replace(path, json.dumps(value, indent=2, ensure_ascii=False))


def write_rows(path: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    """Write a file of JSON rows that is whole or not there."""
    path.parent.mkdir(parents=True, exist_ok=True)
    _replace(path, "".join(map(_line, rows)))


def append_rows(path: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    """Append JSON rows to a file that `read_rows` has been asked to mend, or that is new."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a", encoding="utf-8") as file:
        file.write("".join(map(_line, rows)))


def read_rows(path: Path) -> list[dict[str, Any]]:
    """Rows of a file; a last line without its end was cut off by a kill, and is not one.

    Raises:
        ValueError: If another line is not JSON; its message begins with the line's number.
    """
    if not path.is_file():
        return []
    # Not splitlines: it also cuts at separators that JSON leaves inside texts.
    *whole, _ = path.read_text(encoding="utf-8").split("\n")
    rows = []
    for number, line in enumerate(whole, 1):
        try:
            rows.append(json.loads(line))
        except ValueError as error:
            raise ValueError(f"line {number}: {error}") from error
    return rows


def _line(row: Mapping[str, Any]) -> str:
    return json.dumps(row, ensure_ascii=False, allow_nan=False) + "\n"


def _replace(path: Path, text: str) -> None:
    unfinished = path.with_name(path.name + ".unfinished")
    unfinished.write_text(text, encoding="utf-8")
    unfinished.replace(path)
