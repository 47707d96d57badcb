"""Files of rows as text: their compression, encoding and layout.

The first bytes decide; the suffix tells only a table from other text. Files that hold no rows, or
rows in a form that is not read, are refused with what to do.
"""

import bz2
import codecs
import csv
import gzip
import io
import json
import lzma
import re
import zlib
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any, Literal, NamedTuple

from rcsd.errors import DataError

Layout = Literal["lines", "json", "table", "parquet", "arrow"]
"""JSON objects one a line; JSON of any other shape; cells; a columnar file."""

_HEAD = 1 << 16
_HEAD_LINES = 5
_DELIMITERS = ",;\t|"
_TABLE_SUFFIXES = (".csv", ".tsv", ".tab", ".txt")
_JSON_SUFFIXES = (".json", ".jsonl", ".ndjson", ".jsonlines")
_COMPRESSED = {".gz", ".bz2", ".xz", ".zst"}
SUFFIXES = {*_TABLE_SUFFIXES, *_JSON_SUFFIXES, *_COMPRESSED, ".parquet", ".arrow", ".feather"}
"""Suffixes of files that are read in a folder."""

_FORMS = "rows are read from JSON, CSV, TSV, Parquet and Arrow"
_REFUSED = {
    b"PK\x03\x04": "is an Excel workbook or a zip; save the sheet as 'CSV UTF-8', or unpack it",
    b"\xd0\xcf\x11\xe0": "is an Excel workbook; save the sheet as 'CSV UTF-8'",
    b"version https://git-lfs": "is a pointer of Git LFS; fetch the file itself with git lfs pull",
    b"<!": "is HTML; where it was downloaded, take the link of the raw file",
    b"<html": "is HTML; where it was downloaded, take the link of the raw file",
    b"%PDF": f"is a PDF; {_FORMS}",
    b"SQLite format 3": f"is a database; {_FORMS}",
}
_MULTIBYTE = re.compile(
    rb"[\xc2-\xdf][\x80-\xbf]|[\xe0-\xef][\x80-\xbf]{2}|[\xf0-\xf4][\x80-\xbf]{3}"
)


UNPACKING_ERRORS = (OSError, EOFError, lzma.LZMAError, zlib.error)
"""Errors of a compressed file that is cut off or broken."""


class TextFile(NamedTuple):
    """A file with its layout; texts are decoded by ``encoding``, tables cut at ``delimiter``."""

    path: Path
    layout: Layout
    encoding: str = "utf-8"
    delimiter: str = ","
    is_compressed: bool = False

    def describe(self) -> str:
        """Noun phrase of the file's form, as it differs from lines of JSON."""
        names = {"\t": "tabs", ";": "semicolons", ",": "commas", "|": "bars"}
        forms = {
            "lines": "lines of JSON",
            "json": "a JSON array, or JSON over several lines",
            "table": f"a table with {names[self.delimiter]} between its cells",
            "parquet": "a Parquet file",
            "arrow": "an Arrow file",
        }
        form = forms[self.layout] + (", compressed" if self.is_compressed else "")
        return form + ("" if self.encoding.startswith("utf-8") else f", in {self.encoding}")

    def raw_lines(self) -> Iterator[bytes]:
        """Lines in UTF-8, without a byte-order mark; a byte that is no UTF-8 stays."""
        with open_bytes(self.path) as stream:
            if self.encoding == "utf-8-sig":
                stream.read(3)
            if self.encoding.startswith("utf-8"):
                yield from stream
            else:
                text = io.TextIOWrapper(stream, self.encoding, newline="\n")
                yield from (line.encode("utf-8", "surrogatepass") for line in text)

    def open_text(self) -> io.TextIOWrapper:
        """The whole text as a stream, line ends as they are."""
        return io.TextIOWrapper(open_bytes(self.path), self.encoding, newline="")


def read_bytes(path: str | Path) -> bytes:
    """Bytes of a file; DataError if it cannot be read."""
    try:
        return Path(path).read_bytes()
    except OSError as error:
        raise _unreadable(error, path) from error


def _unreadable(error: OSError, path: str | Path) -> DataError:
    missing = isinstance(error, FileNotFoundError)
    return DataError(
        "there is no such file" if missing else f"cannot be read: {error.strerror}", path
    )


def open_bytes(path: Path) -> Any:
    """Binary stream of a file, unpacked; DataError if it cannot be opened."""
    try:
        with path.open("rb") as stream:
            magic = stream.read(6)
        if magic.startswith(b"\x28\xb5\x2f\xfd"):
            import pyarrow  # noqa: PLC0415 (the standard library reads it from Python 3.14 on)

            return io.BufferedReader(pyarrow.input_stream(str(path), compression="zstd"))
        packed = {b"\x1f\x8b": gzip.open, b"BZh": bz2.open, b"\xfd7zXZ": lzma.open}
        openers = (opener for start, opener in packed.items() if magic.startswith(start))
        return next(openers, open)(path, "rb")
    except OSError as error:
        raise _unreadable(error, path) from error


