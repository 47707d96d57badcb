"""JSON objects of a file, line by line and strictly: every error names the file and the line."""

import json
import math
import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from rcsd.errors import DataError

_HALF_PAIR = re.compile(r"\\u[dD][89a-fA-F]")


def json_rows(path: str | Path) -> Iterator[tuple[int, dict[str, Any]]]:
    """Line numbers, counted from 1, and JSON objects of a file; blank lines are passed over.

    Raises:
        DataError: If the file cannot be read, holds no row, or a line is not UTF-8 or no object.
    """
    for line, row in json_lines(path):
        if isinstance(row, DataError):
            raise row
        yield line, row


def json_lines(path: str | Path) -> Iterator[tuple[int, dict[str, Any] | DataError]]:
    """As `json_rows`, but a line that is no object comes as its error, and the others go on.

    Raises:
        DataError: If the file cannot be read or holds no row.
    """
    empty = True
    for line, raw in enumerate(content_of(path).split(b"\n"), start=1):
        if not raw.strip():
            continue
        empty = False
        try:
            row: dict[str, Any] | DataError = _json_object(raw, path, line)
        except DataError as error:
            row = error
        yield line, row
    if empty:
        raise DataError("the file holds no rows; expected one JSON object a line", path)


def content_of(path: str | Path) -> bytes:
    """Bytes of a file, without the mark that some editors put at the start of UTF-8.

    Raises:
        DataError: If it cannot be read.
    """
    return bytes_of(path).removeprefix(b"\xef\xbb\xbf")


def bytes_of(path: str | Path) -> bytes:
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


def strict_json(raw: bytes, path: str | Path | None = None, line: int | None = None) -> Any:
    """JSON that means one thing: no repeated keys, no NaN, no numbers and texts beyond bounds.

    Args:
        raw: UTF-8.
        path: The file, for errors.
        line: The line, likewise; None where the JSON is not a line of a file.

    Raises:
        DataError: Naming place and reason.
    """
    try:
        text = raw.decode()
        value = json.loads(
            text, object_pairs_hook=_object, parse_constant=_constant, parse_float=_finite
        )
        if _HALF_PAIR.search(text):  # most likely it is a whole one
            json.dumps(value, ensure_ascii=False).encode()
    except DataError as error:
        message = str(error).removeprefix(f"field '{error.field}': ")
        raise DataError(message, path, line, error.field) from error
    except UnicodeEncodeError as error:
        message = "holds half of a surrogate pair, which no UTF-8 can hold"
        raise DataError(message, path, line) from error
    except UnicodeDecodeError as error:
        message = f"invalid UTF-8 at byte {error.start + 1}" + (" of the line" if line else "")
        raise DataError(message, path, line) from error
    except json.JSONDecodeError as error:
        message = f"invalid JSON at column {error.colno}: {error.msg}"
        within = error.lineno if path is not None and line is None else line
        raise DataError(message, path, within) from error
    except (ValueError, RecursionError) as error:
        raise DataError(f"invalid JSON: {error}", path, line) from error
    return value


def _json_object(raw: bytes, path: str | Path, line: int) -> dict[str, Any]:
    row = strict_json(raw, path, line)
    if not isinstance(row, dict):
        raise DataError(f"expected a JSON object, got {type(row).__name__}", path, line)
    return row


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    row = dict(pairs)
    if len(row) < len(pairs):
        repeated = next(key for key, count in Counter(key for key, _ in pairs).items() if count > 1)
        raise DataError("the key stands there twice", field=repeated)
    return row


def _constant(name: str) -> float:
    raise DataError(f"invalid JSON: {name} is not a JSON number")


def _finite(digits: str) -> float:
    number = float(digits)
    if math.isinf(number):
        raise DataError(f"invalid JSON: {digits[:40]} is too large for a number")
    return number
