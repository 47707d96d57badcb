"""A run, and what it does apart from its model and its folder."""

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from rcsd.config.base import Section
from rcsd.config.engines import AnyEngine, LocalEngine, refuse_overlap, refuse_scoring
from rcsd.config.methods import (
    AnyMethod,
    Criterion,
    Distill,
    Grpo,
    Phase,
    RubricReward,
    Schedule,
    Sft,
    Srpo,
    distillations,
    objectives,
    refuse_lag,
)
from rcsd.config.parts import (
    Budget,
    Data,
    EmaTeacher,
    Evaluation,
    FrozenTeacher,
    LiveTeacher,
    Model,
    Optim,
    Rubrics,
    Sampling,
    Views,
)
from rcsd.config.presets import PRESETS, filled, named
from rcsd.config.processes import Processes
from rcsd.types import ViewName

DEFAULT_MAX_TOKENS_PER_MICROBATCH = 16384
"""Of one pass, where nothing else is asked for."""


class Stage(Section):
    """What a run does, apart from the model that it starts from and the folder that it fills."""

    data: Data
    """What is trained on."""
    method: AnyMethod
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
    engine: AnyEngine = LocalEngine()
    """What samples completions."""
    sampling: Sampling = Sampling()
    """How they are sampled."""
    evaluation: Evaluation | None = None
    """Held-out evaluation; None goes without."""
    examples_per_step: int = Field(default=32, ge=1)
    """Examples of each optimizer step. Source: RCSD."""
    completions_per_example: int = Field(default=1, ge=1)
    """Completions sampled of each example. Source: RCSD. At least 2 for grpo and srpo; GRPO's paper
    takes 64."""
    budget: Budget | None = None
    """Ends the run before ``steps`` where enough was learned from; None goes by steps alone."""
    max_tokens_per_microbatch: Annotated[int, Field(ge=1)] | Literal["auto"] = (
        DEFAULT_MAX_TOKENS_PER_MICROBATCH
    )
    """Tokens of one forward and backward pass, teacher prompt and padding included. Changes memory
    and speed, never the gradient. A micro-batch that runs out of memory
    is learned anew in halves, which the metrics count (``memory/...``); the smaller number then
    stays. ``auto`` tries three small passes before the first step, and takes the most that fits;
    the run's record keeps the number. ``rcsd probe``, which takes no step, takes the default for
    ``auto``."""
    overlap: bool = False
    """Whether a step's completions are sampled while the step before is learned from: off-policy by
    one optimizer step, since they come from the weights before that step. They are not weighted by
    importance: the divergence at each position that they visit is exact, only which positions are
    visited lags. Not for sampled_token, suppress, grpo and srpo, whose gradient is an expectation
    over the student's own samples. Takes memory for a second copy of the trained weights and for
    both at once. ``time/sampling_seconds`` are then those waited for, and what is sampled during an
    evaluation or a checkpoint counts in no seconds."""
    precision: Literal["bf16"] | None = None
    """Mixed precision of accelerate: bf16 computes in bfloat16 and keeps the type of the weights;
    None computes in the type of the weights."""
    save_every_steps: int = Field(default=50, ge=1)
    """Optimizer steps between checkpoints."""
    keep_checkpoints: int = Field(default=2, ge=1)
    """How many of the newest checkpoints stay."""
    trackers: list[Literal["tensorboard", "wandb", "trackio"]] = Field(default_factory=list)
    """Trackers of accelerate that get the metrics too; metrics.jsonl is always written."""

    @model_validator(mode="before")
    @classmethod
    def _with_preset(cls, tree: Any) -> Any:
        presets = set(named(tree.get("method"))) if isinstance(tree, dict) else set()
        if len(presets) > 1:
            raise ValueError(f"one preset a run, not {' and '.join(sorted(presets))}")
        for name in presets:
            for section in ("views", "sampling"):
                if isinstance(given := tree.get(section, {}), dict):
                    tree = {**tree, section: filled(given, name, section)}
        return tree

    @model_validator(mode="after")
    def _is_its_preset(self) -> "Stage":
        presets = {section.preset for section in distillations(self.method)}
        for name in (preset for preset in presets if preset is not None):
            for section in ("views", "sampling"):
                for key, value in PRESETS[name].get(section, {}).items():
                    if getattr(getattr(self, section), key) != value:
                        raise ValueError(
                            f"the preset {name} has {section}.{key}: {value}; "
                            "leave that out, or the preset"
                        )
        return self

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
        if not self.has_teacher_view and self.method.type != "sft":
            self._refuse_teachers()
        return self

    @model_validator(mode="after")
    def _stops_by_what_is_measured(self) -> "Stage":
        stop = self.evaluation.early_stop if self.evaluation is not None else None
        rubrics = self.views.writes == "rubric"
        if stop is not None and (stop.metric == "eval/f1_mean") != rubrics:
            measured = "eval/f1_mean" if rubrics else "eval/score_mean or eval/accuracy_mean"
            raise ValueError(
                f"evaluation.early_stop.metric: {stop.metric} is not measured with views.writes: "
                f"{self.views.writes}; take {measured}"
            )
        return self

    @model_validator(mode="after")
    def _asks_for_what_there_is(self) -> "Stage":
        first_steps = sum(phase.steps or 0 for phase in self.phases)
        if first_steps >= self.steps:
            raise ValueError(
                f"the phases before the last take {first_steps} steps of {self.steps}, so the last "
                "one never begins; set steps higher"
            )
        for phase in self.phases:
            num = phase.completions_per_example or self.completions_per_example
            for method in objectives(phase.method):
                self._refuse_impossible(method, num)
        return self

    @model_validator(mode="after")
    def _has_a_scorer(self) -> "Stage":
        if isinstance(self.teacher, FrozenTeacher) and self.teacher.scored_by == "engine":
            refuse_scoring(self.engine, distillations(self.method))
        return self

    @model_validator(mode="after")
    def _overlaps_what_may_lag(self) -> "Stage":
        if self.overlap:
            refuse_lag(self.method)
            refuse_overlap(self.engine)
        return self

    def _refuse_teachers(self) -> None:
        if self.views.analysis or self.teacher.type != "frozen":
            raise ValueError(
                f"{self.method.type} has no teacher's view and no other teacher than the frozen "
                "weights; leave views.analysis and teacher out"
            )

    def _refuse_impossible(self, method: Section, num_completions: int) -> None:
        """What an objective cannot do with the rest of the run."""
        kind = getattr(method, "type", "")
        sampled = isinstance(method, Distill) and method.divergence.type == "sampled_token"
        if self.sampling.grammar is not None and (sampled or not isinstance(method, Distill)):
            raise ValueError(
                f"{'sampled_token' if sampled else kind} needs samples of the student itself, and "
                "a grammar masks its tokens; leave sampling.grammar out"
            )
        if isinstance(method, Grpo | Srpo):
            if self.views.writes == "rubric":
                raise ValueError(f"{kind} rewards answers: leave views.writes out")
            if num_completions < 2:
                raise ValueError(
                    f"{kind} compares the completions of an example: set completions_per_example "
                    "to 2 or more"
                )
        reward = method.reward if isinstance(method, Srpo) else method
        if isinstance(reward, Grpo) and reward.kl_weight > 0 and self.teacher.type != "frozen":
            raise ValueError(
                f"kl_weight holds the student near the frozen weights, and the teacher's are "
                f"{self.teacher.type}; leave kl_weight or teacher out"
            )
        if isinstance(method, Criterion):
            if self.views.writes == "rubric" or "rubric" not in self.views.teacher:
                raise ValueError("criterion judges answers by the rubric that the teacher is shown")
            if self.views.analysis:
                raise ValueError(
                    "criterion takes criteria out of the teacher's view, whose analysis would "
                    "still tell of them; leave views.analysis out"
                )

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
        """Whether completions are scored in the teacher's view."""
        return bool(distillations(self.method))

    @property
    def probed_data(self) -> Data:
        """What is asked before training: the first held-out set, or what is trained on."""
        return (
            self.data if self.evaluation is None else next(iter(self.evaluation.by_name.values()))
        )

    @property
    def uses_rubrics(self) -> bool:
        """Whether anything that is shown, learned or rewarded holds the examples' rubrics."""
        if isinstance(self.method, Sft):
            return "rubric" in self.method.view or self.views.writes == "rubric"
        shown = self.views.student + (self.views.teacher if self.has_teacher_view else "")
        rewards = [
            reward
            for method in objectives(self.method)
            if isinstance(method, Grpo | Srpo)
            for reward in (method.reward if isinstance(method, Srpo) else method).rewards
        ]
        return "rubric" in shown or any(isinstance(reward, RubricReward) for reward in rewards)

    @property
    def learned_view(self) -> ViewName:
        """What the trained model is shown beside the question when it is used."""
        return self.method.view if isinstance(self.method, Sft) else self.views.student