def inspect_file(path: Path) -> TextFile:
    """Layout and encoding of a file from its beginning, and a scan for bytes that are no UTF-8.

    Raises DataError if it cannot be read, is empty, or has a form that is not read.
    """
    with open_bytes(path) as stream, path.open("rb") as packed:
        try:
            head = stream.read(_HEAD)
        except UNPACKING_ERRORS as error:
            raise DataError(f"cannot be unpacked ({error}); bring back a copy", path) from error
        is_compressed = packed.read(4) != head[:4]
    if head.startswith((b"PAR1", b"ARROW1", b"\xff\xff\xff\xff")):
        return TextFile(path, "parquet" if head.startswith(b"PAR1") else "arrow")
    if refusal := next((why for magic, why in _REFUSED.items() if head.startswith(magic)), None):
        raise DataError(refusal, path)
    encoding = _encoding(head)
    if not head.strip():
        raise DataError("the file holds no rows; expected one JSON object a line", path)
    if b"\0" in head[:64] and encoding.startswith("utf-8"):
        raise DataError(f"is no text; {_FORMS}", path)
    text = head.decode(encoding, "replace")
    suffixes = [suffix.lower() for suffix in path.suffixes if suffix.lower() not in _COMPRESSED]
    suffix = suffixes[-1] if suffixes else ""
    layout = _layout(text, suffix, complete=len(head) < _HEAD)
    delimiter = _find_delimiter(text, suffix)
    if layout == "table" and suffix not in (*_TABLE_SUFFIXES, *_JSON_SUFFIXES):
        raise DataError(f"is neither JSON nor a table; {_FORMS}: save its rows as one", path)
    return TextFile(path, layout, encoding, delimiter, is_compressed)


def _encoding(head: bytes) -> str:
    """Encoding by the byte-order mark, or by the zeros of UTF-16 without one."""
    marks = {codecs.BOM_UTF8: "utf-8-sig", codecs.BOM_UTF32_LE: "utf-32"}
    marks |= {codecs.BOM_UTF16_LE: "utf-16", codecs.BOM_UTF16_BE: "utf-16"}
    if name := next((name for mark, name in marks.items() if head.startswith(mark)), None):
        return name
    for name, high, low in (("utf-16-le", 1, 0), ("utf-16-be", 0, 1)):
        zeros = head[high::2].count(0)
        if len(head) > 3 and zeros > len(head) // 4 and 0 not in head[low::2]:
            return name
    return "utf-8"


def guess_encoding(file: TextFile) -> TextFile:
    """The file with cp1252, the encoding of Windows, where it is no UTF-8 but may be that.

    A file with some valid characters of UTF-8 beyond ASCII is UTF-8, and broken where it is not.
    """
    if file.encoding != "utf-8" or file.layout in ("parquet", "arrow"):
        return file
    is_utf8 = True
    with open_bytes(file.path) as stream:
        for line in stream:
            if line.isascii():
                continue
            is_utf8 = _MULTIBYTE.search(line) is not None
            with suppress(UnicodeDecodeError):
                line.decode("cp1252")
                if not is_utf8:
                    continue
            return file
    return file if is_utf8 else file._replace(encoding="cp1252")


def _layout(text: str, suffix: str, complete: bool) -> Layout:
    """Layout of a text from its beginning."""
    lines = [line for line in text.split("\n") if line.strip()]
    first = lines[0].lstrip("\ufeff \t\r")
    if first.startswith("["):
        return "lines" if len(lines) > 1 and _value_end(first) else "json"
    if first.startswith("{") and suffix not in (".csv", ".tsv"):
        if len(lines) == 1:
            end = _value_end(first)
            rest = first[end:].strip(" \t\r,") if end else ""
            return "json" if complete and rest else "lines"
        return "lines" if any(map(_value_end, lines[:_HEAD_LINES])) else "json"
    if suffix in _JSON_SUFFIXES and (
        any(line.lstrip().startswith("{") for line in lines[:_HEAD_LINES])
        or not any(mark in first for mark in _DELIMITERS)
        or first.startswith('"')
    ):
        return "lines"
    return "table"


def _value_end(line: str) -> int:
    """Position after the JSON object or list that a line begins with; 0 if it begins with none."""
    line = line.strip()
    try:
        value, end = json.JSONDecoder().raw_decode(line)
    except (ValueError, RecursionError):
        return 0
    return end if isinstance(value, dict | list) else 0


def _find_delimiter(text: str, suffix: str) -> str:
    """Character between the cells of the first line: the one that makes most columns of it."""
    named = re.match(r"sep=(.)\r?\n", text)  # Excel's own line
    if named or suffix in (".tsv", ".tab"):
        return named[1] if named else "\t"
    lines = text.lstrip("\ufeff").splitlines()[:1]
    return max(_DELIMITERS, key=lambda mark: len(next(csv.reader(lines, delimiter=mark), [])))
