"""What a command is given: a run, a pipeline of two stages, or sets that a model answers."""

from pathlib import Path
from typing import Annotated, Literal, get_args

from pydantic import Field, model_validator

from rcsd.config.methods import Distill, Grpo, Sft, Suppress
from rcsd.config.parts import (
    Data,
    EmaTeacher,
    Evaluation,
    FrozenTeacher,
    HfEngine,
    LiveTeacher,
    Model,
    Optim,
    RubricGrammar,
    Rubrics,
    Sampling,
    Views,
)
from rcsd.config.section import Section
from rcsd.types import ViewName


class Stage(Section):
    """What a run does, apart from the model that it starts from and the folder that it fills."""

    data: Data
    """What is trained on."""
    method: Annotated[Distill | Grpo | Sft | Suppress, Field(discriminator="type")]
    """How is learned from it."""
    optim: Optim
    """The optimizer."""
    steps: int = Field(ge=1)
    """Optimizer steps; where a method learns from a batch more than once, batches. Source for 100:
    RCSD."""
    views: Views = Views()
    """What student and teacher see."""
    teacher: Annotated[FrozenTeacher | EmaTeacher | LiveTeacher, Field(discriminator="type")] = (
        FrozenTeacher()
    )
    """The teacher's weights."""
    engine: HfEngine = HfEngine()
    """What samples completions."""
    sampling: Sampling = Sampling()
    """How they are sampled."""
    evaluation: Evaluation | None = None
    """Held-out evaluation; None goes without."""
    examples_per_step: int = Field(default=32, ge=1)
    """Examples of each optimizer step. Source: RCSD."""
    completions_per_example: int = Field(default=1, ge=1)
    """Completions sampled of each example. Source: RCSD. At least 2 for grpo, whose paper takes
    64."""
    tokens_per_part: int = Field(default=16384, ge=1)
    """Tokens of one forward and backward pass, teacher prompt and padding included. Changes memory
    and speed, never the gradient."""
    precision: Literal["bf16"] | None = None
    """Mixed precision of accelerate: bf16 computes in bfloat16 and keeps the type of the weights;
    None computes in the type of the weights."""
    save_every_steps: int = Field(default=50, ge=1)
    """Optimizer steps between checkpoints."""
    keep_checkpoints: int = Field(default=2, ge=1)
    """How many of the newest checkpoints stay."""
    trackers: list[Literal["tensorboard", "wandb", "trackio"]] = Field(default_factory=list)
    """Trackers of accelerate that get the metrics too; metrics.jsonl is always written."""

    @model_validator(mode="after")
    def _is_meaningful(self) -> "Stage":
        if self.method.type == "sft" and (self.views.analysis or self.teacher.type != "frozen"):
            raise ValueError(
                "sft writes no analysis and its habits are the frozen weights'; "
                "leave views.analysis and teacher out"
            )
        if self.sampling.grammar is not None and self.views.writes == "answer":
            raise ValueError("sampling.grammar holds to rubrics: set views.writes: rubric")
        if self.views.writes == "rubric" and self.learned_view not in ("none", "answer"):
            raise ValueError(
                "with views.writes: rubric the view that is learned is none or answer; "
                "a writer that is shown the rubric learns to copy it"
            )
        if (
            self.views.writes == "rubric"
            and "solution" in f"{self.views.student} {self.views.teacher}"
        ):
            raise ValueError("with views.writes: rubric a view shows answer and rubric at most")
        if (
            self.sampling.grammar is not None
            and self.method.type == "distill"
            and self.method.divergence.type == "sampled_token"
        ):
            raise ValueError(
                "sampled_token needs samples of the student itself, and a grammar masks its "
                "tokens; take another divergence, or leave sampling.grammar out"
            )
        return self

    @model_validator(mode="after")
    def _reinforces_its_own_samples(self) -> "Stage":
        kind = self.method.type
        if kind not in ("grpo", "suppress"):
            return self
        if self.views.analysis or self.teacher.type != "frozen":
            raise ValueError(
                f"{kind} has no teacher's view and no other teacher than the frozen weights; "
                "leave views.analysis and teacher out"
            )
        if self.sampling.grammar is not None:
            raise ValueError(
                f"{kind} needs samples of the student itself, and a grammar masks its tokens; "
                "leave sampling.grammar out"
            )
        if kind == "grpo" and self.views.writes == "rubric":
            raise ValueError("grpo rewards answers: leave views.writes out")
        if kind == "grpo" and self.completions_per_example < 2:
            raise ValueError(
                "grpo compares the completions of an example: set completions_per_example to 2 or "
                "more"
            )
        return self

    @property
    def shows_rubrics(self) -> bool:
        """Whether anything that is shown or learned holds the examples' rubrics."""
        sft = self.method.type == "sft"
        views = self.learned_view if sft else f"{self.views.student} {self.views.teacher}"
        return "rubric" in views or (sft and self.views.writes == "rubric")

    @property
    def learned_view(self) -> ViewName:
        """What the trained model is shown beside the question when it is used."""
        return self.method.view if self.method.type == "sft" else self.views.student


