"""What a run is made of: model, data, views, teacher, engine, optimizer."""

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, field_validator, model_validator

from rcsd.config.base import Section
from rcsd.config.data import Data
from rcsd.types import ViewName


class Lora(Section):
    """Low-rank adapters on the linear layers (LoRA); the base weights stay frozen."""

    type: Literal["lora"] = "lora"
    """Selects LoRA."""
    rank: int = Field(default=64, ge=1)
    """Rank of the adapters. Source: RCSD (arXiv 2606.19327)."""
    alpha: int = Field(default=128, ge=1)
    """Scale: the adapters' outcome is multiplied by alpha / rank. Source: RCSD."""
    dropout: float = Field(default=0.0, ge=0, lt=1)
    """Dropout in the adapters; 0 keeps student and teacher comparable token by token."""
    target_modules: str | list[str] = "all-linear"
    """Names of the layers, as PEFT takes them; ``all-linear`` is all linear layers but the head."""


class FullFineTuning(Section):
    """Every weight is trained; a frozen teacher is then a copy of the model."""

    type: Literal["full"] = "full"
    """Selects full fine-tuning."""


class Model(Section):
    """The policy: any causal language model with a chat template."""

    path: str
    """Local folder or hub id."""
    revision: str | None = None
    """Commit, tag or branch on the hub; None takes the default branch."""
    dtype: Literal["float32", "bfloat16"] = "float32"
    """Type of the weights."""
    chat_template: Path | None = None
    """A jinja file that replaces the tokenizer's chat template; None keeps it."""
    chat_template_kwargs: dict[str, Any] = Field(default_factory=dict)
    """Values that the chat template takes, such as ``enable_thinking: false`` for Qwen3."""
    attention: Literal["sdpa", "eager", "flash_attention_2"] | None = None
    """Attention implementation of transformers; None takes the model's own choice."""
    packing: bool = True
    """Whether completions are scored in one row, where those of an example share its prompt's keys
    and values and nothing is padded; for models with sdpa that give the same hidden states so,
    which is tried on load. False pads: slower, the same numbers."""
    linear: Literal["auto", "onednn", "torch"] = "auto"
    """Library of float32 matrix products on a CPU: ``auto`` takes oneDNN on AMD's processors, where
    it needs half the time, and PyTorch's choice on others. Both sum in float32, in another order.
    Holds for the whole process."""
    activation_checkpointing: bool = False
    """Whether backward passes compute each layer's activations anew instead of keeping them: the
    student's forward pass is done twice, and of each layer its input alone is held. The gradient
    stays as it is. Takes longer; worth it where a completion does not fit otherwise."""
    trust_remote_code: bool = False
    """Whether code that comes with the model may run."""
    training: Annotated[Lora | FullFineTuning, Field(discriminator="type")] = Lora()
    """What is trained."""

    @model_validator(mode="after")
    def _can_take_small_steps(self) -> "Model":
        if self.dtype == "bfloat16" and self.training.type == "full":
            raise ValueError(
                "small updates of bfloat16 weights round to nothing; for full fine-tuning take "
                "dtype: float32 and precision: bf16"
            )
        return self


class Views(Section):
    """What student and teacher see beside the question, and what they write."""

    writes: Literal["answer", "rubric"] = "answer"
    """What is written: an answer to the question (stage 2), or a rubric for it (stage 1: the
    teacher's view shows the gold rubric, the student's the question or the reference answer)."""
    student: ViewName = "none"
    """The student's view."""
    teacher: ViewName = "rubric"
    """The teacher's view. Rubric only is the default: PaperGym (arXiv 2608.31119) measured rubric
    14.2 > rubric+answer 13.8 > answer 13.1."""
    analysis: bool = False
    """Whether the frozen teacher first writes an analysis of its view, once for each example."""
    max_analysis_tokens: int = Field(default=512, ge=1)
    """Longest analysis, in tokens; a longer one is cut off there and counted."""
    templates: Path | None = None
    """Folder of jinja files that replace the packaged words; None takes the packaged ones."""


class NoPlacebo(Section):
    """Each example keeps its own rubric."""

    type: Literal["none"] = "none"
    """Selects no placebo."""


