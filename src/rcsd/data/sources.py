"""Rows of a table: a file, a folder, or a data set on the hub.

The library datasets reads the hub and what it has saved. Files are read here: datasets guesses the
types of a CSV file's cells, fills short rows with nulls, gives every JSON object the fields of all,
and refuses files whose objects differ, so that a malformed row could not be named.
"""

import csv
import re
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from rcsd.data.fields import without_nan
from rcsd.data.files import SUFFIXES, UNPACKING_ERRORS, TextFile, guess_encoding, inspect_file
from rcsd.data.json_files import json_values, null_for_nan, split_lines
from rcsd.errors import ConfigError, DataError

NumberedRows = Iterator[tuple[int | str, Mapping[str, Any] | DataError]]
"""Line or row numbers, from 1, and rows; in place of a malformed row its error. In a folder of
several files the number follows the file's name, as ``test.csv:3``."""

Note = Callable[[str], object]
"""Callback with what was assumed of a file."""

_WRAPPERS = ("data", "rows", "examples", "items", "records", "questions")


class Hub(NamedTuple):
    """Part of a data set; None: its only configuration, its newest revision, all of its files."""

    split: str | None = None
    """None: train."""
    config: str | None = None
    revision: str | None = None
    files: str | None = None
    """Pattern, such as ``RuRL/*.parquet``."""


def refuse_unused(source: str, hub: Hub) -> None:
    """Raise ConfigError for parts of a data set that a file or a folder does not have."""
    path = Path(source)
    if path.is_file():
        unused = [name for name, value in hub._asdict().items() if value is not None]
        kind = "a file"
    elif path.is_dir():
        saved = (path / "state.json").is_file() or (path / "dataset_dict.json").is_file()
        names = ("config", "revision", *(("files",) if saved else ()))
        unused = [name for name in names if getattr(hub, name) is not None]
        kind = "a folder"
    else:
        return
    if unused:
        raise ConfigError(f"--{unused[0]}: {source} is {kind}, which has none; leave it out")


def read_table(source: str, hub: Hub, note: Note = lambda text: None) -> NumberedRows:
    """Rows of a source, by its first bytes (`rcsd.data.files`).

    - JSON: objects one a line, or after each other; a list of objects; an object of objects, whose
      keys become their ``id``; an object with the list under ``data``, ``rows`` or the like.
    - tables (CSV, TSV): the first line names the columns; a blank cell is null.
    - Parquet and Arrow files.
    - a folder of such files, or one that datasets has saved; ``owner/name`` on the hub.

    NaN is null. Text in another encoding than UTF-8 is UTF-16 or Windows' cp1252.

    Raises:
        DataError: If the source does not exist or cannot be read.
    """
    path = Path(source)
    if path.is_dir():
        is_saved = (path / "state.json").is_file() or (path / "dataset_dict.json").is_file()
        yield from _load(path, hub) if is_saved else _folder_rows(path, hub, note)
    elif path.exists():
        yield from _file_rows(path, note)
    elif re.fullmatch(r"\w[\w.-]*/\w[\w.-]*", source) and path.suffix not in SUFFIXES:
        yield from _load(source, hub)
    else:
        raise DataError("there is no such file or folder, and it is no hub id (owner/name)", source)


def _file_rows(path: Path, note: Note) -> NumberedRows:
    file = inspect_file(path)
    try:
        file = guess_encoding(file)
        if file.encoding == "cp1252":
            note(f"{path.name}: read as cp1252 (Windows), since it is no UTF-8")
        if file.layout in ("parquet", "arrow"):
            yield from _columnar_rows(file)
        elif file.layout == "table":
            yield from _table_rows(file)
        elif file.layout == "json" or sum(1 for raw in file.raw_lines() if raw.strip()) == 1:
            yield from _json_rows(file)
        else:
            yield from split_lines(file, null_for_nan)
    except UNPACKING_ERRORS as error:
        raise DataError(f"cannot be unpacked ({error}); bring back a copy", path) from error
    except UnicodeDecodeError as error:
        message = f"invalid {error.encoding} at byte {error.start + 1} of a part of it"
        remedy = "convert the file, such as with iconv -f cp1252 -t utf-8"
        raise DataError(f"{message}; {remedy}", path) from error


