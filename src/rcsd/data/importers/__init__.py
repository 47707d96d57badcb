"""Importers: rows of published data sets become examples, and every row is accounted for."""

from collections.abc import Mapping
from dataclasses import asdict, replace
from typing import Literal

from rcsd.config import RarData
from rcsd.data import rows
from rcsd.data.importers import formats
from rcsd.data.importers.notes import ImportReport, Notes, Options, Reader, collect, reason_name
from rcsd.data.rows import json_rows
from rcsd.data.sources import Hub, read_table
from rcsd.types import Example

__all__ = ["Format", "ImportReport", "Notes", "Options", "import_rows", "load_rar", "reason_name"]

Format = Literal["rar", "rubrichub", "healthbench", "researchqa", "openrubrics", "jsonl"]
"""Layout of the rows of a source."""

FORMATS: Mapping[Format, tuple[Reader, tuple[str, ...]]] = {
    "rar": (formats.rar_row, formats.RAR_FIELDS),
    "rubrichub": (formats.rubrichub_row, formats.RUBRICHUB_FIELDS),
    "healthbench": (formats.healthbench_row, formats.HEALTHBENCH_FIELDS),
    "researchqa": (formats.researchqa_row, formats.RESEARCHQA_FIELDS),
    "openrubrics": (formats.openrubrics_row, formats.OPENRUBRICS_FIELDS),
    "jsonl": (formats.jsonl_row, rows.FIELDS),
}
"""Reader of each format, and the fields that it reads."""


def import_rows(
    source: str, format: Format, options: Options | None = None, hub: Hub | None = None
) -> tuple[list[Example], ImportReport]:
    """Examples of a source, and a report that accounts for every row and criterion in it.

    Args:
        source: File, folder, or hub id ``owner/name`` (`rcsd.data.sources.read_table`).
        format: Layout of its rows.
        options: Choices of the user; None for the defaults.
        hub: Part of a folder or of a data set on the hub; None for the split train.

    Raises:
        DataError: If the source cannot be read, or no row becomes an example.
    """
    reader, fields = FORMATS[format]
    table = read_table(source, hub or Hub())
    examples, report = collect(table, reader, options or Options(), fields, source)
    return examples, replace(report, format=format)


def load_rar(section: RarData) -> tuple[list[Example], dict[str, object]]:
    """Examples of a data section (`rcsd.data.load`), and the report of the import.

    Raises:
        DataError: If a line of the file is no JSON, or no row becomes an example.
    """
    reader, fields = FORMATS["rar"]
    lines = json_rows(section.path)
    examples, report = collect(lines, reader, Options(), fields, str(section.path))
    return examples, asdict(replace(report, format="rar"))
