"""Methods, and the alternatives inside them."""

from collections.abc import Sequence
from typing import Annotated, Any, Literal

from pydantic import Field, field_validator, model_validator

from rcsd.config.base import Section
from rcsd.config.graders import CodeJudge, Judge
from rcsd.config.presets import PRESETS, PresetName, filled
from rcsd.types import ViewName


class ForwardKL(Section):
    """KL(p||q) = sum_v p_v (log p_v - log q_v), p the teacher; the paper's choice."""

    type: Literal["forward_kl"] = "forward_kl"
    """Selects the forward KL divergence."""


class ReverseKL(Section):
    """KL(q||p) = sum_v q_v (log q_v - log p_v), p the teacher."""

    type: Literal["reverse_kl"] = "reverse_kl"
    """Selects the reverse KL divergence."""


class JSD(Section):
    """beta KL(p||m) + (1 - beta) KL(q||m), m = beta p + (1 - beta) q."""

    type: Literal["jsd"] = "jsd"
    """Selects the Jensen-Shannon divergence."""
    beta: float = Field(default=0.5, gt=0, lt=1)
    """Weight of the teacher in the mixture."""


class SampledToken(Section):
    """Policy gradient on the sampled tokens with advantage log p(y_t) - log q(y_t).

    Takes neither support nor clip: only the sampled token's probabilities count.
    """

    type: Literal["sampled_token"] = "sampled_token"
    """Selects the sampled-token estimate of the reverse KL divergence."""


class FullSupport(Section):
    """The whole vocabulary."""

    type: Literal["full"] = "full"
    """Selects the whole vocabulary."""


class TopK(Section):
    """The k likeliest tokens of teacher or student."""

    type: Literal["teacher_top_k", "student_top_k"] = "teacher_top_k"
    """Whose likeliest tokens."""
    k: int = Field(default=20, ge=1)
    """How many tokens. Source: RCSD."""
    outside: Literal["renormalise", "tail"] = "renormalise"
    """The mass outside: forgotten (the paper), or kept as one more bucket (a lower bound of the
    full divergence)."""

    @model_validator(mode="after")
    def _is_not_constant(self) -> "TopK":
        if self.k == 1 and self.outside == "renormalise":
            raise ValueError(
                "one renormalised token has probability 1 for teacher and student, so the loss is "
                "always zero; take k of 2 or more, or outside: tail"
            )
        return self


class NoClip(Section):
    """No clipping."""

    type: Literal["none"] = "none"
    """Selects no clipping."""


class TokenClip(Section):
    """A position with divergence d above ``max_nats`` counts with weight max_nats / d."""

    type: Literal["token"] = "token"
    """Selects clipping by position: the gradient keeps its direction."""
    max_nats: float = Field(default=2.0, gt=0)
    """Largest divergence of a position, in nats."""


class EntryClip(Section):
    """Every vocabulary entry's term is clamped before the sum. Reverses gradients: see docs."""

    type: Literal["entry"] = "entry"
    """Selects clipping by vocabulary entry, for faithful reproduction only."""
    max_nats: float = Field(default=0.05, gt=0)
    """Largest term of an entry, in nats. Source: RCSD's released code."""


class Distill(Section):
    """Move the student to the teacher, token by token, on the student's own completions."""

    type: Literal["distill"] = "distill"
    """Selects distillation."""
    preset: PresetName | None = None
    """Whose choices fill this section, ``views`` and ``sampling`` (`rcsd.config.presets`); None:
    the defaults, which are those of ``rcsd``."""
    divergence: Annotated[
        ForwardKL | ReverseKL | JSD | SampledToken, Field(discriminator="type")
    ] = ForwardKL()
    """The divergence."""
    support: Annotated[FullSupport | TopK, Field(discriminator="type")] = TopK()
    """The vocabulary entries that it compares."""
    clip: Annotated[NoClip | TokenClip | EntryClip, Field(discriminator="type")] = NoClip()
    """How large disagreements are limited."""
    temperature: float = Field(default=1.0, gt=0)
    """Temperature of both distributions in the loss; that of sampling is a knob of its own."""

    @model_validator(mode="before")
    @classmethod
    def _with_preset(cls, tree: Any) -> Any:
        return filled(tree, tree.get("preset"), "method") if isinstance(tree, dict) else tree

    @model_validator(mode="after")
    def _is_its_preset(self) -> "Distill":
        if self.preset is not None:
            expected = Distill.model_validate(dict(PRESETS[self.preset]["method"]))
            for key in PRESETS[self.preset]["method"]:
                if getattr(self, key) != getattr(expected, key):
                    raise ValueError(
                        f"the preset {self.preset} has another {key}: leave that out, or the preset"
                    )
        return self

    @model_validator(mode="after")
    def _is_meaningful(self) -> "Distill":
        # By value, not by presence: a recorded configuration holds every key.
        ignored = [key for key in ("clip", "support") if getattr(self, key) != _default(key)]
        if self.divergence.type == "sampled_token" and ignored:
            raise ValueError(f"sampled_token takes no {' and no '.join(ignored)}; leave it out")
        return self