class Config(Stage):
    """A run."""

    model: Model
    """The policy."""
    out: Path
    """The run folder; must not exist unless the run is resumed."""
    rubrics: Rubrics = Rubrics()
    """What becomes of the rubrics of ``data``: kept, or replaced by a placebo."""
    seed: int = Field(default=0, ge=0)
    """Seed of everything drawn."""

    @model_validator(mode="after")
    def _has_what_a_placebo_replaces(self) -> "Config":
        if self.rubrics.placebo.type != "none" and not self.shows_rubrics:
            raise ValueError(
                "no view shows the rubric, so a placebo replaces nothing: leave rubrics.placebo "
                "out, or take a view with rubric"
            )
        return self


class Writing(Section):
    """How a model writes rubrics for the questions of a data set."""

    view: Literal["none", "answer"] = "none"
    """Whether the writer sees the reference answer beside the question."""
    temperature: float | None = Field(default=None, gt=0)
    """Temperature; None is greedy decoding."""
    top_p: float = Field(default=1.0, gt=0, le=1)
    """Nucleus; 1 is all."""
    top_k: int | None = Field(default=None, ge=1)
    """Likeliest tokens kept; None is all."""
    max_tokens: int = Field(default=1024, ge=64)
    """Longest rubric, in tokens. One that is cut off there keeps its whole criteria, or is drawn
    again where none of them is positive; both are counted."""
    max_prompt_tokens: int = Field(default=4096, ge=1)
    """Longest prompt, in tokens; rows with a longer one get no rubric, are counted and listed."""
    grammar: RubricGrammar = RubricGrammar()
    """Bounds of a rubric, which the decoding cannot leave."""
    templates: Path | None = None
    """Folder of jinja files that replace the packaged words; None takes the packaged ones."""
    seed: int = Field(default=0, ge=0)
    """Seed of what is drawn."""


PlaceboArm = Literal["generic", "shuffled", "random", "reduced", "noisy"]
"""A placebo that a reasoner is trained with, by its type in `rcsd.config.Rubrics`."""

Arm = Literal["gold", "learned", "direct", PlaceboArm]
"""Whose rubrics a reasoner is trained with."""


SetName = Annotated[str, Field(pattern=r"^\w[\w-]*$")]
"""Name of a held-out set."""


class Evaluating(Section):
    """A model answers held-out sets, and each answer is graded by its own row."""

    model: Model
    """The model; its path may be a run's folder, whose record then says the rest."""
    data: dict[SetName, Data] = Field(min_length=1)
    """The sets, by name: letters, digits, ``_`` and ``-``, since files are named after them."""
    out: Path
    """Folder of the completions, their record and their summary; must not exist."""
    view: ViewName = "none"
    """What the model is shown beside the question."""
    templates: Path | None = None
    """Folder of jinja files that replace the packaged words; None takes the packaged ones."""
    rubrics: Rubrics = Rubrics()
    """What becomes of the rubrics that the model is shown: kept, or replaced by a placebo."""
    greedy: bool = True
    """Whether each question is answered once by the likeliest tokens: score and accuracy."""
    num_samples: int = Field(default=0, ge=0)
    """Completions of each question that are sampled too: avg@k, and pass@k for k = 1, 2, 4, ...
    up to this number. 0 samples none."""
    temperature: float = Field(default=1.0, gt=0)
    """Temperature of the samples."""
    top_p: float = Field(default=1.0, gt=0, le=1)
    """Nucleus of the samples; 1 is all."""
    top_k: int | None = Field(default=None, ge=1)
    """Likeliest tokens kept for the samples; None is all."""
    max_tokens: int = Field(default=1024, ge=1)
    """Longest completion, in tokens; a longer one is cut off there and counted."""
    max_prompt_tokens: int = Field(default=4096, ge=1)
    """Longest prompt, in tokens; an example with a longer one is an error, since a set that shrinks
    would compare unlike things."""
    batch_size: int = Field(default=32, ge=1)
    """Prompts generated together."""
    seed: int = Field(default=0, ge=0)
    """Seed of the samples and of the intervals."""

    @model_validator(mode="after")
    def _is_meaningful(self) -> "Evaluating":
        if not self.greedy and not self.num_samples:
            raise ValueError("nothing is answered: set greedy: true, or num_samples to 1 or more")
        if self.rubrics.placebo.type != "none" and "rubric" not in self.view:
            raise ValueError(
                f"the view '{self.view}' shows no rubric, so a placebo replaces nothing: leave "
                "rubrics.placebo out, or take a view with rubric"
            )
        return self


