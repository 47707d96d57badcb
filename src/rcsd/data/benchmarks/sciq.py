"""SciQ (arXiv 1707.06209)."""

from rcsd.data.benchmarks.base import CHOICE, Problem, Row, Task, choice, text_of
from rcsd.data.sources import Hub

_OPTIONS = ("distractor1", "distractor2", "distractor3", "correct_answer")


def _read(row: Row, id: str) -> Problem:
    problem = Problem(id, text_of(row, "question"), support=text_of(row, "support"))
    return choice(problem, [row.get(name) for name in _OPTIONS], len(_OPTIONS) - 1)


TASK = Task(
    name="sciq",
    description="science exam questions, most with a paragraph that supports the answer",
    hub_id="allenai/sciq",
    hub=Hub(split="test"),
    num_rows={"train": 11679, "validation": 1000, "test": 1000},
    licence="CC-BY-NC-3.0",
    differences="Not among the paper's benchmarks. The paragraph is shown.",
    grading="choice",
    columns=(("question",), ("support",), *((name,) for name in _OPTIONS)),
    read=_read,
    instruction=CHOICE,
    fixed_place=True,
    files={"train": ("train.json",), "validation": ("valid.json",), "test": ("test.json",)},
)
