"""Rows of other data sets become ours: which layouts there are, and the one way in."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Literal

from rcsd.data import rows
from rcsd.data.importers import healthbench, openrubrics, rar, researchqa, rubrichub
from rcsd.data.importers.notes import ImportReport, Notes, Options, Reader, collect
from rcsd.data.sources import Hub, source_rows
from rcsd.types import Example

Format = Literal["rar", "rubrichub", "healthbench", "researchqa", "openrubrics", "jsonl"]
"""How the rows of a source are laid out."""


def _own_row(row: Mapping[str, Any], options: Options, notes: Notes) -> dict[str, Any]:
    """Our own row, as it is; it is validated like any other."""
    del options
    notes.rules.append("row taken as it is")
    return dict(row)


_READERS: Mapping[Format, tuple[Reader, frozenset[str]]] = {
    "rar": (rar.rar_row, rar.FIELDS),
    "rubrichub": (rubrichub.rubrichub_row, rubrichub.FIELDS),
    "healthbench": (healthbench.healthbench_row, healthbench.FIELDS),
    "researchqa": (researchqa.researchqa_row, researchqa.FIELDS),
    "openrubrics": (openrubrics.openrubrics_row, openrubrics.FIELDS),
    "jsonl": (_own_row, frozenset(rows.FIELDS)),
}


def import_rows(
    source: str, format: Format, options: Options | None = None, hub: Hub | None = None
) -> tuple[list[Example], ImportReport]:
    """Examples of a source, and a report that accounts for every row and criterion in it.

    Args:
        source: A file (.jsonl, .json, .parquet), a folder, or a hub id ``owner/name``.
        format: How its rows are laid out.
        options: What the user decides; None for the defaults.
        hub: Which part of a folder or of a data set on the hub; None for the split train.

    Raises:
        DataError: If the source cannot be read, or no row becomes an example.
        ConfigError: If the library datasets is needed and missing.
    """
    reader, fields = _READERS[format]
    found = source_rows(source, hub or Hub())
    examples, report = collect(found, reader, options or Options(), fields, source)
    return examples, replace(report, format=format)
