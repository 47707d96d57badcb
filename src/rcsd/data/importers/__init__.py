"""Importers: rows of published data sets become examples, and every row is accounted for."""

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

from rcsd.config.data import Format, RarData
from rcsd.data.fields import is_absent, problem_list, reason_name, shortened
from rcsd.data.importers.formats import FORMATS, Notes
from rcsd.data.json_files import json_rows
from rcsd.data.rows import example_from_row, row_id
from rcsd.data.sources import Hub, NumberedRows, read_table
from rcsd.errors import DataError
from rcsd.types import Example


@dataclass(frozen=True)
class ImportReport:
    """Account of every row and criterion of a source.

    Counts are of criteria and fields by the rule that decided them, refusals (of rows) and
    omissions (of criteria) by reason, unread fields by the number of rows that have them. Rows are
    named by their line or number, in a folder as ``FILE:LINE``. Of rows that repeat an id the first
    stays.
    """

    num_rows: int
    num_examples: int
    counts: Mapping[str, int]
    dropped_rows: tuple[tuple[int | str, str], ...]
    dropped_criteria: tuple[tuple[int | str, str], ...]
    refusals: Mapping[str, int]
    omissions: Mapping[str, int]
    unread_fields: Mapping[str, int]
    num_repeated_ids: int
    source: str
    format: Format


def import_rows(
    source: str, format: Format, hub: Hub | None = None
) -> tuple[list[Example], ImportReport]:
    """Examples of a source (`rcsd.data.sources.read_table`), and an account of all that is in it.

    Raises DataError if the source cannot be read, or no row becomes an example.
    """
    assumed: list[str] = []
    rows = read_table(source, hub or Hub(), assumed.append)
    examples, report = _collect(rows, source, format, row_id)
    counts = {**report.counts, **dict.fromkeys(assumed, 1)}
    return examples, replace(report, counts=counts)


def load_rar(section: RarData) -> tuple[list[Example], dict[str, object]]:
    """Examples of a data section (`rcsd.data.load`), and the report of the import."""
    examples, report = _collect(json_rows(section.path), str(section.path), "rar", None)
    return examples, asdict(report)


def _collect(
    rows: NumberedRows,
    source: str,
    format: Format,
    build_id: Callable[[Mapping[str, Any], Counter[str]], str] | None,
) -> tuple[list[Example], ImportReport]:
    reader, fields = FORMATS[format]
    examples: dict[str, Example] = {}
    rules: Counter[str] = Counter()
    dropped_rows: list[tuple[int | str, str]] = []
    dropped_criteria: list[tuple[int | str, str]] = []
    unread: Counter[str] = Counter()
    ids: Counter[str] = Counter()
    files: dict[str, bool] = {}
    num_repeated = 0
    for line, row in rows:
        notes = Notes()
        try:
            if isinstance(row, DataError):
                raise row
            unread.update(set(row) - set(fields))
            row = reader(row, notes)
            if build_id is not None and is_absent(row.get("id")):
                row = {**row, "id": build_id(row, ids)}
            example = example_from_row(row, line=line if isinstance(line, int) else None)
            if example.id in examples:
                num_repeated += 1
                raise DataError(f"{shortened(example.id)} is the id of an earlier row", field="id")
        except DataError as error:
            why = f" ({'; '.join(notes.dropped)})" if notes.dropped else ""
            dropped_rows.append((line, f"{error.at(None, None)}{why}"))
            files.setdefault(_file_of(line), False)
            continue
        files[_file_of(line)] = True
        examples[example.id] = example
        rules.update(notes.rules)
        dropped_criteria += [(line, reason) for reason in notes.dropped]
    if not examples:
        first = dropped_rows[0][1] if dropped_rows else "there are no rows"
        listed = problem_list(dropped_rows)
        raise DataError(f"no row became an example; the first: {first}{listed}", source)
    if name := next((name for name, is_read in files.items() if not is_read), None):
        first = next(reason for line, reason in dropped_rows if _file_of(line) == name)
        raise DataError(
            f"no row of its file {name} became an example, and rows of others did: its columns are "
            f"others, or it is no file of rows; choose files with --files 'PATTERN'; the first: "
            f"{first}",
            source,
        )
    return list(examples.values()), ImportReport(
        num_rows=len(examples) + len(dropped_rows),
        num_examples=len(examples),
        counts=dict(rules),
        dropped_rows=tuple(dropped_rows),
        dropped_criteria=tuple(dropped_criteria),
        refusals=dict(Counter(reason_name(reason) for _, reason in dropped_rows)),
        omissions=dict(Counter(reason_name(reason) for _, reason in dropped_criteria)),
        unread_fields=dict(unread),
        num_repeated_ids=num_repeated,
        source=source,
        format=format,
    )


def _file_of(place: int | str) -> str:
    """File of a place in a folder; '' of a single file's."""
    return place.rpartition(":")[0] if isinstance(place, str) else ""