def _json_rows(file: TextFile) -> NumberedRows:
    """Rows of a JSON document, numbered in order."""
    with file.open_text() as stream:
        text = stream.read()
    values = json_values(text, file.path, null_for_nan)
    if not text.lstrip("\ufeff \t\r\n").startswith("["):
        rows = list(values)
        values = iter(_unwrapped(rows[0], file.path) if len(rows) == 1 else rows)
    for number, row in enumerate(values, start=1):
        error = DataError(f"expected a JSON object, got {type(row).__name__}")
        yield number, row if isinstance(row, dict) else error


def _unwrapped(value: Any, path: Path) -> list[Any]:
    """Rows of an object: those of a list within, its values with their keys as ids, or itself."""
    if not isinstance(value, dict):
        return [value]
    lists = [value[name] for name in _WRAPPERS if isinstance(value.get(name), list)]
    is_row = "rubric" in value  # of autorubric: its items are answers
    if len(lists) == 1 and not is_row and all(isinstance(row, dict) for row in lists[0]):
        return lists[0]
    is_keyed = value and all(isinstance(row, dict) for row in value.values())
    if is_keyed and ".jsonl" not in path.suffixes:
        return [{"id": key, **row} for key, row in value.items()]
    return [value]


def _table_rows(file: TextFile) -> NumberedRows:
    """Rows with the line on which each ends; a row of more or fewer cells is an error."""
    csv.field_size_limit(sys.maxsize)
    with file.open_text() as stream:
        table = csv.reader(stream, delimiter=file.delimiter, strict=True)
        try:
            header = _header(table, file.path)
        except csv.Error as error:
            raise DataError(f"the header is malformed: {error}", file.path, 1) from error
        while True:
            try:
                cells = next(table, None)
            except csv.Error as error:
                why = f"{error}; is a quote not closed, or not doubled within quotes?"
                yield table.line_num, DataError(why)
                continue
            if cells is None:
                return
            if any(cell.strip() for cell in cells):
                yield table.line_num, _cells(header, cells, file.delimiter)


def _header(table: Any, path: Path) -> list[str]:
    """Names of the columns; those without a name, such as pandas' index, are numbered."""
    names = next(table)
    if (len(names) == 1 and names[0].startswith("sep=")) or names[:1] == ["sep="]:
        names = next(table)  # Excel's own line
    header = [name.strip() or f"column {place}" for place, name in enumerate(names, start=1)]
    if twice := next((name for name in header if header.count(name) > 1), None):
        raise DataError("the column stands there twice; give each its own name", path, 1, twice)
    return header


def _cells(header: list[str], cells: list[str], delimiter: str) -> dict[str, Any] | DataError:
    if len(cells) < len(header) or any(cell.strip() for cell in cells[len(header) :]):
        return DataError(
            f"expected {len(header)} columns, got {len(cells)}; cells are cut at {delimiter!r}: "
            "quote those that hold it"
        )
    row = {name: cell if cell.strip() else None for name, cell in zip(header, cells, strict=False)}
    for name in [name for name in row if re.fullmatch(r"column \d+", name)]:
        if row[name] is None:
            del row[name]  # a delimiter at the end of each line
    return row


def _columnar_rows(file: TextFile) -> NumberedRows:
    """Rows of a Parquet or Arrow file, in batches; columns of pandas' index are left out."""
    import pyarrow  # noqa: PLC0415 (takes half a second)
    import pyarrow.parquet  # noqa: PLC0415

    number = 0
    try:
        with pyarrow.memory_map(str(file.path)) as source:
            for batch in _batches(source, file.layout):
                for row in batch.to_pylist():
                    number += 1
                    yield (
                        number,
                        {
                            name: without_nan(value)
                            for name, value in row.items()
                            if not name.startswith("__index_level_")
                        },
                    )
    except (pyarrow.ArrowException, OSError) as error:
        first = str(error).strip().partition("\n")[0]
        raise DataError(f"cannot be read: {first}; bring back a copy", file.path) from error


def _batches(source: Any, layout: str) -> Iterator[Any]:
    import pyarrow.parquet  # noqa: PLC0415

    if layout == "parquet":
        yield from pyarrow.parquet.ParquetFile(source).iter_batches(1000)
        return
    is_file = source.read(6) == b"ARROW1"
    source.seek(0)
    if is_file:
        reader = pyarrow.ipc.open_file(source)
        yield from map(reader.get_batch, range(reader.num_record_batches))
    else:
        yield from pyarrow.ipc.open_stream(source)


