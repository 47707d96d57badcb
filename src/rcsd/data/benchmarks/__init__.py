"""Published benchmarks: rows, prompts, grading and sources."""

from collections.abc import Mapping

from rcsd.config import TaskName
from rcsd.data.benchmarks import choices, rubrics, scibench
from rcsd.data.benchmarks.base import Task

__all__ = ["TASKS", "Task", "task_table"]

TASKS: Mapping[TaskName, Task] = {
    task.name: task
    for task in (
        choices.GPQA_DIAMOND,
        scibench.SCIBENCH,
        choices.PIQA,
        rubrics.RAR_SCIENCE,
        rubrics.RESEARCHQA,
        rubrics.RUBRICHUB_SCIENCE,
        choices.MEDMCQA,
        choices.PUBMEDQA,
        choices.ARC_CHALLENGE,
        choices.SCIQ,
        choices.OPENBOOKQA,
    )
}
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
