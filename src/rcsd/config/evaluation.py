"""Configuration of evaluations: held-out examples during a run, and ``rcsd eval``."""

from pathlib import Path
from typing import Literal

from pydantic import Field, model_validator

from rcsd.config.base import Section
from rcsd.config.data import Data, Rubrics, SetName
from rcsd.config.engines import AnyEngine
from rcsd.config.graders import CodeJudge, Judge
from rcsd.config.model import Model
from rcsd.types import DEFAULT_UNITS, UnitRule, ViewName


class EarlyStop(Section):
    """Ends a run once a held-out metric has gained nothing for a while, and keeps the best model.

    What that scores there is chosen for being high: report other held-out questions.
    """

    metric: Literal["eval/score_mean", "eval/accuracy_mean", "eval/f1_mean"]
    """Metric, in [0, 1]: score or accuracy of answers; f1 with ``views.writes: rubric``."""
    patience: int = Field(ge=1)
    """Number of evaluations without a gain after which the run stops."""
    min_gain: float = Field(default=0.0, ge=0, lt=1)
    """Least difference to the best value that is a gain, in the metric's unit."""


class Evaluation(Section):
    """Held-out examples that are answered and graded as the run goes on."""

    data: Data | None = None
    """The held-out examples."""
    sets: dict[SetName, Data] = Field(default_factory=dict)
    """Several held-out sets by name, instead of ``data``; the first stands for all."""
    every_steps: int | None = Field(default=None, ge=1)
    """Optimizer steps between evaluations; None: at the end only, or by tokens."""
    every_tokens: int | None = Field(default=None, ge=1)
    """Completion tokens between evaluations; None: by steps."""
    max_tokens: int = Field(default=1024, ge=1)
    """Longest completion, in tokens."""
    judge: Judge = CodeJudge()
    """Judge of the criteria: their own checks in code, or a model, whose ``max_calls`` bounds what
    all evaluations of the run cost. Where it fails, answers are unscored; the run ends after three
    evaluations in a row without a verdict."""
    early_stop: EarlyStop | None = None
    """When a run ends before its last step; None: never."""

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


class EvalConfig(Section):
    """Answers of a model to held-out sets, each graded by its own example."""

    model: Model
    """The model; its path may be a run's folder, whose record then supplies the rest."""
    data: dict[SetName, Data] = Field(min_length=1)
    """The sets, by name."""
    out: Path
    """Folder of the completions, their record and their summary; must not exist."""
    view: ViewName = "none"
    """Parts of the example that the prompt shows beside the question."""
    templates: Path | None = None
    """Folder of jinja files that replace the packaged prompts; None: the packaged ones."""
    rubrics: Rubrics = Rubrics()
    """Placebo that replaces the rubrics in the prompts; answers are graded by the original ones."""
    units: UnitRule = DEFAULT_UNITS
    """Rule by which a number and its unit are one verdict."""
    greedy: bool = True
    """True if each question is answered once with the most likely tokens: score and accuracy."""
    num_samples: int = Field(default=0, ge=0)
    """Number of samples of each question: avg@k, and pass@k for k = 1, 2, 4, ... up to it."""
    temperature: float = Field(default=1.0, gt=0)
    """Temperature of the samples."""
    top_p: float = Field(default=1.0, gt=0, le=1)
    """Nucleus of the samples; 1 is all."""
    top_k: int | None = Field(default=None, ge=1)
    """Number of most likely tokens that samples are drawn from; None is all."""
    max_tokens: int = Field(default=1024, ge=1)
    """Longest completion, in tokens; a longer one is truncated and counted."""
    max_prompt_tokens: int = Field(default=4096, ge=1)
    """Longest prompt, in tokens; an example with a longer one is an error."""
    batch_size: int = Field(default=32, ge=1)
    """Prompts generated together, unless ``engine`` sets it."""
    engine: AnyEngine | None = None
    """Engine that samples completions; None: local, or hf for models that it cannot run."""
    judge: Judge = CodeJudge()
    """Judge of the criteria: their own checks in code, or a model."""
    seed: int = Field(default=0, ge=0)
    """Random seed of the samples and of the intervals."""

    @model_validator(mode="after")
    def _is_meaningful(self) -> "EvalConfig":
        if not self.greedy and not self.num_samples:
            raise ValueError("nothing is answered: set greedy: true, or num_samples to 1 or more")
        if self.rubrics.placebo.type != "none" and "rubric" not in self.view:
            raise ValueError(
                f"the view '{self.view}' shows no rubric, so a placebo replaces nothing: leave "
                "rubrics.placebo out, or take a view with rubric"
            )
        return self

    @property
    def num_answers(self) -> tuple[int, int]:
        """Number of greedy answers and of samples of each question."""
        return int(self.greedy), self.num_samples