# Folders and the hub

_SPLITS = {
    "train": ("train", "training"),
    "validation": ("validation", "valid", "val", "dev"),
    "test": ("test", "testing", "eval", "evaluation"),
}
_SPLIT_NAMES = {word: split for split, words in _SPLITS.items() for word in words}


def _folder_rows(folder: Path, hub: Hub, note: Note) -> NumberedRows:
    """Rows of a folder's files, in the order of their names.

    Without ``files``, names tell splits, as for datasets: ``test-00001.parquet``, ``dev/a.csv``.
    """
    files = [
        path
        for path in sorted(folder.rglob(hub.files or "*"))
        if path.is_file()
        and path.suffix.lower() in SUFFIXES
        and not path.name.startswith((".", "README", "LICENSE", "dataset_info"))
        and not path.name.endswith((".import.json", ".written.json"))
    ]
    if not files:
        pattern = f" by the pattern {hub.files!r}" if hub.files else ""
        raise DataError(f"holds no files of rows{pattern}: expected {_suffixes()}", folder)
    if hub.files is None or hub.split is not None:
        files = _of_split(files, folder, hub.split)
    for path in files:
        name = str(path.relative_to(folder))
        for number, row in _file_rows(path, note):
            yield (f"{name}:{number}" if len(files) > 1 else number), row


def _of_split(files: list[Path], folder: Path, split: str | None) -> list[Path]:
    splits: dict[str, list[Path]] = {}
    for path in files:
        words = re.findall(r"[a-z]+", str(path.relative_to(folder)).lower())
        name = next((_SPLIT_NAMES[word] for word in words if word in _SPLIT_NAMES), "")
        splits.setdefault(name, []).append(path)
    if not any(splits):
        splits = {"train": splits[""]}
    if split is None:
        split = next(iter(splits)) if len(splits) == 1 else "train"
    if split not in splits:
        names = ", ".join(
            f"{name or 'no split'}: {paths[0].name}" for name, paths in splits.items()
        )
        raise DataError(
            f"no file of split {split!r} by its name; there are {names}; choose by --split, or "
            "files by --files 'PATTERN'",
            folder,
        )
    return splits[split]


def _suffixes() -> str:
    return ", ".join(sorted(SUFFIXES))


def _load(source: Path | str, hub: Hub) -> NumberedRows:
    """Rows that the library datasets loads, or has saved."""
    import datasets  # noqa: PLC0415 (takes a second)

    split = hub.split or "train"
    bars = datasets.is_progress_bar_enabled()
    datasets.disable_progress_bars()
    try:
        loaded: Any
        if isinstance(source, Path):
            loaded = datasets.load_from_disk(str(source))
        else:
            loaded = datasets.load_dataset(
                source, hub.config, split=split, revision=hub.revision, data_files=hub.files
            )
    except Exception as error:  # whatever the network, the hub or pyarrow raises
        place = f"split {split!r}, config {hub.config!r}"
        raise DataError(f"cannot be loaded ({place}): {_cause(error)}", source) from error
    finally:
        if bars:
            datasets.enable_progress_bars()
    if isinstance(loaded, datasets.DatasetDict):
        names = ", ".join(map(str, loaded))
        if split not in loaded and (hub.split or len(loaded) > 1):
            raise DataError(f"there is no split {split!r}; there are {names}: --split", source)
        loaded = loaded[split] if split in loaded else next(iter(loaded.values()))
    elif isinstance(source, Path) and loaded.split and hub.split not in (None, str(loaded.split)):
        raise DataError(f"there is no split {split!r}; the saved one is {loaded.split}", source)
    for number, row in enumerate(loaded, start=1):
        yield number, without_nan(dict(row))


def _cause(error: Exception) -> str:
    """First sentences of an error of datasets; files that differ are told with what to do."""
    if type(error).__name__ in ("DatasetGenerationCastError", "DatasetGenerationError"):
        return (
            "its files or rows have different columns; choose some with --files 'PATTERN', or "
            "download it (hf download --repo-type dataset) and import the folder"
        )
    first = str(error).strip().partition("\n")[0] or type(error).__name__
    return first + (f": {error.__cause__}".partition("\n")[0] if error.__cause__ else "")
