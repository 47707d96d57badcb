"""Published benchmarks: rows, prompts, grading and sources (``tasks.yaml``)."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import yaml

from rcsd.config import TaskName
from rcsd.data.benchmarks import choices
from rcsd.data.benchmarks.base import Row, Task, UnusableError
from rcsd.data.benchmarks.scibench import read_scibench
from rcsd.data.importers.formats import Reader, rar_row, researchqa_row, rubrichub_row
from rcsd.data.importers.notes import Notes
from rcsd.data.rows import example_from_row
from rcsd.data.sources import Hub
from rcsd.errors import DataError
from rcsd.types import Example

__all__ = ["TASKS", "Task", "task_table"]


def _import_with(reader: Reader) -> Callable[[Row, str, Notes], Example]:
    def read(row: Row, id: str, notes: Notes) -> Example:
        try:
            return example_from_row({"id": id, **reader(row, "single", notes)})
        except DataError as error:
            raise UnusableError(str(error)) from error

    return read


_CODE: Mapping[TaskName, dict[str, Any]] = {
    "gpqa-diamond": {"read": choices.read_gpqa},
    "scibench": {"read": read_scibench},
    "piqa": {"read": choices.read_piqa, "arrange": choices.with_labels},
    "rar-science": {"read": _import_with(rar_row)},
    "researchqa": {"read": _import_with(researchqa_row)},
    "rubrichub-science": {"read": _import_with(rubrichub_row)},
    "medmcqa": {"read": choices.read_medmcqa, "arrange": choices.count_from_0},
    "pubmedqa": {"read": choices.read_pubmedqa},
    "arc-challenge": {"read": choices.read_labelled},
    "sciq": {"read": choices.read_sciq},
    "openbookqa": {"read": choices.read_labelled},
}
_INSTRUCTIONS = {
    "choice": r"Reason step by step, then put the letter of the right option within \boxed{}.",
    "number": r"Reason step by step, then put the number within \boxed{{}}{unit}.",
    "rubric": "",
}


def _read_tasks() -> dict[TaskName, Task]:
    entries = yaml.safe_load(Path(__file__).with_name("tasks.yaml").read_text(encoding="utf-8"))
    return {
        name: Task(
            name=name,
            instruction=_INSTRUCTIONS[entry["grading"]],
            **_CODE[name],
            **(entry | {"hub": Hub(**entry["hub"])}),
        )
        for name, entry in entries.items()
    }


TASKS: Mapping[TaskName, Task] = _read_tasks()
"""Benchmarks by name, the paper's six first."""


def task_table() -> list[dict[str, str]]:
    """Name, subject, split, number of rows, grading, licence and hub id of each benchmark."""
    return [
        {
            "name": task.name,
            "asks": task.description,
            "split": task.hub.split,
            "rows": str(task.num_rows[task.hub.split]),
            "grading": task.grading,
            "licence": task.licence,
            "hub": task.hub_id,
        }
        for task in TASKS.values()
    ]
