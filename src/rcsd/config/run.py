"""Configuration of a run."""

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, field_validator, model_validator

from rcsd.config import rules
from rcsd.config.base import Section
from rcsd.config.data import Data, Rubrics
from rcsd.config.engines import AnyEngine, LocalEngine
from rcsd.config.evaluation import Evaluation
from rcsd.config.methods import (
    AnyMethod,
    Phase,
    RubricReward,
    Schedule,
    Sft,
    distillations,
    reinforcements,
)
from rcsd.config.model import Model
from rcsd.config.presets import filled, named
from rcsd.types import ViewName


class Views(Section):
    """Parts of the example in the prompts of student and teacher, and the text they write."""

    writes: Literal["answer", "rubric"] = "answer"
    """Completions are answers (stage 2), or rubrics (stage 1: the teacher's view shows the gold
    rubric, the student's the question or the reference answer)."""
    student: ViewName = "none"
    """The student's view."""
    teacher: ViewName = "rubric"
    """The teacher's view. Source for the default: PaperGym (arXiv 2608.31119), rubric 14.2 >
    rubric+answer 13.8 > answer 13.1."""
    analysis: bool = False
    """True if the frozen teacher first writes an analysis of its view, once per example."""
    max_analysis_tokens: int = Field(default=512, ge=1)
    """Longest analysis, in tokens; longer ones are cut off and counted."""
    templates: Path | None = None
    """Folder of jinja files that replace the packaged prompts; None: the packaged ones."""
    student_kwargs: dict[str, Any] = Field(default_factory=dict)
    """Values for the chat template in the student's prompts, targets and evaluations, such as
    ``enable_thinking: false``; they go before ``model.chat_template_kwargs``."""
    teacher_kwargs: dict[str, Any] = Field(default_factory=dict)
    """The same for the teacher's prompts; completions stay the student's."""

    def untaught(self, view: ViewName) -> "Views":
        """Views whose teacher sees this view in the student's chat format."""
        changes = {"teacher": view, "teacher_kwargs": self.student_kwargs, "analysis": False}
        return self.model_copy(update=changes)


class FrozenTeacher(Section):
    """The initial weights: adapters off, or a copy for full fine-tuning."""

    type: Literal["frozen"] = "frozen"


class EmaTeacher(Section):
    """An exponential moving average of the student: w <- decay w + (1 - decay) student."""

    type: Literal["ema"] = "ema"
    decay: float = Field(default=0.99, gt=0, lt=1)
    """Share of the average that each optimizer step keeps."""


class LiveTeacher(Section):
    """The student's present weights, without gradient."""

    type: Literal["live"] = "live"


class RubricGrammar(Section):
    """Holds completions to rubrics in JSON (`rcsd.data.rubric.rubric_regex`)."""

    type: Literal["rubric"] = "rubric"
    max_criteria: int = Field(default=12, ge=1, le=64)
    """Most criteria of a rubric; RaR-Science's gold ones have 7.6."""
    max_characters: int = Field(default=300, ge=8)
    """Longest text of a criterion, in characters."""


class Sampling(Section):
    """Sampling of completions in training."""

    temperature: float = Field(default=1.0, gt=0)
    """Temperature; the paper takes 1.2."""
    top_p: float = Field(default=1.0, gt=0, le=1)
    """Nucleus; 1 is all. The paper takes 0.95."""
    top_k: int | None = Field(default=None, ge=1)
    """Likeliest tokens kept; None is all. The paper takes 20."""
    max_tokens: int = Field(default=1024, ge=1)
    """Longest completion, in tokens; longer ones are cut off and counted."""
    max_prompt_tokens: int = Field(default=4096, ge=1)
    """Longest prompt of any view, in tokens; examples with longer ones are counted and dropped."""
    grammar: RubricGrammar | None = None
    """Grammar that samples are held to; None: none. The loss compares the unmasked distributions,
    at the positions that the masked student visits."""


class Optim(Section):
    """AdamW, with warm-up."""

    lr: float = Field(gt=0)
    """Peak learning rate; the paper takes 5e-6 with LoRA on 8B parameters."""
    warmup_steps: int = Field(default=0, ge=0)
    """Optimizer steps over which the rate rises from 0."""
    schedule: Literal["constant", "linear", "cosine"] = "constant"
    """Learning rate after the warm-up; the latter two end at 0."""
    weight_decay: float = Field(default=0.0, ge=0)
    """Decoupled weight decay."""
    betas: tuple[Annotated[float, Field(ge=0, lt=1)], Annotated[float, Field(ge=0, lt=1)]] = (
        0.9,
        0.95,
    )
    """Decay of the gradient's first and second moment."""
    eps: float = Field(default=1e-8, gt=0)
    """Added to the root of the second moment; more shortens steps that are mere rounding."""
    max_grad_norm: float | None = Field(default=1.0, gt=0)
    """Norm to which a larger gradient is scaled down; None: no limit."""


class Budget(Section):
    """Bounds; the run ends after the first step at which both are reached."""

    tokens: int = Field(ge=1)
    """Completion tokens learned from, over all steps."""
    seconds: float | None = Field(default=None, gt=0)
    """Seconds of sampling and learning, without evaluation; None: tokens alone."""
    clock: Literal["wall", "process"] = "wall"
    """Seconds that pass, or that the process's threads compute, for runs that share a processor."""


