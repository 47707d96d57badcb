"""An evaluation: a model, what it is shown, and what it answers."""

from pathlib import Path

from pydantic import Field, model_validator

from rcsd.config.base import Section
from rcsd.config.data import AskedData, TaskData
from rcsd.config.engines import AnyEngine
from rcsd.config.judging import CodeJudge, Judge
from rcsd.config.parts import Model, Rubrics, SetName
from rcsd.types import ViewName


class Evaluating(Section):
    """A model answers held-out sets, and each answer is graded by its own row."""

    model: Model
    """The model; its path may be a run's folder, whose record then says the rest."""
    data: dict[SetName, AskedData] = Field(min_length=1)
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
    """Prompts generated together, where ``engine`` does not say."""
    engine: AnyEngine | None = None
    """What samples completions; None: the local engine, or transformers' generate for models that
    it cannot run."""
    judge: Judge = CodeJudge()
    """Who says which criteria an answer meets: their own checks, or a model."""
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
        if self.view != "none" and any(map(self.compares, self.data)):
            raise ValueError("ask: loglikelihood reads a question alone; take view: none")
        return self

    def num_answers(self, name: str) -> tuple[int, int]:
        """Of each question of a set the greedy answers and the samples."""
        return (1, 0) if self.compares(name) else (int(self.greedy), self.num_samples)

    def compares(self, name: str) -> bool:
        """Whether a set's options are compared by their log-likelihoods, and nothing is sampled."""
        section = self.data[name]
        return isinstance(section, TaskData) and section.ask == "loglikelihood"
