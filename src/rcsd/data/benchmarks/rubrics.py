"""Benchmarks of open questions, graded by rubrics."""

from collections.abc import Callable

from rcsd.data.benchmarks.base import Row, Task, UnusableError
from rcsd.data.importers.formats import rar_row, researchqa_row, rubrichub_row
from rcsd.data.importers.notes import Notes, Options, Reader
from rcsd.data.rows import example_from_row
from rcsd.data.sources import Hub
from rcsd.errors import DataError
from rcsd.types import Example


def _import_with(reader: Reader) -> Callable[[Row, str, Notes], Example]:
    def read(row: Row, id: str, notes: Notes) -> Example:
        try:
            return example_from_row({"id": id, **reader(row, Options(), notes)})
        except DataError as error:
            raise UnusableError(str(error)) from error

    return read


# Rubrics as Rewards (arXiv 2507.17746)
RAR_SCIENCE = Task(
    name="rar-science",
    description="open questions in the sciences, with criteria that o3-mini wrote",
    hub_id="ScaleAI/RaR-Science",
    hub=Hub(split="test"),
    num_rows={"train": 18333, "val": 2292, "test": 2292},
    licence="unknown (its card names none)",
    differences="The paper's judge and its prompt are unknown; so is how points become its score.",
    grading="rubric",
    columns=(("question",), ("reference_answer",), ("rubric", "rubrics")),
    read=_import_with(rar_row),
)

# arXiv 2509.00496
RESEARCHQA = Task(
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
    read=_import_with(researchqa_row),
    files={split: (f"{split}.json",) for split in ("valid", "test", "test_mini", "full")},
)

_FILE = "rurbichub_v1_Science.parquet"  # spelt so

# arXiv 2601.08430
RUBRICHUB_SCIENCE = Task(
    name="rubrichub-science",
    description="open questions in the sciences, with criteria that several models wrote",
    hub_id="sojuL/RubricHub_v1",
    hub=Hub(split="train", files=f"RuRL/{_FILE}"),
    num_rows={"train": 29418},
    licence="Apache-2.0",
    differences=(
        "There is no test split. The paper's released code draws 1,000 rows of this file (seed 42) "
        "that are neither among those it trained on before nor in RaR-Science's test split, and "
        "does not publish which; take your own rows by limit, or a file of them by path."
    ),
    grading="rubric",
    columns=(("prompt", "messages", "question"), ("Rubrics", "rubrics", "reward_model")),
    read=_import_with(rubrichub_row),
    files={"train": (_FILE, f"RuRL/{_FILE}")},
)