class GenericRubrics(Section):
    """The same criteria for every example, such as could be asked of any question.

    Goes: every word about the question, and with it its number of criteria and their points. Stays:
    that a rubric is shown. Criteria and points are those of ``generic_rubric.jinja``, a JSON list
    that ``views.templates`` may replace; its hash is in the run's record.
    """

    type: Literal["generic"] = "generic"
    """Selects the generic rubric."""


class ShuffledRubrics(Section):
    """Each example is given another example's whole rubric; each rubric is used once.

    Goes: whatever a rubric says about its question. Stays: all words, points and numbers of
    criteria, and that the criteria of a rubric belong together. The other example is of another
    kind (``tags.template``) where tags say so and the kinds' sizes allow it.
    """

    type: Literal["shuffled"] = "shuffled"
    """Selects shuffled rubrics."""
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
    """Selects random criteria."""
    seed: int = 0
    """Seed of what is drawn."""


class ReducedRubrics(Section):
    """Each example keeps a random part of its own criteria, at least one of them positive.

    Goes: the other criteria, with their points. Stays: words, points and order of those that are
    kept. No placebo that is empty: what it gains beside gold says how much a gain hangs on the
    rubric's being whole.
    """

    type: Literal["reduced"] = "reduced"
    """Selects reduced rubrics."""
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
    """Selects noisy rubrics."""
    replaced_share: float = Field(default=0.5, gt=0, lt=1)
    """Share of a rubric's criteria that is replaced; rounded to whole criteria, at least one."""
    seed: int = 0
    """Seed of which are replaced, and by what."""


Placebo = Annotated[
    NoPlacebo | GenericRubrics | ShuffledRubrics | RandomRubrics | ReducedRubrics | NoisyRubrics,
    Field(discriminator="type"),
]


class Rubrics(Section):
    """What becomes of the rubrics of examples before a model is shown them or learns from them.

    Held-out answers are always graded by the rubrics of their own rows.
    """

    placebo: Placebo = NoPlacebo()
    """What replaces them, to tell what a rubric says from its being there. A plain name is short
    for its type: ``rubrics.placebo=random``."""

    @field_validator("placebo", mode="before")
    @classmethod
    def _type_of_a_name(cls, value: object) -> object:
        return {"type": value} if isinstance(value, str) else value


class FrozenTeacher(Section):
    """The initial weights: adapters off, or a copy for full fine-tuning."""

    type: Literal["frozen"] = "frozen"
    """Selects the frozen teacher."""
    scored_by: Literal["trainer", "engine"] = "trainer"
    """Who scores completions in the teacher's view: the model that is trained, adapters off; or an
    engine of vLLM, by its base, which says the likeliest k tokens alone: for LoRA and ``support:
    {type: teacher_top_k, outside: renormalise}``. ``teacher/end_probability_mean`` is then not
    shown."""


class EmaTeacher(Section):
    """An exponential moving average of the student: w <- decay w + (1 - decay) student."""

    type: Literal["ema"] = "ema"
    """Selects the moving average."""
    decay: float = Field(default=0.99, gt=0, lt=1)
    """Share of the old average that each optimizer step keeps."""


class LiveTeacher(Section):
    """The student's present weights, without gradient."""

    type: Literal["live"] = "live"
    """Selects the present weights."""


class RubricGrammar(Section):
    """Holds completions to rubrics in JSON (`rcsd.data.rubric_grammar.rubric_regex`)."""

    type: Literal["rubric"] = "rubric"
    """Selects rubrics."""
    max_criteria: int = Field(default=12, ge=1, le=64)
    """Most criteria of a rubric; the gold ones of RaR-Science (development rows) have 7.6."""
    max_characters: int = Field(default=300, ge=8)
    """Longest text of a criterion, in characters."""


class Sampling(Section):
    """How completions are drawn in training."""

    temperature: float = Field(default=1.0, gt=0)
    """Temperature; the paper takes 1.2."""
    top_p: float = Field(default=1.0, gt=0, le=1)
    """Nucleus; 1 is all. The paper takes 0.95."""
    top_k: int | None = Field(default=None, ge=1)
    """Likeliest tokens kept; None is all. The paper takes 20."""
    max_tokens: int = Field(default=1024, ge=1)
    """Longest completion, in tokens; a longer one is cut off there and counted."""
    max_prompt_tokens: int = Field(default=4096, ge=1)
    """Longest prompt of any view, in tokens; examples with a longer one are dropped and counted."""
    grammar: RubricGrammar | None = None
    """A grammar that completions are held to; None leaves them free. Tokens are masked in sampling
    alone: the loss compares the unmasked distributions. So a visited position's gradient is what it
    always is, but positions are visited as the masked student would, and where the grammar leaves
    one token the student is still moved towards what the teacher gives to all."""


