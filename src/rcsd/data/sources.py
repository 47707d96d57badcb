"""Rows of a file, a folder or a data set on the hub."""

import csv
import gzip
import io
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rcsd.data.lines import content_of, json_lines, strict_json
from rcsd.errors import ConfigError, DataError


@dataclass(frozen=True)
class Hub:
    """Which part of a data set is loaded.

    Args:
        split: Its split.
        config: Its configuration, or None for its only one.
        revision: A branch, tag or commit, or None for the newest.
        files: A pattern of the files that are read, such as ``RuRL/*.parquet``, or None for all.
    """

    split: str = "train"
    config: str | None = None
    revision: str | None = None
    files: str | None = None


def source_rows(source: str, hub: Hub) -> Iterator[tuple[int, Mapping[str, Any] | DataError]]:
    """Numbers, counted from 1, and rows; a line that is no row comes as its error.

    A ``.jsonl`` file is read line by line, packed by gzip or not. A ``.json`` file is a list of
    objects, one object a line, or an object of objects, whose keys become their ``id``. The first
    line of a ``.csv`` file names its columns. A folder, ``.parquet`` and ``.arrow`` files and
    ``owner/name`` are loaded with the library datasets.

    Raises:
        DataError: If the source is not there or cannot be read.
        ConfigError: If the library datasets is needed and missing.
    """
    path = Path(source)
    if (path / "state.json").is_file():
        yield from _loaded(str(path), hub, saved=True)
    elif path.is_dir():
        # Resolved: datasets takes "." and ".." for no name at all.
        yield from _loaded(str(path.resolve()), hub)
    elif path.suffix == ".parquet" and path.exists():
        yield from _loaded("parquet", Hub(files=str(path)))
    elif path.suffix == ".json" and path.exists():
        yield from _json_objects(path)
    elif path.suffix == ".csv" and path.exists():
        yield from _csv_rows(path)
    elif path.suffix == ".arrow" and path.exists():
        yield from _loaded(str(path), hub, saved=True)
    elif path.suffix == ".gz" and path.exists():
        yield from _packed_lines(path)
    elif path.exists():
        yield from json_lines(path)
    elif _is_hub_id(source):
        yield from _loaded(source, hub)
    else:
        raise DataError("there is no such file or folder, and it is no hub id (owner/name)", source)


def _json_objects(path: Path) -> Iterator[tuple[int, Mapping[str, Any] | DataError]]:
    content = content_of(path)
    first, _, rest = content.lstrip().partition(b"\n")
    if rest.strip() and _is_object(first):
        yield from json_lines(path)
        return
    rows = strict_json(content, path)
    if isinstance(rows, dict) and rows and all(isinstance(row, dict) for row in rows.values()):
        rows = [{"id": key, **row} for key, row in rows.items()]
    if not isinstance(rows, list):
        raise DataError(f"expected a JSON list of objects, got {type(rows).__name__}", path)
    for number, row in enumerate(rows, start=1):
        what = type(row).__name__
        yield (
            number,
            row if isinstance(row, dict) else DataError(f"expected a JSON object, got {what}"),
        )


def _is_object(line: bytes) -> bool:
    try:
        return isinstance(strict_json(line), dict)
    except DataError:
        return False


def _csv_rows(path: Path) -> Iterator[tuple[int, Mapping[str, Any] | DataError]]:
    """Rows with the line on which each ends; columns beyond the named ones make it none."""
    try:
        text = content_of(path).decode()
    except UnicodeDecodeError as error:
        raise DataError(f"invalid UTF-8 at byte {error.start + 1}", path) from error
    table = csv.DictReader(io.StringIO(text, newline=""))
    for row in table:
        whole = None not in row and None not in row.values()
        count = f"expected {len(table.fieldnames or ())} columns"
        yield table.line_num, row if whole else DataError(count)


def _packed_lines(path: Path) -> Iterator[tuple[int, Mapping[str, Any] | DataError]]:
    try:
        lines = gzip.decompress(content_of(path)).split(b"\n")
    except (OSError, EOFError) as error:
        raise DataError(f"cannot be unpacked: {error}", path) from error
    for number, line in enumerate(lines, start=1):
        if line.strip():
            row = strict_json(line, path, number)
            yield number, row if isinstance(row, dict) else DataError("expected a JSON object")


def _is_hub_id(source: str) -> bool:
    looks_so = re.fullmatch(r"\w[\w.-]*/\w[\w.-]*", source) is not None
    return looks_so and not source.lower().endswith((".jsonl", ".json", ".parquet"))


def _loaded(name: str, hub: Hub, saved: bool = False) -> Iterator[tuple[int, Mapping[str, Any]]]:
    """Rows that the library datasets loads, or has saved as Arrow."""
    try:
        # Imported here: an extra, and it takes a second.
        import datasets  # noqa: PLC0415
    except ImportError as error:
        raise ConfigError(
            f"{name}: needs the library datasets; run: pip install 'rcsd[hub]'"
        ) from error
    bars = datasets.is_progress_bar_enabled()
    try:
        datasets.disable_progress_bars()
        loaded: Any
        if not saved:
            loaded = datasets.load_dataset(
                name, hub.config, split=hub.split, revision=hub.revision, data_files=hub.files
            )
        elif name.endswith(".arrow"):
            loaded = datasets.Dataset.from_file(name)
        else:
            loaded = datasets.load_from_disk(name)
    except Exception as error:  # whatever the network, the hub or pyarrow raises
        first = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise DataError(
            f"cannot be loaded (split {hub.split!r}, config {hub.config!r}): {first}",
            hub.files if name == "parquet" else name,
        ) from error
    finally:
        if bars:
            datasets.enable_progress_bars()
    if not isinstance(loaded, datasets.Dataset):
        raise DataError(f"expected one split of rows, got {type(loaded).__name__}", name)
    for number, row in enumerate(loaded, start=1):
        yield number, dict(row)
