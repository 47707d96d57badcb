"""OpenBookQA (arXiv 1809.02789), without its book."""

from rcsd.data.benchmarks.base import CHOICE, Task
from rcsd.data.benchmarks.labelled import labelled_problem
from rcsd.data.sources import Hub

TASK = Task(
    name="openbookqa",
    description="elementary science questions that need a fact and common knowledge",
    hub_id="allenai/openbookqa",
    hub=Hub(split="test", config="main"),
    num_rows={"train": 4957, "validation": 500, "test": 500},
    licence="unknown (its card says so)",
    differences="Not among the paper's benchmarks.",
    grading="choice",
    columns=(("question", "question_stem"), ("answerKey",)),
    read=labelled_problem,
    instruction=CHOICE,
    files={"train": ("train.jsonl",), "validation": ("dev.jsonl",), "test": ("test.jsonl",)},
)
