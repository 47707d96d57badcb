"""Importers: rows of published data sets become examples, and every row is accounted for."""

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

from rcsd.config.data import Format, RarData
from rcsd.data.importers.formats import FORMATS, Notes, reason_name
from rcsd.data.json_files import json_rows
from rcsd.data.rows import example_from_row
from rcsd.data.sources import Hub, read_table
from rcsd.errors import DataError
from rcsd.types import Example


@dataclass(frozen=True)
class ImportReport:
    """Account of every row and criterion of a source.

    Counts are of criteria and fields by the rule that decided them, refusals (of rows) and
    omissions (of criteria) by reason, unread fields by the number of rows that have them.
    """

    num_rows: int
    num_examples: int
    counts: Mapping[str, int]
    dropped_rows: tuple[tuple[int, str], ...]
    dropped_criteria: tuple[tuple[int, str], ...]
    refusals: Mapping[str, int]
    omissions: Mapping[str, int]
    unread_fields: Mapping[str, int]
    source: str
    format: Format


def import_rows(
    source: str, format: Format, hub: Hub | None = None
) -> tuple[list[Example], ImportReport]:
    """Examples of a source (`rcsd.data.sources.read_table`), and an account of all that is in it.

    Raises DataError if the source cannot be read, or no row becomes an example.
    """
    return _collect(read_table(source, hub or Hub()), source, format)


def load_rar(section: RarData) -> tuple[list[Example], dict[str, object]]:
    """Examples of a data section (`rcsd.data.load`), and the report of the import."""
    examples, report = _collect(json_rows(section.path), str(section.path), "rar")
    return examples, asdict(report)


def _collect(
    rows: Iterable[tuple[int, Mapping[str, Any] | DataError]],
    source: str,
    format: Format,
) -> tuple[list[Example], ImportReport]:
    reader, fields = FORMATS[format]
    examples: dict[str, Example] = {}
    rules: Counter[str] = Counter()
    dropped_rows: list[tuple[int, str]] = []
    dropped_criteria: list[tuple[int, str]] = []
    unread: Counter[str] = Counter()
    for line, row in rows:
        notes = Notes()
        try:
            if isinstance(row, DataError):
                raise row
            unread.update(set(row) - set(fields))
            example = example_from_row(reader(row, notes), line=line)
            if example.id in examples:
                raise DataError(f"{example.id!r} is the id of an earlier row", field="id")
        except DataError as error:
            why = f" ({'; '.join(notes.dropped)})" if notes.dropped else ""
            dropped_rows.append((line, f"{error.at(None, None)}{why}"))
            continue
        examples[example.id] = example
        rules.update(notes.rules)
        dropped_criteria += [(line, reason) for reason in notes.dropped]
    if not examples:
        first = dropped_rows[0][1] if dropped_rows else "there are no rows"
        raise DataError(f"no row became an example; the first: {first}", source)
    return list(examples.values()), ImportReport(
        num_rows=len(examples) + len(dropped_rows),
        num_examples=len(examples),
        counts=dict(rules),
        dropped_rows=tuple(dropped_rows),
        dropped_criteria=tuple(dropped_criteria),
        refusals=dict(Counter(reason_name(reason) for _, reason in dropped_rows)),
        omissions=dict(Counter(reason_name(reason) for _, reason in dropped_criteria)),
        unread_fields=dict(unread),
        source=source,
        format=format,
    )
