"""Benchmarks: what is asked, in which words, how it is graded, where it comes from."""

from collections.abc import Mapping

from rcsd.config import TaskName
from rcsd.data.benchmarks import (
    arc_challenge,
    gpqa_diamond,
    medmcqa,
    openbookqa,
    piqa,
    pubmedqa,
    rar_science,
    researchqa,
    rubrichub_science,
    scibench,
    sciq,
)
from rcsd.data.benchmarks.base import Problem, Task

__all__ = ["TASKS", "Problem", "Task", "task_table"]

_MODULES = (
    gpqa_diamond, scibench, piqa, rar_science, researchqa, rubrichub_science,
    medmcqa, pubmedqa, arc_challenge, sciq, openbookqa,
)  # fmt: skip

TASKS: Mapping[TaskName, Task] = {module.TASK.name: module.TASK for module in _MODULES}
"""The paper's six benchmarks first."""


def task_table() -> list[dict[str, str]]:
    """What there is: name, what is asked, split and rows, grading, licence, name on the hub."""
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
