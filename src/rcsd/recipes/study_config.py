"""Sections of a study: many methods and placebos, each with several seeds, on one budget."""

from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import Field, model_validator

from rcsd.config.base import Section, parse
from rcsd.config.data import Arm
from rcsd.config.evaluation import Evaluation
from rcsd.config.run import Budget, Stage
from rcsd.errors import ConfigError
from rcsd.recipes.pipeline_config import PipelineEvaluation, Recipe

ArmName = Annotated[str, Field(pattern=r"^\w[\w +-]*$")]
"""Name of an arm: letters, digits, ``_``, ``-``, ``+`` and spaces."""

BASE = "base"
"""Name of the model that all arms start from; no arm may have it."""

MAX_STEPS = 1_000_000
"""Steps of a run that its budget ends."""


class StudyArm(Section):
    """One method of a study, trained once with each kind of rubrics."""

    run: dict[str, Any] = Field(default_factory=dict)
    """Keys of a run (`rcsd.config.Stage`) that differ from the keys that all arms share. Sections
    without a ``type`` are merged key by key; everything else is replaced."""
    rubrics: list[Arm] = Field(default=["gold"], min_length=1)
    """Rubrics that it learns from: the data's (gold), the trained writer's (learned), the untrained
    writer's (direct), or placebos, of gold ones where all rows have one."""


class StudyEvaluation(PipelineEvaluation):
    """Held-out sets that every arm answers during training and at the end."""

    num_points: int = Field(default=4, ge=1)
    """Evaluations of an arm, evenly spaced over the budget's tokens, the end included. Arms are
    compared at the end; each run's own report has all."""


class Study(Recipe):
    """A grid of methods, rubrics and seeds that share an initial model and a budget."""

    run: dict[str, Any]
    """Keys of a run that all arms share, without budget and evaluation, which stand below."""
    arms: dict[ArmName, StudyArm] = Field(min_length=1)
    """The methods by name. All learn from the same data."""
    against: str
    """Arm that every other arm is compared with, by name and kind of rubrics: ``rcsd`` or ``rcsd,
    shuffled``."""
    evaluation: StudyEvaluation
    """Held-out sets that the arms are compared on."""
    budget: Budget
    """Budget of every arm, in completion tokens learned from."""
    seeds: list[Annotated[int, Field(ge=0)]] = Field(default=[0, 1, 2], min_length=1)
    """Random seeds; each arm is trained once with each."""

    @model_validator(mode="after")
    def _check(self) -> "Study":
        if BASE in self.arms:
            raise ValueError(f"arms.{BASE}: reserved for the model that all start from; rename it")
        first = self.stage(next(iter(self.arms)))
        for name, arm in self.arms.items():
            stage = self.stage(name)
            _check_comparable(name, stage, first)
            if arm.rubrics != ["gold"] and not stage.uses_rubrics:
                raise ValueError(f"arms.{name}.rubrics: nothing in this arm uses rubrics")
            if "learned" in arm.rubrics and self.writer is None:
                raise ValueError(f"arms.{name}: learned rubrics need the section writer")
        if self.against not in self.labels:
            raise ValueError(f"against: no arm {self.against!r}; there are {list(self.labels)}")
        if self.budget.seconds is not None:
            raise ValueError("budget.seconds: arms are compared at equal tokens; leave it out")
        if len(set(self.seeds)) < len(self.seeds):
            raise ValueError("seeds: a seed is listed twice")
        return self

    def stage(self, arm: str) -> Stage:
        """Configuration of an arm's runs; ConfigError naming the key that is wrong."""
        tree = merged(self.run, self.arms[arm].run)
        if shared := {"budget", "evaluation"} & set(tree):
            raise ConfigError(f"arms.{arm}.run: all arms have the study's {', '.join(shared)}")
        evaluation = Evaluation(
            sets=self.evaluation.data,
            every_tokens=-(-self.budget.tokens // self.evaluation.num_points),
            max_tokens=self.evaluation.max_tokens,
        )
        tree = {"steps": MAX_STEPS, **tree, "budget": self.budget, "evaluation": evaluation}
        return parse(Stage, tree, f"arms.{arm}.run")

    @property
    def labels(self) -> dict[str, tuple[str, Arm]]:
        """Arm and rubrics of each label, such as ``rcsd`` and ``rcsd, shuffled``."""
        return {
            name if rubrics == "gold" else f"{name}, {rubrics}": (name, rubrics)
            for name, arm in self.arms.items()
            for rubrics in arm.rubrics
        }


def _check_comparable(name: str, stage: Stage, first: Stage) -> None:
    """Refuse an arm whose scores cannot be compared with the first arm's, naming the key."""
    if stage.data != first.data:
        wrong = "run.data: the arms learn from the same questions; set run.data"
    elif stage.views.writes != "answer":
        wrong = "run.views.writes: an arm writes answers; leave it out"
    elif stage.learned_view != first.learned_view:
        wrong = (
            f"run: answers in the view '{stage.learned_view}' and the first arm in "
            f"'{first.learned_view}'; scores compare only in one view"
        )
    elif stage.views.student_kwargs != first.views.student_kwargs:
        wrong = "run.views.student_kwargs: scores compare only in one chat format"
    elif stage.optim.schedule != "constant":
        wrong = (
            f"run.optim.schedule: {stage.optim.schedule} falls with the steps, and here a budget "
            "ends the run; take constant"
        )
    else:
        return
    raise ValueError(f"arms.{name}.{wrong}")


def merged(shared: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """A tree with changes; sections without a ``type`` are merged key by key."""
    tree = dict(shared)
    for key, value in changes.items():
        old = tree.get(key)
        if isinstance(old, Mapping) and isinstance(value, Mapping) and "type" not in {*old, *value}:
            tree[key] = merged(old, value)
        else:
            tree[key] = value
    return tree