class Optim(Section):
    """AdamW, with warm-up."""

    lr: float = Field(gt=0)
    """Peak learning rate; the paper takes 5e-6 with LoRA on 8B parameters."""
    warmup_steps: int = Field(default=0, ge=0)
    """Optimizer steps over which the rate rises from 0."""
    schedule: Literal["constant", "linear", "cosine"] = "constant"
    """How the rate goes on after the warm-up; the latter two end at 0."""
    weight_decay: float = Field(default=0.0, ge=0)
    """Decoupled weight decay."""
    betas: tuple[Annotated[float, Field(ge=0, lt=1)], Annotated[float, Field(ge=0, lt=1)]] = (
        0.9,
        0.95,
    )
    """Decay of the gradient's first and second moment."""
    eps: float = Field(default=1e-8, gt=0)
    """Added to the root of the second moment, which the first is divided by. A larger one keeps
    gradients that are rounding alone from steps of full length."""
    max_grad_norm: float | None = Field(default=1.0, gt=0)
    """Norm to which a larger gradient is scaled down; None lets it be."""


class EarlyStop(Section):
    """Ends a run early, once a held-out metric has gained nothing for a while.

    The model that the run leaves is that of its best evaluation. What it scores there is chosen for
    being high: report other held-out questions than those that the run stops by.
    """

    metric: Literal["eval/score_mean", "eval/accuracy_mean", "eval/f1_mean"]
    """What is watched, in [0, 1], larger is better: score or accuracy of answers; F1 of rubrics
    (``views.writes: rubric``)."""
    patience: int = Field(ge=1)
    """Evaluations without a gain after which the run stops; 1 stops at the first."""
    min_gain: float = Field(default=0.0, ge=0, lt=1)
    """What a value must exceed the best before it by to count as a gain, in the metric's unit."""


class Budget(Section):
    """What a run may use up: it ends after the first step at which both bounds are reached.

    So that methods can be compared that sample different numbers of completions a step.
    """

    tokens: int = Field(ge=1)
    """Completion tokens learned from, over all steps."""
    seconds: float | None = Field(default=None, gt=0)
    """Seconds of sampling and learning, without evaluation; None: tokens alone. A run that ends by
    the clock is not the same a second time."""
    clock: Literal["wall", "process"] = "wall"
    """Which seconds: those that pass, or those that the process's threads compute, for runs that
    share a processor."""


SetName = Annotated[str, Field(pattern=r"^\w[\w-]*$")]
"""Name of a held-out set: letters, digits, ``_`` and ``-``, since files are named after it."""


class Evaluation(Section):
    """Held-out examples that are answered and graded as the run goes on."""

    data: Data | None = None
    """The held-out examples."""
    sets: dict[SetName, Data] = Field(default_factory=dict)
    """Several held-out sets by name, instead of ``data``; the first counts where one number is
    wanted."""
    every_steps: int | None = Field(default=None, ge=1)
    """Optimizer steps between evaluations; None evaluates at the end only, or by tokens."""
    every_tokens: int | None = Field(default=None, ge=1)
    """Completion tokens between evaluations, for runs that are compared by what they sampled; None
    goes by steps."""
    max_tokens: int = Field(default=1024, ge=1)
    """Longest completion, in tokens."""
    early_stop: EarlyStop | None = None
    """When a run ends before its last step, and keeps its best model; None takes every step and the
    last model."""

    @model_validator(mode="after")
    def _says_what_and_when(self) -> "Evaluation":
        if (self.data is None) == (not self.sets):
            raise ValueError("say what is held out: either data, or sets by their names")
        if self.every_steps is not None and self.every_tokens is not None:
            raise ValueError("either every_steps or every_tokens")
        if self.early_stop is not None and self.every_steps is self.every_tokens is None:
            raise ValueError(
                "early_stop watches evaluations before the end: set every_steps or every_tokens"
            )
        return self

    @property
    def by_name(self) -> dict[str, Data]:
        """The sets by name; ``data`` alone is called ``held_out``."""
        return dict(self.sets) if self.data is None else {"held_out": self.data}
