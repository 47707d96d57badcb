"""Rows of a table: a file, a folder, or a data set on the hub.

The library datasets reads parquet, Arrow, folders and the hub. Text files are read here: datasets
guesses the types of a CSV file's cells, fills short rows with nulls, and gives every JSON object
the fields of all, so that a malformed row could not be named.
"""

import csv
import io
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from rcsd.data.rows import json_lines, parse_json, read_bytes
from rcsd.errors import DataError

NumberedRows = Iterator[tuple[int, Mapping[str, Any] | DataError]]
"""Line or row numbers, from 1, and rows; in place of a malformed row its error."""


class Hub(NamedTuple):
    """Part of a data set; None: its only configuration, its newest revision, all of its files."""

    split: str = "train"
    config: str | None = None
    revision: str | None = None
    files: str | None = None
    """Pattern, such as ``RuRL/*.parquet``."""


def read_table(source: str, hub: Hub) -> NumberedRows:
    """Rows of a source.

    - ``.json``: a list of objects, one object a line, or an object of objects, whose keys become
      their ``id``.
    - ``.csv``, ``.tsv``: the first line names the columns; an empty cell is null.
    - ``.parquet``, ``.arrow``, a folder, and ``owner/name`` on the hub: by the library datasets.
    - any other file: one JSON object a line.

    Raises:
        DataError: If the source does not exist or cannot be read.
    """
    path = Path(source)
    suffix = path.suffix.lower()
    if path.is_dir() or (path.exists() and suffix in (".parquet", ".arrow")):
        yield from _load(path, hub)
    elif path.exists() and suffix == ".json":
        yield from _json_objects(path, read_bytes(path))
    elif path.exists() and suffix in (".csv", ".tsv"):
        yield from _csv_rows(path, read_bytes(path))
    elif path.exists():
        yield from json_lines(path)
    elif re.fullmatch(r"\w[\w.-]*/\w[\w.-]*(?<!\.jsonl)(?<!\.json)(?<!\.parquet)", source):
        yield from _load(source, hub)
    else:
        raise DataError("there is no such file or folder, and it is no hub id (owner/name)", source)


def _json_objects(path: Path, content: bytes) -> NumberedRows:
    first, _, rest = content.lstrip().partition(b"\n")
    if rest.strip() and _is_object(first):
        yield from json_lines(path)
        return
    rows = parse_json(content, path)
    if isinstance(rows, dict) and rows and all(isinstance(row, dict) for row in rows.values()):
        rows = [{"id": key, **row} for key, row in rows.items()]
    if not isinstance(rows, list):
        raise DataError(f"expected a JSON list of objects, got {type(rows).__name__}", path)
    for number, row in enumerate(rows, start=1):
        error = DataError(f"expected a JSON object, got {type(row).__name__}")
        yield number, row if isinstance(row, dict) else error


def _is_object(line: bytes) -> bool:
    try:
        return isinstance(parse_json(line), dict)
    except DataError:
        return False


def _csv_rows(path: Path, content: bytes) -> NumberedRows:
    """Rows with the line on which each ends; a row of more or fewer cells is an error."""
    is_utf16 = content.startswith((b"\xff\xfe", b"\xfe\xff"))
    try:
        text = content.decode("utf-16" if is_utf16 else "utf-8-sig")
    except UnicodeDecodeError as error:
        raise DataError(f"invalid UTF-8 at byte {error.start + 1}", path) from error
    header = text.partition("\n")[0]
    delimiter = max("\t,;", key=header.count) if path.suffix.lower() != ".tsv" else "\t"
    table = csv.DictReader(io.StringIO(text, newline=""), delimiter=delimiter)
    for row in table:
        if not any(value for name, value in row.items() if name is not None):
            continue
        is_complete = None not in row and None not in row.values()
        nameless = row.pop("", "")  # a delimiter at the end of each line
        error = DataError(f"expected {len(table.fieldnames or ())} columns")
        cells = {name: value or None for name, value in row.items()}
        yield table.line_num, cells if is_complete and not nameless else error


def _load(source: Path | str, hub: Hub) -> NumberedRows:
    """Rows that the library datasets loads, or has saved as Arrow."""
    import datasets  # noqa: PLC0415 (takes a second)

    path = Path(source)
    bars = datasets.is_progress_bar_enabled()
    datasets.disable_progress_bars()
    try:
        loaded: Any
        if path.suffix.lower() == ".arrow":
            loaded = datasets.Dataset.from_file(str(path))
        elif path.is_file():
            loaded = datasets.load_dataset("parquet", split="train", data_files=str(path))
        elif (path / "state.json").is_file():
            loaded = datasets.load_from_disk(str(path))
        else:
            # Resolved: datasets takes "." and ".." for no name at all.
            name = str(source.resolve()) if isinstance(source, Path) else source
            loaded = datasets.load_dataset(
                name, hub.config, split=hub.split, revision=hub.revision, data_files=hub.files
            )
    except Exception as error:  # whatever the network, the hub or pyarrow raises
        first = str(error).strip().partition("\n")[0] or type(error).__name__
        cause = f": {error.__cause__}".partition("\n")[0] if error.__cause__ else ""
        raise DataError(
            f"cannot be loaded (split {hub.split!r}, config {hub.config!r}): {first}{cause}", source
        ) from error
    finally:
        if bars:
            datasets.enable_progress_bars()
    if not isinstance(loaded, datasets.Dataset):
        raise DataError(f"expected one split of rows, got {type(loaded).__name__}", source)
    for number, row in enumerate(loaded, start=1):
        yield number, dict(row)
