"""ResearchQA (arXiv 2509.00496)."""

from rcsd.data.benchmarks.base import Task, rubric_reader
from rcsd.data.importers.formats import researchqa_row
from rcsd.data.sources import Hub

TASK = Task(
    name="researchqa",
    description="research questions of 75 fields, with rubrics mined from surveys",
    hub_id="realliyifei/ResearchQA",
    hub=Hub(split="test"),
    num_rows={"valid": 703, "test": 3750, "test_mini": 776, "full": 21414},
    licence="MIT",
    differences=(
        "Which split the paper takes is unknown. The benchmark's judge grades an item on five "
        "steps; here a criterion is met or not."
    ),
    grading="rubric",
    columns=(("query",), ("rubric",)),
    read=rubric_reader(researchqa_row),
    files={split: (f"{split}.json",) for split in ("valid", "test", "test_mini", "full")},
)
