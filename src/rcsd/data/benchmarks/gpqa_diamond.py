"""GPQA-Diamond (arXiv 2311.12022). Its authors ask that no question appear in the open."""

from rcsd.data.benchmarks.base import CHOICE, Problem, Row, Task, choice, text_of
from rcsd.data.sources import Hub

_OPTIONS = ("Correct Answer", "Incorrect Answer 1", "Incorrect Answer 2", "Incorrect Answer 3")


def _read(row: Row, id: str) -> Problem:
    names = {"domain": "High-level domain", "subdomain": "Subdomain"}
    tags = {tag: row[name] for tag, name in names.items() if isinstance(row.get(name), str)}
    solution = row.get("Explanation")
    problem = Problem(
        str(row.get("Record ID") or id),
        text_of(row, "Question").strip(),
        solution=solution if isinstance(solution, str) and solution.strip() else None,
        tags=tags,
    )
    return choice(problem, [text_of(row, name).strip() for name in _OPTIONS], 0)


TASK = Task(
    name="gpqa-diamond",
    description="questions of experts in biology, physics and chemistry that search cannot answer",
    hub_id="Idavidrein/gpqa",
    hub=Hub(split="train", config="gpqa_diamond"),
    num_rows={"train": 198},
    licence="CC-BY-4.0; do not publish the questions",
    differences="The paper's words, order of options and number of samples are unknown.",
    grading="choice",
    columns=(("Question",), *((name,) for name in _OPTIONS)),
    read=_read,
    instruction=CHOICE,
    fixed_place=True,
    files={"train": ("gpqa_diamond.csv",)},
    access=(
        "GPQA is gated: accept its terms at https://huggingface.co/datasets/Idavidrein/gpqa, then "
        "'hf auth login'"
    ),
)
