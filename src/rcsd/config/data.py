"""Configuration of examples and of the placebos that replace their rubrics."""

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, field_validator

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


class RarData(FileData):
    """Rows of RaR-Science (arXiv 2507.17746) with their gold rubrics."""

    type: Literal["rar"] = "rar"


class WorldData(Section):
    """Problems of the rubric world, generated from a seed."""

    type: Literal["world"] = "world"
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
    """True if a set with another number of rows than was published is taken; else it is refused,
    since a result on it is no result on the benchmark."""
    options_seed: int | None = Field(default=0, ge=0)
    """Seed of the order of a question's options, drawn for each by itself, so that ``limit`` moves
    none. None keeps the file's order, and is refused where the file always puts the right option in
    one place."""


Data = Annotated[JsonlData | RarData | WorldData | TaskData, Field(discriminator="type")]
"""Questions that a model answers or learns from."""

SetName = Annotated[str, Field(pattern=r"^\w[\w-]*$")]
"""Name of a held-out set: letters, digits, ``_`` and ``-``, since files are named after it."""


class NoPlacebo(Section):
    """Each example keeps its own rubric."""

    type: Literal["none"] = "none"


class GenericRubrics(Section):
    """The same criteria for every example, such as could be asked of any question.

    Goes: every word about the question, and with it its number of criteria and their points. Stays:
    that a rubric is shown. Criteria and points are those of ``generic_rubric.jinja``, a JSON list
    that ``views.templates`` may replace; its hash is in the run's record.
    """

    type: Literal["generic"] = "generic"


class ShuffledRubrics(Section):
    """Each example is given another example's whole rubric; each rubric is used once.

    Goes: whatever a rubric says about its question. Stays: all words, points and numbers of
    criteria, and that the criteria of a rubric belong together. The other example is of another
    kind (``tags.template``) where tags say so and the kinds' sizes allow it.
    """

    type: Literal["shuffled"] = "shuffled"
    seed: int = 0
    """Seed of the exchange."""


class RandomRubrics(Section):
    """Each criterion is replaced by one of another example, drawn on its own.

    Goes: whatever the criteria say about the question, and that they belong together: nobody's
    whole rubric is shown. Stays: the number of criteria and the points of each place; a place with
    positive points gets the words of a positive criterion, one with negative points those of a
    mistake. (Where no other example names a mistake, a demand takes the place, with as many points
    above 0.) Donors are of another kind where tags say so; words that stand in the example's own
    rubric, or have been drawn for it, are drawn only where there are no others.
    """

    type: Literal["random"] = "random"
    seed: int = 0
    """Seed of what is drawn."""


class ReducedRubrics(Section):
    """Each example keeps a random part of its own criteria, at least one of them positive.

    Goes: the other criteria, with their points. Stays: words, points and order of those that are
    kept. No placebo that is empty: what it gains beside gold says how much a gain hangs on the
    rubric's being whole.
    """

    type: Literal["reduced"] = "reduced"
    kept_share: float = Field(default=0.5, gt=0, lt=1)
    """Share of a rubric's criteria that is kept; rounded to whole criteria, at least one."""
    seed: int = 0
    """Seed of which are kept."""


class NoisyRubrics(Section):
    """A random part of each example's criteria is replaced as in ``random``; the rest stays.

    Replaced, not turned in sign: a turned sign demands the mistake and teaches something false,
    while noise must only take information away, so that the share leads from gold (0) to ``random``
    (1). Stays: number of criteria, points of each place, and the criteria that are not replaced.
    """

    type: Literal["noisy"] = "noisy"
    replaced_share: float = Field(default=0.5, gt=0, lt=1)
    """Share of a rubric's criteria that is replaced; rounded to whole criteria, at least one."""
    seed: int = 0
    """Seed of which are replaced, and by what."""


Placebo = Annotated[
    NoPlacebo | GenericRubrics | ShuffledRubrics | RandomRubrics | ReducedRubrics | NoisyRubrics,
    Field(discriminator="type"),
]


class Rubrics(Section):
    """Rubrics that a model sees or learns from: the examples' or a placebo.

    Held-out answers are always graded by the rubrics of their own rows.
    """

    placebo: Placebo = NoPlacebo()
    """What replaces them, to tell what a rubric says from its being there. A plain name is short
    for its type: ``rubrics.placebo=random``."""

    @field_validator("placebo", mode="before")
    @classmethod
    def _type_of_a_name(cls, value: object) -> object:
        return {"type": value} if isinstance(value, str) else value


PlaceboArm = Literal["generic", "shuffled", "random", "reduced", "noisy"]
"""A placebo that a reasoner is trained with, by its type in `rcsd.config.Rubrics`."""

Arm = Literal["gold", "learned", "direct", PlaceboArm]
"""Whose rubrics a reasoner is trained with."""
