"""Definition of a benchmark."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from rcsd.config import TaskName
from rcsd.data.importers.notes import Notes
from rcsd.data.sources import Hub
from rcsd.errors import DataError
from rcsd.types import Example

Row = Mapping[str, Any]
Rows = Sequence[tuple[int, Row]]
"""Line or row numbers, from 1, and rows."""


class UnusableError(Exception):
    """A well-formed row that cannot be asked or graded, and the reason."""


@dataclass(frozen=True)
class Task:
    """A benchmark.

    Args:
        name: Name in a configuration.
        description: Subject of its questions.
        hub_id: Name on the hub.
        hub: Part of the data set; its split is the one that results are reported on.
        num_rows: Published number of rows, by split.
        licence: Licence of the data, as its card states.
        differences: Differences to the use in the paper (arXiv 2606.19327), known and possible.
        grading: Kind of grading.
        columns: Required columns of a row: one of each group of names.
        read: Example of a row, with the id for rows that have none and the notes for left-out
            criteria. Its question holds neither options nor the instruction.
        instruction: Text below the question, with ``{unit}`` for the unit of a number.
        has_fixed_place: True if the file always puts the right option in one place.
        shuffles: True if options have no order that matters.
        files: Names of published files by split, as patterns.
        arrange: Completes rows from each other or from files beside theirs (None: the hub).
        access: Steps to get access, for a gated data set.
    """

    name: TaskName
    description: str
    hub_id: str
    hub: Hub
    num_rows: Mapping[str, int]
    licence: str
    differences: str
    grading: Literal["choice", "number", "rubric"]
    columns: Sequence[Sequence[str]]
    read: Callable[[Row, str, Notes], Example]
    instruction: str = ""
    has_fixed_place: bool = False
    shuffles: bool = True
    files: Mapping[str, Sequence[str]] = field(default_factory=dict)
    arrange: Callable[[Rows, Path | None], Rows] | None = None
    access: str = ""


def read_text(row: Row, name: str) -> str:
    """Text of a column; a DataError if it is none."""
    value = row.get(name)
    if not isinstance(value, str):
        raise DataError(f"expected a text, got {value!r}", field=name)
    return value


def text_or_none(row: Row, name: str) -> str | None:
    """Text of a column; None if it is none, or blank."""
    value = row.get(name)
    return value if isinstance(value, str) and value.strip() else None
