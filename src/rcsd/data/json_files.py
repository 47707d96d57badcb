"""JSON in files of rows: strict values, and errors that name the line and the likely cause."""

import json
import math
import pkgutil
import re
import shlex
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from rcsd.data.fields import check_encodable
from rcsd.data.files import TextFile, inspect_file
from rcsd.errors import DataError, UserError

_SPACE = re.compile(r"[ \t\r\n\ufeff]*")
_SURROGATE = re.compile(r"\\u[dD][89a-fA-F]")


def parse_json(
    raw: bytes,
    path: str | Path | None = None,
    line: int | None = None,
    constant: Callable[[str], Any] | None = None,
) -> Any:
    """Value of strict JSON: no repeated keys, no NaN, no numbers and texts beyond bounds.

    ``constant`` reads NaN and infinities in place of refusing them.

    Raises DataError naming place and reason; without a line the JSON is the whole file.
    """
    try:
        text = raw.removeprefix(b"\xef\xbb\xbf").decode()
        value = json.loads(
            text,
            object_pairs_hook=_object,
            parse_constant=constant or _finite,
            parse_float=_finite,
        )
        if _SURROGATE.search(text):  # most likely a complete pair
            check_encodable(json.dumps(value, ensure_ascii=False))
    except DataError as error:
        raise error.at(path, line) from error
    except UnicodeDecodeError as error:
        message = f"invalid UTF-8 at byte {error.start + 1}{' of the line' * bool(line)}"
        remedy = "convert the file, such as with iconv -f cp1252 -t utf-8"
        raise DataError(f"{message}; {remedy}", path, line) from error
    except json.JSONDecodeError as error:
        where = error.lineno if path and line is None else line
        raise DataError(explain_json(error), path, where) from error
    except (ValueError, RecursionError) as error:
        raise DataError(f"invalid JSON: {error}", path, line) from error
    return value


def null_for_nan(digits: str) -> float | None:
    """None for NaN, which pandas writes where there is nothing; ValueError for infinity."""
    return None if digits == "NaN" else _finite(digits)


def json_values(text: str, path: Path, constant: Callable[[str], Any]) -> Iterator[Any]:
    """Values of a JSON list one by one, or values that follow each other.

    Raises DataError naming line and reason.
    """
    decoder = json.JSONDecoder(
        object_pairs_hook=_object, parse_constant=constant, parse_float=_finite
    )
    at = _skip_space(text, 0)
    is_list = text.startswith("[", at)
    try:
        at = _skip_space(text, at + 1) if is_list else at
        while at < len(text) and not (is_list and text[at] == "]"):
            value, end = decoder.raw_decode(text, at)
            if _SURROGATE.search(text, at, end):
                check_encodable(json.dumps(value, ensure_ascii=False))
            at = _skip_space(text, end)
            at = _next_item(text, at) if is_list else at
            yield value
        if is_list and text[at + 1 :].strip():
            raise json.JSONDecodeError("Extra data after the list", text, at + 1)
    except json.JSONDecodeError as error:
        raise DataError(explain_json(error), path, error.lineno) from error
    except DataError as error:
        raise error.at(path, text.count("\n", 0, at) + 1) from error
    except (ValueError, RecursionError) as error:
        line = text.count("\n", 0, at) + 1
        raise DataError(f"invalid JSON: {error}", path, line) from error


def _skip_space(text: str, start: int) -> int:
    match = _SPACE.match(text, start)
    return match.end() if match else start


def _next_item(text: str, at: int) -> int:
    """Position of a list's next item, or of its end."""
    if text[at : at + 1] == "]":
        return at
    if text[at : at + 1] != ",":
        raise json.JSONDecodeError("Expecting ',' delimiter", text, at)
    at = _skip_space(text, at + 1)
    if text[at : at + 1] == "]":
        raise json.JSONDecodeError("Expecting value", text, at)
    return at


_JSON_CAUSES = (
    (r",\s*$", "a comma ends the line; lines of JSON have none between them"),
    (r"\{", "a second object on the line; a row is one line"),
    (r"[\]}]", "a comma before the closing bracket; delete it"),
    ("'", "single quotes, as Python prints them; JSON has double ones: write it with json.dumps"),
    (r"(?:None|True|False)\b", "Python's words; JSON has null, true and false: use json.dumps"),
    (r"//|#|/\*", "a comment, and JSON has none"),
    (r"$", "it ends too early; was it cut off?"),
)


def explain_json(error: json.JSONDecodeError) -> str:
    """Place and likely cause of an error in JSON."""
    rest = error.doc[error.pos : error.pos + 1000].lstrip(" \t\r\n")
    if "trailing comma" in error.msg:
        rest = rest.lstrip(", \t\r\n")
    cause = next((cause for pattern, cause in _JSON_CAUSES if re.match(pattern, rest)), "")
    if error.msg.startswith(("Invalid control", "Unterminated")):
        cause = "a text runs over the end of the line; write its line breaks as \\n"
    return f"invalid JSON at column {error.colno}: {error.msg}" + (f" ({cause})" if cause else "")


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
        DataError: If the file cannot be read, holds no row, or has another form.
    """
    file = inspect_file(Path(path))
    if file.layout != "lines" or file.is_compressed or not file.encoding.startswith("utf-8"):
        is_one = file.layout == "json" and sum(1 for raw in file.raw_lines() if raw.strip()) == 1
        if not is_one or next(file.raw_lines()).lstrip().startswith(b"["):
            message = f"expected one JSON object a line; the file is {file.describe()}"
            raise DataError(f"{message}; {import_hint(path)}", path)
    yield from split_lines(file)


def split_lines(
    file: TextFile, constant: Callable[[str], Any] | None = None
) -> Iterator[tuple[int, dict[str, Any] | DataError]]:
    """Line numbers and JSON objects of a file whose form was looked at, as `json_lines`."""
    for line, raw in enumerate(file.raw_lines(), start=1):
        if not raw.strip():
            continue
        try:
            row = parse_json(raw.rstrip(b"\n"), file.path, line, constant)
        except DataError as error:
            row = error
        if not isinstance(row, dict | DataError):
            row = DataError(f"expected a JSON object, got {type(row).__name__}", file.path, line)
        yield line, row


def import_hint(path: str | Path) -> str:
    """Sentence with the command that reads a file of another form or layout."""
    command = f"rcsd data import {shlex.quote(str(path))} --out rows.jsonl"
    try:
        _, report = pkgutil.resolve_name("rcsd.data.importers:import_rows")(str(path), "jsonl")
    except UserError as error:
        return f"nor can it be imported as it is (rcsd data import): {error}"
    return f"`{command}` reads {report.num_examples} of its {report.num_rows} rows"


def json_rows(path: str | Path) -> Iterator[tuple[int, dict[str, Any]]]:
    """Line numbers and JSON objects, as `json_lines`; the first malformed line is an error."""
    for line, row in json_lines(path):
        if isinstance(row, DataError):
            raise row
        yield line, row
