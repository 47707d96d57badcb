"""Data sources: files, the rubric world, benchmarks."""

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field

from rcsd.config.base import Section

Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
"""A checksum, as sha256sum prints it."""


class FileData(Section):
    """Rows of a file."""

    path: Path
    """JSONL file."""
    sha256: Sha256 | None = None
    """Checksum that the file must have; None takes any. Pipelines and studies set it when they
    start, so that no step learns from a file that was changed meanwhile."""


class JsonlData(FileData):
    """Rows with a question; optionally reference_answer, solution, rubric, id, tags, grading."""

    type: Literal["jsonl"] = "jsonl"
    """Selects JSONL."""


class RarData(FileData):
    """Rows of RaR-Science (arXiv 2507.17746) with their gold rubrics."""

    type: Literal["rar"] = "rar"
    """Selects RaR."""


class WorldData(Section):
    """Problems of the rubric world, generated from a seed."""

    type: Literal["world"] = "world"
    """Selects the rubric world."""
    split: Literal["train", "new_numbers", "new_templates"] = "train"
    """Known templates; known templates with held-out numbers; templates never trained on."""
    num_examples: int = Field(ge=1)
    """Number of problems."""
    seed: int = 0
    """Random seed of the problems."""
    rubrics: Literal["gold", "drawn"] = "gold"
    """Gold rubrics; or drawn ones (of the train split): any subset of criteria, wrong procedures
    demanded too, with a solution that does what they say: to learn following rubrics from."""


TaskName = Literal[
    "gpqa-diamond",
    "scibench",
    "piqa",
    "rar-science",
    "researchqa",
    "rubrichub-science",
    "medmcqa",
    "pubmedqa",
    "arc-challenge",
    "sciq",
    "openbookqa",
]
"""The benchmarks of `rcsd.data.benchmarks`."""


class TaskData(Section):
    """A published benchmark (`rcsd.data.benchmarks`), in its own words and graded as it does."""

    type: Literal["task"] = "task"
    """Selects a benchmark."""
    name: TaskName
    """Which one."""
    path: Path | None = None
    """File or folder in the layout in which the benchmark is published, or a folder of datasets'
    ``save_to_disk``; None loads it from the hub."""
    split: str | None = None
    """Its split; None takes the one that the benchmark is reported on."""
    revision: str | None = None
    """Commit, tag or branch on the hub; None takes the newest."""
    limit: int | None = Field(default=None, ge=1)
    """The first rows alone, in the order of the file; None takes all."""
    partial: bool = False
    """Whether a set with another number of rows than was published is taken; else it is refused,
    since a result on it is no result on the benchmark."""
    options_seed: int | None = Field(default=0, ge=0)
    """Seed of the order of a question's options, drawn for each by itself, so that ``limit`` moves
    none. None keeps the file's order, and is refused where the file always puts the right option in
    one place."""


Data = Annotated[JsonlData | RarData | WorldData | TaskData, Field(discriminator="type")]
"""Questions that a model answers or learns from."""