def _default(key: str) -> Any:
    return Distill.model_fields[key].default


class AnswerReward(Section):
    """1 for a final answer that is the reference's, 0 for one that is not; needs no rubric.

    Unscored where only a real grader could tell: another wording of a reference that is no number.
    """

    type: Literal["answer"] = "answer"
    """Selects the final answer."""
    weight: float = Field(default=1.0, gt=0)
    """Factor of this reward in the sum of all."""


class RubricReward(Section):
    """Score in [0, 1] by the example's own rubric; unscored where a verdict is missing."""

    type: Literal["rubric"] = "rubric"
    """Selects the rubric."""
    judge: Judge = CodeJudge()
    """Who decides whether a criterion is met: its check in code, or a model."""
    weight: float = Field(default=1.0, gt=0)
    """Factor of this reward in the sum of all."""


Reward = Annotated[AnswerReward | RubricReward, Field(discriminator="type")]


class Grpo(Section):
    """Reinforcement from rewards; the mean of an example's completions is the baseline (GRPO)."""

    type: Literal["grpo"] = "grpo"
    """Selects GRPO."""
    rewards: list[Reward] = Field(min_length=1)
    """What completions earn; several are added, each times its weight."""
    normalise_by_deviation: bool = True
    """True if advantages are divided by the deviation of their group (GRPO, arXiv 2402.03300) or
    not (Dr. GRPO, arXiv 2503.20783)."""
    reduction: Literal["token", "sequence", "constant"] = "token"
    """What the loss is a mean of: all tokens of the step (DAPO, arXiv 2503.14476); the means of
    completions (GRPO); or the sum over tokens / (completions times sampling.max_tokens) (Dr. GRPO),
    which is smaller the shorter the completions are."""
    updates_per_batch: int = Field(default=1, ge=1)
    """How many times the optimizer learns from the same completions, all of them each time. With 1
    the clip below is without effect. Source: TRL."""
    clip_low: float = Field(default=0.2, gt=0, lt=1)
    """How far a token's probability may fall, as a ratio below 1 to that at sampling, before it has
    no gradient. Source: TRL."""
    clip_high: float = Field(default=0.2, gt=0)
    """How far it may rise, as a ratio above 1. Source: TRL; DAPO takes 0.28."""
    kl_weight: float = Field(default=0.0, ge=0)
    """Factor of the estimated KL(q||p) in nats from the student to the frozen weights, which holds
    the student near them. GRPO takes 0.04; 0 is Dr. GRPO's, DAPO's and TRL's."""
    kl_by_ratio: bool = True
    """True if the estimate is multiplied by the ratio to the probability at sampling, so that its
    gradient is the KL's (DeepSeek-V3.2, arXiv 2512.02556; TRL's default); false is GRPO's."""

    @model_validator(mode="after")
    def _adds_different_rewards(self) -> "Grpo":
        kinds = [reward.type for reward in self.rewards]
        if len(set(kinds)) < len(kinds):
            raise ValueError("a reward stands there twice; give it a larger weight")
        return self


class Suppress(Section):
    """Teacher-free control: the least likely sampled tokens are made less likely still."""

    type: Literal["suppress"] = "suppress"
    """Selects the control."""
    share: float = Field(default=0.2, gt=0, le=1)
    """Share of the step's tokens that are suppressed: the least likely. Source: OPSA (arXiv
    2608.31046)."""
    penalty: float = Field(default=1.0, gt=0)
    """Size of their negative advantage; all have the same."""


class Srpo(Section):
    """Reward where a completion is right, distillation where it is wrong (SRPO)."""

    type: Literal["srpo"] = "srpo"
    """Selects the routing."""
    reward: Grpo
    """How the right ones are reinforced, and what right is measured by."""
    distill: Distill = Distill()
    """How the wrong ones are distilled."""
    right_share: float = Field(default=1.0, gt=0, le=1)
    """From which share of the highest possible reward on a completion is right."""
    entropy_weight: float = Field(default=1.0, ge=0)
    """beta of exp(-beta H), the weight of a position whose teacher has the entropy H in nats; 0
    weighs all alike. Ours: the paper (arXiv 2604.02288) gives the idea, and its value is unknown
    to us."""

    @model_validator(mode="after")
    def _learns_from_fresh_samples(self) -> "Srpo":
        if self.reward.updates_per_batch > 1:
            _refuse_stale(self.distill)
        return self