class Config(Stage):
    """A run."""

    model: Model
    """The policy."""
    out: Path
    """The run folder; must not exist unless the run is resumed."""
    rubrics: Rubrics = Rubrics()
    """What becomes of the rubrics of ``data``: kept, or replaced by a placebo."""
    processes: Processes = Processes()
    """What holds where the run is started as several processes."""
    seed: int = Field(default=0, ge=0)
    """Seed of everything drawn."""

    @model_validator(mode="after")
    def _shards_what_can_be_sharded(self) -> "Config":
        if self.processes.sharding == "fsdp" and self.overlap:
            raise ValueError(
                "overlap samples from a whole copy of the policy, and processes.sharding: fsdp has "
                "none; leave one of them out"
            )
        if self.processes.sharding == "fsdp" and self.max_tokens_per_microbatch == "auto":
            raise ValueError(
                "max_tokens_per_microbatch: auto tries what fits in each process by "
                "itself, and passes over sharded weights take all of them; set a number"
            )
        return self

    @model_validator(mode="after")
    def _has_what_a_placebo_replaces(self) -> "Config":
        if self.rubrics.placebo.type != "none" and not self.uses_rubrics:
            raise ValueError(
                "no view shows the rubric and no reward goes by it, so a placebo replaces nothing: "
                "leave rubrics.placebo out, or take a view with rubric"
            )
        return self