class PipelineEvaluation(Section):
    """Held-out sets that every arm answers at the end."""

    data: dict[SetName, Data] = Field(min_length=1)
    """The sets, by name: letters, digits, ``_`` and ``-``, since files are named after them."""
    max_tokens: int = Field(default=1024, ge=1)
    """Longest completion, in tokens."""
    num_ordered: int = Field(default=4, ge=2)
    """Completions of each question, sampled at temperature 1 from the model that distillation
    starts from; the order that written rubrics give them is compared with gold's."""


class Pipeline(Section):
    """Two stages in one: learn to write rubrics, write them, learn from them, evaluate."""

    model: Model
    """What both stages start from."""
    warm_start: Stage | None = None
    """Supervised steps whose outcome both stages start from, for a model that heeds no rubric yet;
    None starts from the model as it is."""
    writer: Stage | None = None
    """Stage 1: its data has gold rubrics, its views have ``writes: rubric``. Only the arm
    ``learned`` needs it."""
    writing: Writing = Writing()
    """How rubrics are written for the reasoner's questions."""
    reasoner: Stage
    """Stage 2, once for each arm."""
    arms: list[Arm] = Field(default=["learned", "direct", "shuffled"], min_length=1)
    """Whose rubrics the reasoner is trained with: the data's own (gold), the trained writer's
    (learned), the untrained writer's (direct), or a placebo made of gold ones where all rows have
    one, else of learned ones: generic, shuffled, random, reduced or noisy, with the defaults of
    their sections and the pipeline's seed."""
    evaluation: PipelineEvaluation
    """What the arms are compared on."""
    out: Path
    """Folder of everything; steps that are done already are found there and not done again."""
    jobs: int = Field(default=1, ge=1)
    """Arms trained at the same time, in processes of their own."""
    seed: int = Field(default=0, ge=0)
    """Seed of everything drawn."""

    @model_validator(mode="after")
    def _is_meaningful(self) -> "Pipeline":
        if self.writer is None and "learned" in self.arms:
            raise ValueError("the arm 'learned' needs a writer: add the section writer")
        if self.warm_start is not None and self.warm_start.views.writes != "answer":
            raise ValueError("a warm start answers: leave warm_start.views.writes out")
        if self.writer is not None and self.writer.views.writes != "rubric":
            raise ValueError("the writer writes rubrics: set writer.views.writes: rubric")
        if self.reasoner.views.writes != "answer":
            raise ValueError("the reasoner writes answers: leave reasoner.views.writes out")
        if self.writer is not None and self.writer.learned_view != self.writing.view:
            raise ValueError(
                f"the writer is trained with the view '{self.writer.learned_view}' and would "
                f"write with '{self.writing.view}'; set writing.view to the writer's"
            )
        if len(set(self.arms)) < len(self.arms):
            raise ValueError("an arm stands there twice")
        placebos = [arm for arm in self.arms if arm in get_args(PlaceboArm)]
        if placebos and not self.reasoner.shows_rubrics:
            raise ValueError(
                f"no view of the reasoner shows the rubric, so the arm '{placebos[0]}' replaces "
                "nothing; set reasoner.views.teacher"
            )
        return self
