"""ARC-Challenge (arXiv 1803.05457)."""

from rcsd.data.benchmarks.base import CHOICE, Task
from rcsd.data.benchmarks.labelled import labelled_problem
from rcsd.data.sources import Hub

TASK = Task(
    name="arc-challenge",
    description="grade-school science questions that retrieval and word statistics get wrong",
    hub_id="allenai/ai2_arc",
    hub=Hub(split="test", config="ARC-Challenge"),
    num_rows={"train": 1119, "validation": 299, "test": 1172},
    licence="CC-BY-SA-4.0",
    differences="Not among the paper's benchmarks.",
    grading="choice",
    columns=(("question",), ("answerKey",)),
    read=labelled_problem,
    instruction=CHOICE,
    files={
        "train": ("ARC-Challenge-Train.jsonl",),
        "validation": ("ARC-Challenge-Dev.jsonl",),
        "test": ("ARC-Challenge-Test.jsonl",),
    },
)