class Processes(Section):
    """Settings of a run in several processes, one per device, each with its share of a step.

    The launcher sets their number: ``rcsd train --processes N``, ``torchrun``.
    """

    sharding: Literal["none", "fsdp"] = "none"
    """Each process holds the model, or by FSDP2 its share of every layer's weights, gradients and
    optimizer state. Weights are gathered layer by layer; to sample, all at once."""
    timeout_seconds: int = Field(default=1800, ge=1)
    """Seconds that a process waits for the others before the run ends with an error: more than the
    longest completions of a step or an evaluation take."""


class Stage(Section):
    """A run, apart from the model that it starts from and its folder."""

    data: Data
    """Examples to train on."""
    method: AnyMethod
    """Training method."""
    optim: Optim
    """The optimizer."""
    steps: int = Field(ge=1)
    """Optimizer steps; with ``updates_per_batch``, batches. RCSD takes 100."""
    views: Views = Views()
    """What student and teacher see."""
    teacher: Annotated[FrozenTeacher | EmaTeacher | LiveTeacher, Field(discriminator="type")] = (
        FrozenTeacher()
    )
    """The teacher's weights."""
    engine: AnyEngine = LocalEngine()
    """Engine that samples completions."""
    sampling: Sampling = Sampling()
    """Decoding of completions."""
    evaluation: Evaluation | None = None
    """Held-out evaluation; None: none."""
    examples_per_step: int = Field(default=32, ge=1)
    """Examples of each optimizer step. Source: RCSD."""
    completions_per_example: int = Field(default=1, ge=1)
    """Completions sampled of each example, at least 2 for grpo and srpo. Source: RCSD; GRPO's paper
    takes 64."""
    budget: Budget | None = None
    """Ends the run before ``steps``; None: steps alone."""
    max_tokens_per_microbatch: int = Field(default=16384, ge=1)
    """Tokens of one forward and backward pass, teacher prompt and padding included. Changes memory
    and speed, never the gradient. A micro-batch that runs out of memory is repeated in halves,
    which the metrics count (``memory/...``)."""
    overlap: bool = False
    """True if a step's completions are sampled while the step before is learned from: off-policy by
    one optimizer step, without importance weights, since the divergence at each visited position is
    exact. Not for sampled_token, suppress, grpo and srpo, whose gradient is an expectation over the
    student's own samples. Takes memory for a second copy of the trained weights.
    ``time/sampling_seconds`` are then those waited for."""
    precision: Literal["bf16"] | None = None
    """Mixed precision: bf16 computes in bfloat16 and keeps the type of the weights; None computes
    in that type."""
    save_every_steps: int = Field(default=50, ge=1)
    """Optimizer steps between checkpoints."""
    keep_checkpoints: int = Field(default=2, ge=1)
    """Number of newest checkpoints that stay."""
    trackers: list[Literal["tensorboard", "wandb", "trackio"]] = Field(default_factory=list)
    """Trackers of accelerate that get the metrics beside metrics.jsonl."""

    @field_validator("max_tokens_per_microbatch", mode="before")
    @classmethod
    def _is_no_longer_automatic(cls, value: object) -> object:
        if value == "auto":
            raise ValueError("set a number; 'rcsd plan' estimates how much memory it takes")
        return value

    @model_validator(mode="before")
    @classmethod
    def _with_preset(cls, tree: Any) -> Any:
        presets = set(named(tree.get("method"))) if isinstance(tree, dict) else set()
        if len(presets) > 1:
            raise ValueError(f"one preset a run, not {' and '.join(sorted(presets))}")
        for name in presets:
            for section in ("views", "sampling"):
                if isinstance(values := tree.get(section, {}), dict):
                    tree = {**tree, section: filled(values, name, section)}
        return tree

    @model_validator(mode="after")
    def _obeys_the_rules(self) -> "Stage":
        rules.check_stage(self)
        return self

    @property
    def phases(self) -> list[Phase]:
        """The schedule's phases; one for any other method that learns from its own samples."""
        if isinstance(self.method, Sft):
            return []
        if isinstance(self.method, Schedule):
            return self.method.phases
        return [Phase(method=self.method)]

    @property
    def has_teacher_view(self) -> bool:
        """True if completions are scored in the teacher's view."""
        return bool(distillations(self.method))

    @property
    def probed_data(self) -> Data:
        """Data that `rcsd probe` asks: the first held-out set, or the training data."""
        return (
            self.data if self.evaluation is None else next(iter(self.evaluation.by_name.values()))
        )

    @property
    def uses_rubrics(self) -> bool:
        """True if a view, a target or a reward contains the examples' rubrics."""
        if isinstance(self.method, Sft):
            return "rubric" in self.method.view or self.views.writes == "rubric"
        views = self.views.student + (self.views.teacher if self.has_teacher_view else "")
        rewards = [reward for grpo in reinforcements(self.method) for reward in grpo.rewards]
        return "rubric" in views or any(isinstance(reward, RubricReward) for reward in rewards)

    @property
    def learned_view(self) -> ViewName:
        """View of the trained model when it is used."""
        return self.method.view if isinstance(self.method, Sft) else self.views.student


class Config(Stage):
    """A run."""

    model: Model
    """The policy."""
    out: Path
    """The run folder; must not exist unless the run is resumed."""
    rubrics: Rubrics = Rubrics()
    """Rubrics of ``data``: their own, or a placebo."""
    processes: Processes = Processes()
    """Settings of several processes."""
    seed: int = Field(default=0, ge=0)
    """Seed of everything drawn."""

    @property
    def chat_template_kwargs(self) -> dict[str, Any]:
        """Values for the chat template when the trained model is used: the student's."""
        return {**self.model.chat_template_kwargs, **self.views.student_kwargs}

    @model_validator(mode="after")
    def _obeys_the_rules_of_runs(self) -> "Config":
        rules.check_run(self)
        return self
