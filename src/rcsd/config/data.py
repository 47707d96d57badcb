"""Configuration of examples and of the placebos that replace their rubrics."""

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, field_validator

from rcsd.config.base import Section

Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
"""A checksum, as sha256sum prints it."""


Format = Literal[
    "jsonl",
    "rar",
    "healthbench",
    "rubrichub",
    "researchqa",
    "openrubrics",
    "researchrubrics",
    "prbench",
    "profbench",
    "open-instruct",
    "verl",
    "tinker",
    "verifiers",
    "autorubric",
    "writingbench",
    "biggen",
    "wildchecklists",
    "infobench",
]
"""Layout of the rows of a source that ``rcsd data import`` reads; ``jsonl``: any, recognised by its
columns."""

Pitfalls = Literal["data", "phrasing", "drop"]
"""What decides the sign of a pitfall: its points, unless words clearly speak of avoidance; its
words alone; or it is left out."""

Split = Literal["train", "new_numbers", "new_templates"]
"""Splits of the rubric world: known templates; the same with held-out numbers; templates never
trained on."""


class FileData(Section):
    """Rows of a file."""

    path: Path
    """JSONL file."""
    sha256: Sha256 | None = None
    """Checksum that the file must have; None: any. Pipelines and studies set it as they start."""


class JsonlData(FileData):
    """Rows with a question; optionally reference_answer, solution, rubric, id, tags, grading."""

    type: Literal["jsonl"] = "jsonl"


class RarData(FileData):
    """Rows of RaR-Science (arXiv 2507.17746) with their gold rubrics."""

    type: Literal["rar"] = "rar"
    pitfalls: Pitfalls = "data"
    """What decides the sign of a pitfall."""


class WorldData(Section):
    """Problems of the rubric world, generated from a seed."""

    type: Literal["world"] = "world"
    split: Split = "train"
    """Split that the problems come from."""
    num_examples: int = Field(ge=1)
    """Number of problems."""
    seed: int = 0
    """Random seed of the problems."""
    rubrics: Literal["gold", "drawn"] = "gold"
    """Gold rubrics; or, to learn to follow rubrics, drawn ones (of the train split): any subset of
    criteria, wrong procedures too, with a solution that does what they say."""


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
    """A published benchmark, in its own words and graded as it does."""

    type: Literal["task"] = "task"
    name: TaskName
    """Which one."""
    path: Path | None = None
    """File in the hub's layout, folder of its parquet or of ``save_to_disk``; None: the hub."""
    split: str | None = None
    """Its split; None: the one that the benchmark is reported on."""
    revision: str | None = None
    """Commit, tag or branch on the hub; None: the newest."""
    limit: int | None = Field(default=None, ge=1)
    """Number of rows taken, the first of the file; None: all."""
    partial: bool = False
    """True if a set with fewer or more rows than were published is taken instead of refused."""
    options_seed: int | None = Field(default=0, ge=0)
    """Seed of the order of each question's options. None keeps the file's order, and is refused
    where the file always puts the right option in one place."""


Data = Annotated[JsonlData | RarData | WorldData | TaskData, Field(discriminator="type")]
"""Questions that a model answers or learns from."""

SetName = Annotated[str, Field(pattern=r"^\w[\w-]*$")]
"""Name of a held-out set: letters, digits, ``_`` and ``-``, since files are named after it."""


class NoPlacebo(Section):
    """Each example keeps its own rubric."""

    type: Literal["none"] = "none"


class GenericRubrics(Section):
    """One rubric for every example: the JSON list of ``generic_rubric.jinja``."""

    type: Literal["generic"] = "generic"


class ShuffledRubrics(Section):
    """Each example gets another example's whole rubric, of another kind where that is possible.

    Each rubric is used once; kinds are ``tags.template``.
    """

    type: Literal["shuffled"] = "shuffled"
    seed: int = 0
    """Seed of the exchange."""


class RandomRubrics(Section):
    """Each criterion is replaced by one of another example, drawn on its own; points stay.

    A place with positive points gets a positive criterion, one with negative points a mistake (or,
    where no other example names one, a demand with as many points above 0). Donors are of another
    kind where tags say so; words of the own rubric, or drawn before, where there are no others.
    """

    type: Literal["random"] = "random"
    seed: int = 0
    """Seed of what is drawn."""


class ReducedRubrics(Section):
    """Each example keeps a random part of its own criteria, at least one of them positive."""

    type: Literal["reduced"] = "reduced"
    kept_share: float = Field(default=0.5, gt=0, lt=1)
    """Share of the criteria that is kept; rounded, at least one criterion."""
    seed: int = 0
    """Seed of which are kept."""


class NoisyRubrics(Section):
    """A random part of each example's criteria is replaced as in ``random``; the rest stays.

    The share leads from gold (0) to ``random`` (1).
    """

    type: Literal["noisy"] = "noisy"
    replaced_share: float = Field(default=0.5, gt=0, lt=1)
    """Share of the criteria that is replaced; rounded, at least one criterion."""
    seed: int = 0
    """Seed of which are replaced, and by what."""


Placebo = Annotated[
    NoPlacebo | GenericRubrics | ShuffledRubrics | RandomRubrics | ReducedRubrics | NoisyRubrics,
    Field(discriminator="type"),
]


class Rubrics(Section):
    """Rubrics that a model sees or learns from; answers are graded by those of their own rows."""

    placebo: Placebo = NoPlacebo()
    """What replaces them. A plain name is short for its type: ``rubrics.placebo=random``."""

    @field_validator("placebo", mode="before")
    @classmethod
    def _type_of_a_name(cls, value: object) -> object:
        return {"type": value} if isinstance(value, str) else value


PlaceboArm = Literal["generic", "shuffled", "random", "reduced", "noisy"]
"""A placebo that a reasoner is trained with, by its type in `rcsd.config.Rubrics`."""

Arm = Literal["gold", "learned", "direct", PlaceboArm]
"""Whose rubrics a reasoner is trained with."""
