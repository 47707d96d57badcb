"""The science part of RubricHub (arXiv 2601.08430)."""

from rcsd.data.benchmarks.base import Task, rubric_reader
from rcsd.data.importers.formats import rubrichub_row
from rcsd.data.sources import Hub

_FILE = "rurbichub_v1_Science.parquet"  # spelt so

TASK = Task(
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
    read=rubric_reader(rubrichub_row),
    files={"train": (_FILE, f"RuRL/{_FILE}")},
)
