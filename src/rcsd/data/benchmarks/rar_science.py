"""RaR-Science (Rubrics as Rewards, arXiv 2507.17746)."""

from rcsd.data.benchmarks.base import Task, rubric_reader
from rcsd.data.importers.formats import rar_row
from rcsd.data.sources import Hub

TASK = Task(
    name="rar-science",
    description="open questions in the sciences, with criteria that o3-mini wrote",
    hub_id="ScaleAI/RaR-Science",
    hub=Hub(split="test"),
    num_rows={"train": 18333, "val": 2292, "test": 2292},
    licence="unknown (its card names none)",
    differences="The paper's judge and its prompt are unknown; so is how points become its score.",
    grading="rubric",
    columns=(("question",), ("reference_answer",), ("rubric", "rubrics")),
    read=rubric_reader(rar_row),
)
