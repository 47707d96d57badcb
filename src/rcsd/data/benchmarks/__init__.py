"""Published benchmarks: rows, prompts, grading and sources (``tasks.yaml``)."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import yaml

from rcsd.config import TaskName
from rcsd.data.benchmarks import readers
from rcsd.data.benchmarks.readers import Row, UnusableError
from rcsd.data.importers.formats import Reader, rar_row, read_as
from rcsd.data.importers.notes import Notes
from rcsd.data.rows import example_from_row
from rcsd.data.sources import Hub
from rcsd.errors import DataError
from rcsd.types import Example

TaskReader = Callable[[Row, str, Notes], Example]
"""Example of a row, with the id for rows that have none and the notes for left-out criteria. Its
question holds neither options nor the instruction."""


@dataclass(frozen=True)
class Task:
    """A benchmark.

    Args:
        description: Subject of its questions.
        hub: Part of the data set; its split is the one that results are reported on.
        num_rows: Published number of rows, by split.
        licence: Licence of the data, as its card states.
        differences: Differences to the use in the paper (arXiv 2606.19327), known and possible.
        columns: Required columns of a row: one of each group of names.
        has_fixed_place: True if the file always puts the right option in one place.
        shuffles: True if options have no order that matters.
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
    read: TaskReader
    has_fixed_place: bool = False
    shuffles: bool = True
    access: str = ""

    @property
    def split(self) -> str:
        """Split that results are reported on."""
        return self.hub.split or "train"

    @property
    def instruction(self) -> str:
        """Text below the question, with ``{unit}`` for the unit of a number."""
        return _INSTRUCTIONS[self.grading]


def _import_with(reader: Reader) -> TaskReader:
    def read(row: Row, id: str, notes: Notes) -> Example:
        try:
            return example_from_row({"id": id, **reader(row, notes)})
        except DataError as error:
            raise UnusableError(str(error)) from error

    return read


_READERS: Mapping[TaskName, TaskReader] = {
    "gpqa-diamond": readers.read_gpqa,
    "scibench": readers.read_scibench,
    "piqa": readers.read_piqa,
    "rar-science": _import_with(rar_row),
    "researchqa": _import_with(read_as("researchqa")),
    "rubrichub-science": _import_with(read_as("rubrichub")),
    "medmcqa": readers.read_medmcqa,
    "pubmedqa": readers.read_pubmedqa,
    "arc-challenge": readers.read_labelled,
    "sciq": readers.read_sciq,
    "openbookqa": readers.read_labelled,
}
_INSTRUCTIONS = {
    "choice": r"Reason step by step, then put the letter of the right option within \boxed{}.",
    "number": r"Reason step by step, then put the number within \boxed{{}}{unit}.",
    "rubric": "",
}


TASKS: Mapping[TaskName, Task] = {
    name: Task(name, read=_READERS[name], **(entry | {"hub": Hub(**entry["hub"])}))
    for name, entry in yaml.safe_load(
        Path(__file__).with_name("tasks.yaml").read_text(encoding="utf-8")
    ).items()
}
"""Benchmarks by name, the paper's six first."""
