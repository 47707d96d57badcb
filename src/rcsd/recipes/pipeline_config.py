"""Sections of a pipeline: train a rubric writer, write rubrics, train reasoners, evaluate."""

from pathlib import Path
from typing import Literal, get_args

from pydantic import Field, model_validator

from rcsd.config.base import Section
from rcsd.config.data import Arm, Data, PlaceboArm, SetName
from rcsd.config.engines import AnyEngine
from rcsd.config.model import Model
from rcsd.config.run import RubricGrammar, Stage


class Writing(Section):
    """Rubric writing by a model."""

    view: Literal["none", "answer"] = "none"
    """What the writer sees beside the question: nothing, or the reference answer."""
    temperature: float | None = Field(default=None, gt=0)
    """Temperature; None is greedy decoding."""
    top_p: float = Field(default=1.0, gt=0, le=1)
    """Nucleus; 1 is all."""
    top_k: int | None = Field(default=None, ge=1)
    """Likeliest tokens kept; None is all."""
    max_tokens: int = Field(default=1024, ge=64)
    """Longest rubric, in tokens; what is cut off there keeps its complete criteria."""
    max_prompt_tokens: int = Field(default=4096, ge=1)
    """Longest prompt, in tokens; rows with a longer one get no rubric and are listed."""
    grammar: RubricGrammar = RubricGrammar()
    """Bounds of a rubric, enforced by constrained decoding."""
    templates: Path | None = None
    """Folder of jinja files that replace the packaged templates; None takes the packaged ones."""
    seed: int = Field(default=0, ge=0)
    """Random seed of sampling."""


class WriterSettings(Section):
    """Settings of ``rcsd rubrics write``."""

    model: Model
    """The writer: a model, or the folder of a run."""
    writing: Writing = Writing()
    """View, decoding and bounds; those that a run trained it with, where left out."""
    engine: AnyEngine | None = None
    """Engine that samples; None: local, or hf for models that it cannot run."""


class PipelineEvaluation(Section):
    """Held-out sets that every arm answers at the end."""

    data: dict[SetName, Data] = Field(min_length=1)
    """The sets, by name: letters, digits, ``_`` and ``-``, since files are named after them."""
    max_tokens: int = Field(default=1024, ge=1)
    """Longest completion, in tokens."""
    num_ordered: int = Field(default=4, ge=2)
    """Completions of each question, sampled at temperature 1 before distillation; written rubrics
    and gold rubrics are compared by the order they give them."""


class Recipe(Section):
    """Settings of pipelines and studies: the initial model, stage 1, and the folder."""

    model: Model
    """Initial model of all that is trained."""
    writer: Stage | None = None
    """Stage 1, once for each seed: its data has gold rubrics, its views have ``writes: rubric``.
    Only learned rubrics need it."""
    writing: Writing = Writing()
    """Rubric writing for the questions of stage 2."""
    out: Path
    """Folder of all artifacts; a step whose artifacts exist there is skipped."""
    jobs: int = Field(default=1, ge=1)
    """Steps at a time; several run in processes of one thread each."""

    @model_validator(mode="after")
    def _writes_as_it_is_trained(self) -> "Recipe":
        if self.writer is None:
            return self
        if self.writer.views.writes != "rubric":
            raise ValueError("the writer writes rubrics: set writer.views.writes: rubric")
        if self.writer.learned_view != self.writing.view:
            raise ValueError(
                f"the writer is trained with the view '{self.writer.learned_view}' and would "
                f"write with '{self.writing.view}'; set writing.view to the writer's"
            )
        return self


class Pipeline(Recipe):
    """Two stages in one: train a rubric writer, write rubrics, train reasoners, evaluate."""

    warm_start: Stage | None = None
    """Supervised steps before both stages, for a model that does not follow rubrics yet; None
    starts from the model as it is."""
    reasoner: Stage
    """Stage 2, once for each arm."""
    arms: list[Arm] = Field(default=["learned", "direct", "shuffled"], min_length=1)
    """Rubrics that the reasoner is trained with: the data's (gold), the trained writer's
    (learned), the untrained writer's (direct), or a placebo with its defaults, made of gold ones
    where all rows have one, else of learned ones."""
    evaluation: PipelineEvaluation
    """Held-out sets that the arms are compared on."""
    seed: int = Field(default=0, ge=0)
    """Random seed of everything that is sampled."""

    @model_validator(mode="after")
    def _check(self) -> "Pipeline":
        if self.writer is None and "learned" in self.arms:
            raise ValueError("the arm 'learned' needs a writer: add the section writer")
        if self.warm_start is not None and self.warm_start.views.writes != "answer":
            raise ValueError("a warm start writes answers: leave warm_start.views.writes out")
        if self.reasoner.views.writes != "answer":
            raise ValueError("the reasoner writes answers: leave reasoner.views.writes out")
        if len(set(self.arms)) < len(self.arms):
            raise ValueError("arms: an arm is listed twice")
        if set(self.arms) & set(get_args(PlaceboArm)) and not self.reasoner.uses_rubrics:
            raise ValueError(
                "no view of the reasoner shows the rubric, so a placebo replaces nothing; set "
                "reasoner.views.teacher"
            )
        return self