class Criterion(Section):
    """Distillation at those tokens alone that the failed criteria are about."""

    type: Literal["criterion"] = "criterion"
    """Selects distillation by criterion."""
    distill: Distill = Distill()
    """The divergence at those tokens."""
    min_nats: float = Field(default=0.1, ge=0)
    """How much the teacher's log-probability of a sampled token must change, in nats, when the
    failed criteria are taken out of the rubric. Ours."""


class Term(Section):
    """One of several objectives that are added."""

    method: Annotated[Distill | Grpo | Criterion | Suppress, Field(discriminator="type")]
    """The objective."""
    weight: float = Field(default=1.0, gt=0)
    """Factor of its loss."""


class Sum(Section):
    """Several objectives on the same completions, such as distillation and reward."""

    type: Literal["sum"] = "sum"
    """Selects the sum."""
    terms: list[Term] = Field(min_length=2)
    """What is added."""

    @field_validator("terms")
    @classmethod
    def _are_different(cls, terms: list[Term]) -> list[Term]:
        kinds = [term.method.type for term in terms]
        if len(set(kinds)) < len(kinds):
            raise ValueError("an objective stands there twice; give it a larger weight")
        methods = [term.method for term in terms]
        if any(isinstance(method, Grpo) and method.updates_per_batch > 1 for method in methods):
            for method in methods:
                _refuse_stale(method.distill if isinstance(method, Criterion) else method)
        return terms


def _refuse_stale(method: Section) -> None:
    """Refuse what learns from the sampled tokens alone, and knows no ratio to their probability."""
    sampled = isinstance(method, Distill) and method.divergence.type == "sampled_token"
    if sampled or isinstance(method, Suppress):
        raise ValueError(
            f"{'sampled_token' if sampled else 'suppress'} needs fresh samples of the student, and "
            "updates_per_batch learns from old ones; leave updates_per_batch out"
        )


PhaseMethod = Distill | Grpo | Srpo | Criterion | Suppress | Sum
"""What learns from the student's own samples."""


class Phase(Section):
    """A part of a schedule."""

    method: Annotated[PhaseMethod, Field(discriminator="type")]
    """How is learned in it."""
    steps: int | None = Field(default=None, ge=1)
    """Optimizer steps; None, for the last phase alone: until the run ends."""
    examples_per_step: int | None = Field(default=None, ge=1)
    """Examples of each step; None takes the run's."""
    completions_per_example: int | None = Field(default=None, ge=1)
    """Completions of each example; None takes the run's."""


class Schedule(Section):
    """Methods one after the other in one run, such as distillation and then reward."""

    type: Literal["schedule"] = "schedule"
    """Selects the schedule."""
    phases: list[Phase] = Field(min_length=2)
    """In their order. Optimizer, frozen weights and learning rate go on from one to the next."""

    @field_validator("phases")
    @classmethod
    def _end_one_after_the_other(cls, phases: list[Phase]) -> list[Phase]:
        if any(phase.steps is None for phase in phases[:-1]):
            raise ValueError("every phase but the last needs its steps")
        if phases[-1].steps is not None:
            raise ValueError("the last phase goes on until the run ends: leave its steps out")
        return phases


class Sft(Section):
    """Supervised fine-tuning on the examples' solutions; also the warm start of a distillation."""

    type: Literal["sft"] = "sft"
    """Selects supervised fine-tuning."""
    view: ViewName = "none"
    """What is shown beside the question whose solution is learned; ``rubric`` teaches a model to
    follow the rubric when it is shown."""
    habit_share: float = Field(default=0.0, ge=0, lt=1)
    """Share of each step's examples that are answered in the student's view by the frozen weights
    and learned as they are: what the model does without a rubric stays."""


AnyMethod = Annotated[
    Distill | Grpo | Srpo | Criterion | Suppress | Sum | Schedule | Sft, Field(discriminator="type")
]
"""What a run may learn by."""


def objectives(method: PhaseMethod | Schedule | Sft) -> Sequence[PhaseMethod | Sft]:
    """Objectives of a method: its phases' methods, its sums' terms, or itself."""
    match method:
        case Schedule():
            return [leaf for phase in method.phases for leaf in objectives(phase.method)]
        case Sum():
            return [term.method for term in method.terms]
        case _:
            return [method]


def distillations(method: PhaseMethod | Schedule | Sft) -> Sequence[Distill]:
    """All sections of distillation in a method: objectives, and the parts of srpo and criterion."""
    sections = [
        leaf.distill if isinstance(leaf, Srpo | Criterion) else leaf for leaf in objectives(method)
    ]
    return [section for section in sections if isinstance(section, Distill)]
