"""The one table of all commands: rows of plain text for a terminal, and numbers as its cells."""

import io
from collections.abc import Sequence
from dataclasses import dataclass

import rich.table
from rich.box import SIMPLE_HEAD
from rich.cells import cell_len
from rich.console import Console
from rich.measure import Measurement
from rich.text import Text

from rcsd.redact import shown_text

_NAME_WIDTH = 16
"""Least width of a name's column, where names are as long; then they are folded."""
_WIDEST = 10_000
"""Width of a terminal that any table fits into."""


@dataclass(frozen=True)
class Table:
    """A table of texts, which the console prints.

    Args:
        columns: Heads of the columns.
        rows: As many cells each.
        title: Line above the table.
        num_names: Number of the first columns that hold names; the others are right-aligned.
    """

    columns: Sequence[str]
    rows: Sequence[Sequence[str | Text]]
    title: str = ""
    num_names: int = 1

    def __rich__(self) -> rich.table.Table:
        """For a terminal; foreign text is printed literally, never obeyed."""
        title = Text(shown_text(self.title)) if self.title else None
        table = rich.table.Table(box=SIMPLE_HEAD, title=title, title_justify="left")
        for place, column in enumerate(self.columns):
            cells = [column, *(str(row[place]) for row in self.rows)]
            widest = max(cell_len(line) for cell in cells for line in cell.split("\n"))
            is_name = place < self.num_names
            table.add_column(
                Text(shown_text(column)),
                justify="left" if is_name else "right",
                overflow="fold",
                min_width=min(widest, _NAME_WIDTH) if is_name else widest,
            )
        for row in self.rows:
            table.add_row(*(of if isinstance(of, Text) else Text(shown_text(of)) for of in row))
        return table


def as_text(tables: Sequence[Table], lines: Sequence[str], width: int) -> str:
    """Tables, then lines, for a terminal of that width; wider where numbers need it."""
    file, wide = io.StringIO(), Console(width=_WIDEST)
    least = [Measurement.get(wide, wide.options, table.__rich__()).minimum for table in tables]
    for table in tables:
        Console(file=file, width=max(width, *least)).print(table)
    for line in lines:
        Console(file=file, width=width).print(Text(shown_text(line)))
    return file.getvalue()
