"""Importers: rows of published data sets become examples, and every row is accounted for."""

import functools
import itertools
from collections import Counter
from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from rcsd.config.data import Format, Pitfalls, RarData
from rcsd.data.fields import is_absent, problem_list, reason_name, shortened
from rcsd.data.importers.columns import LINES, Columns, look_up
from rcsd.data.importers.formats import Reader, rar_row
from rcsd.data.importers.layouts import LAYOUTS, Layout, read_row, recognise, select_columns
from rcsd.data.importers.notes import Notes
from rcsd.data.json_files import json_rows
from rcsd.data.rows import example_from_row, row_id
from rcsd.data.sources import Hub, NumberedRows, read_table
from rcsd.errors import ConfigError, DataError
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
    pitfalls: Pitfalls
    columns: Mapping[str, Any]


RowStream = Generator[Example, None, ImportReport]
"""Examples of a source, and at the end the account of all that is in it."""

NUM_SAMPLED = 100
"""Rows at the beginning of a source by which its format and its columns are recognised."""


def import_rows(
    source: str,
    format: Format = "jsonl",
    hub: Hub | None = None,
    chosen: Columns | None = None,
    pitfalls: Pitfalls = "data",
) -> tuple[list[Example], ImportReport]:
    """Examples of a source (`rcsd.data.sources.read_table`), and an account of all that is in it.

    Rows of the format ``jsonl`` are read by the layout that they are recognised by, or by columns
    that are guessed from their names. Columns that are given precede both. Pitfalls are of RaR
    alone (`rcsd.data.polarity.pitfall_sign`).

    Raises:
        ConfigError: If another format is given a rule for pitfalls.
        DataError: If the source cannot be read, or no row becomes an example.
    """
    return _gather(stream_rows(source, format, hub, chosen, pitfalls))


def stream_rows(
    source: str,
    format: Format = "jsonl",
    hub: Hub | None = None,
    chosen: Columns | None = None,
    pitfalls: Pitfalls = "data",
) -> RowStream:
    """Examples as `import_rows`, one at a time; the generator's value is the report."""
    assumed: list[str] = []
    rows = read_table(source, hub or Hub(), assumed.append)
    report = yield from _collect(rows, source, format, chosen or Columns(), pitfalls, row_id)
    return replace(report, counts={**report.counts, **dict.fromkeys(assumed, 1)})


def _gather(stream: RowStream) -> tuple[list[Example], ImportReport]:
    examples = []
    while True:
        try:
            examples.append(next(stream))
        except StopIteration as end:
            return examples, end.value


def load_rar(section: RarData) -> tuple[list[Example], dict[str, object]]:
    """Examples of a data section (`rcsd.data.load`), and the report of the import."""
    rows = json_rows(section.path)
    stream = _collect(rows, str(section.path), "rar", Columns(), section.pitfalls, None)
    examples, report = _gather(stream)
    record = asdict(report)
    del record["columns"]
    return examples, record


def _collect(
    rows: NumberedRows,
    source: str,
    format: Format,
    chosen: Columns,
    pitfalls: Pitfalls,
    build_id: Callable[[Mapping[str, Any], Counter[str]], str] | None,
) -> RowStream:
    rows = iter(rows)
    first = list(itertools.islice(rows, NUM_SAMPLED))
    sample = [row for _, row in first if not isinstance(row, DataError)]
    try:
        format, columns, reader = _choose_reader(sample, format, chosen, pitfalls)
    except DataError as error:
        raise error.at(source, None) from error
    rows = itertools.chain(first, rows)
    if columns.rubric == LINES:
        rows = _group_lines(rows, columns)
    names: set[str] = set()
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
            unread.update(row.keys() - columns.reads(row) - {*_OWN, LINES})
            row = reader(row, notes)
            if build_id is not None and is_absent(row.get("id")):
                row = {**row, "id": build_id(row, ids)}
            example = example_from_row(row, line=line if isinstance(line, int) else None)
            if example.id in names:
                num_repeated += 1
                raise DataError(f"{shortened(example.id)} is the id of an earlier row", field="id")
        except DataError as error:
            why = f" ({'; '.join(notes.dropped)})" if notes.dropped else ""
            dropped_rows.append((line, f"{error.at(None, None)}{why}"))
            files.setdefault(_file_of(line), False)
            continue
        files[_file_of(line)] = True
        names.add(example.id)
        rules.update(notes.rules)
        dropped_criteria += [(line, reason) for reason in notes.dropped]
        yield example
    if not names:
        reason = dropped_rows[0][1] if dropped_rows else "there are no rows"
        listed = problem_list(dropped_rows)
        raise DataError(f"no row became an example; the first: {reason}{listed}", source)
    if name := next((name for name, is_read in files.items() if not is_read), None):
        reason = next(why for line, why in dropped_rows if _file_of(line) == name)
        raise DataError(
            f"no row of its file {name} became an example, and rows of others did: its columns are "
            f"others, or it is no file of rows; choose files with --files 'PATTERN'; the first: "
            f"{reason}",
            source,
        )
    return ImportReport(
        num_rows=len(names) + len(dropped_rows),
        num_examples=len(names),
        counts=dict(rules),
        dropped_rows=tuple(dropped_rows),
        dropped_criteria=tuple(dropped_criteria),
        refusals=dict(Counter(reason_name(reason) for _, reason in dropped_rows)),
        omissions=dict(Counter(reason_name(reason) for _, reason in dropped_criteria)),
        unread_fields=dict(unread),
        num_repeated_ids=num_repeated,
        source=source,
        format=format,
        columns=columns.model_dump(exclude_defaults=True),
        pitfalls=pitfalls,
    )


_OWN = {"grading", "turns"}
"""Fields of our own rows that no path names."""


def _choose_reader(
    sample: Sequence[Mapping[str, Any]], format: Format, chosen: Columns, pitfalls: Pitfalls
) -> tuple[Format, Columns, Reader]:
    """Format, columns and reader of a source, by the first of its rows."""
    if format == "jsonl" and not (chosen.question or chosen.rubric or chosen.criterion):
        format = recognise(sample)
    if format != "rar" and pitfalls != "data":
        message = f"--pitfalls {pitfalls}: the format {format} keeps the sign of its points"
        raise ConfigError(f"{message}; only rar has pitfalls to decide")
    if format == "rar":
        if chosen != Columns():
            raise DataError("rows of rar have columns of their own: name none, or take jsonl")
        return format, LAYOUTS["rar"].columns, functools.partial(rar_row, pitfalls=pitfalls)
    columns = select_columns(sample, format, chosen)
    if columns.rubric is None and columns.criterion is not None:
        columns = columns.model_copy(update={"rubric": LINES})
    layout, origin = LAYOUTS.get(format, Layout()), "" if format == "jsonl" else format
    reader = functools.partial(read_row, columns=columns, layout=layout, origin=origin)
    return format, columns, reader


def _group_lines(rows: NumberedRows, columns: Columns) -> NumberedRows:
    """Rows of a source with one criterion a line: lines of one question become one row.

    Its other columns are those of its first line.
    """
    grouped: dict[str, tuple[int | str, dict[str, Any]]] = {}
    for line, row in rows:
        if isinstance(row, DataError):
            yield line, row
            continue
        key = str(look_up(row, columns.question))
        grouped.setdefault(key, (line, {**row, LINES: []}))[1][LINES].append(row)
    yield from grouped.values()


def _file_of(place: int | str) -> str:
    """File of a place in a folder; '' of a single file's."""
    return place.rpartition(":")[0] if isinstance(place, str) else ""
