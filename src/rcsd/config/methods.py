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


class ReverseKL(Section):
    """KL(q||p) = sum_v q_v (log q_v - log p_v), p the teacher."""

    type: Literal["reverse_kl"] = "reverse_kl"


class JSD(Section):
    """beta KL(p||m) + (1 - beta) KL(q||m), m = beta p + (1 - beta) q."""

    type: Literal["jsd"] = "jsd"
    beta: float = Field(default=0.5, gt=0, lt=1)
    """Weight of the teacher in the mixture."""


class SampledToken(Section):
    """Policy gradient on the sampled tokens with advantage log p(y_t) - log q(y_t).

    Takes neither support nor clip: only the sampled token's probabilities count.
    """

    type: Literal["sampled_token"] = "sampled_token"


class FullSupport(Section):
    """The whole vocabulary."""

    type: Literal["full"] = "full"


class TopK(Section):
    """The k likeliest tokens of teacher or student."""

    type: Literal["teacher_top_k", "student_top_k"] = "teacher_top_k"
    """Model whose likeliest tokens are taken."""
    k: int = Field(default=20, ge=1)
    """Number of tokens. Source: RCSD."""
    outside: Literal["renormalise", "tail"] = "renormalise"
    """Mass outside: dropped (the paper), or one more bucket (a lower bound of the divergence)."""

    @model_validator(mode="after")
    def _is_not_constant(self) -> "TopK":
        if self.k == 1 and self.outside == "renormalise":
            raise ValueError(
                "with one renormalised token the loss is always zero; take k of 2 or more, or "
                "outside: tail"
            )
        return self


class NoClip(Section):
    """No clipping."""

    type: Literal["none"] = "none"


class TokenClip(Section):
    """A position with divergence d above ``max_nats`` counts with weight max_nats / d."""

    type: Literal["token"] = "token"
    max_nats: float = Field(default=2.0, gt=0)
    """Largest divergence of a position, in nats."""


class EntryClip(Section):
    """Every vocabulary entry's term is clamped before the sum, as RCSD's released code does.

    Reverses gradients (docs/method.md): for faithful reproduction only.
    """

    type: Literal["entry"] = "entry"
    max_nats: float = Field(default=0.05, gt=0)
    """Largest term of an entry, in nats."""


class Distill(Section):
    """Move the student to the teacher, token by token, on the student's own completions."""

    type: Literal["distill"] = "distill"
    preset: PresetName | None = None
    """Choices that fill this section, ``views`` and ``sampling`` (`rcsd.config.presets`); None: the
    defaults, which are those of ``rcsd``."""
    divergence: Annotated[
        ForwardKL | ReverseKL | JSD | SampledToken, Field(discriminator="type")
    ] = ForwardKL()
    """The divergence."""
    support: Annotated[FullSupport | TopK, Field(discriminator="type")] = TopK()
    """The vocabulary entries that it compares."""
    clip: Annotated[NoClip | TokenClip | EntryClip, Field(discriminator="type")] = NoClip()
    """Limit on large disagreements."""
    temperature: float = Field(default=1.0, gt=0)
    """Temperature of both distributions in the loss, not of sampling."""

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
        defaults = {"clip": NoClip(), "support": TopK()}
        ignored = [key for key, default in defaults.items() if getattr(self, key) != default]
        if self.divergence.type == "sampled_token" and ignored:
            raise ValueError(f"sampled_token takes no {' and no '.join(ignored)}; leave it out")
        return self


class AnswerReward(Section):
    """1 for a final answer that is the reference's, 0 for another; needs no rubric.

    Unscored: another wording of a reference that is no number.
    """

    type: Literal["answer"] = "answer"
    weight: float = Field(default=1.0, gt=0)
    """Factor of this reward in the sum of all."""


class RubricReward(Section):
    """Score in [0, 1] by the example's own rubric; unscored where a verdict is missing."""

    type: Literal["rubric"] = "rubric"
    judge: Judge = CodeJudge()
    """Judge of the criteria: their checks in code, or a model."""
    weight: float = Field(default=1.0, gt=0)
    """Factor of this reward in the sum of all."""


Reward = Annotated[AnswerReward | RubricReward, Field(discriminator="type")]


class Grpo(Section):
    """Reinforcement from rewards; the mean of an example's completions is the baseline (GRPO)."""

    type: Literal["grpo"] = "grpo"
    rewards: list[Reward] = Field(min_length=1)
    """Rewards of a completion, which are added, each times its weight."""
    normalise_by_deviation: bool = True
    """True if advantages are divided by the deviation of their group (GRPO, arXiv 2402.03300);
    false is Dr. GRPO's (arXiv 2503.20783)."""
    reduction: Literal["token", "sequence", "constant"] = "token"
    """Mean over all tokens of the step (DAPO, arXiv 2503.14476), over the means of completions
    (GRPO), or sum over tokens / (completions times sampling.max_tokens) (Dr. GRPO)."""
    updates_per_batch: int = Field(default=1, ge=1)
    """Optimizer steps on the same completions; with 1 the clip has no effect. Source: TRL."""
    clip_low: float = Field(default=0.2, gt=0, lt=1)
    """Share by which a token's probability may fall below that at sampling before it has no
    gradient. Source: TRL."""
    clip_high: float = Field(default=0.2, gt=0)
    """Share by which it may rise. Source: TRL; DAPO takes 0.28."""
    kl_weight: float = Field(default=0.0, ge=0)
    """Factor of the estimated KL(q||p) in nats, p the frozen weights. GRPO takes 0.04; 0 is Dr.
    GRPO's, DAPO's and TRL's."""
    kl_by_ratio: bool = True
    """True if the estimate is multiplied by the ratio to the probability at sampling, for the KL's
    own gradient (DeepSeek-V3.2, arXiv 2512.02556; TRL's default); false is GRPO's."""

    @model_validator(mode="after")
    def _adds_different_rewards(self) -> "Grpo":
        kinds = [reward.type for reward in self.rewards]
        if len(set(kinds)) < len(kinds):
            raise ValueError("a reward stands there twice; give it a larger weight")
        return self


class Suppress(Section):
    """Teacher-free control: the least likely sampled tokens are made less likely still."""

    type: Literal["suppress"] = "suppress"
    share: float = Field(default=0.2, gt=0, le=1)
    """Share of the step's tokens, the least likely. Source: OPSA (arXiv 2608.31046)."""
    penalty: float = Field(default=1.0, gt=0)
    """Size of their negative advantage."""


class Srpo(Section):
    """Reward where a completion is right, distillation where it is wrong (SRPO)."""

    type: Literal["srpo"] = "srpo"
    reward: Grpo
    """Reinforcement of the right ones, and the rewards that right is measured by."""
    distill: Distill = Distill()
    """Distillation of the wrong ones."""
    right_share: float = Field(default=1.0, gt=0, le=1)
    """Share of the highest possible reward from which a completion is right."""
    entropy_weight: float = Field(default=1.0, ge=0)
    """beta of exp(-beta H), the weight of a position whose teacher has the entropy H in nats; 0
    weighs all alike. Ours: the paper (arXiv 2604.02288) gives no value."""


class Criterion(Section):
    """Distillation at those tokens alone that the failed criteria are about."""

    type: Literal["criterion"] = "criterion"
    distill: Distill = Distill()
    """The divergence at those tokens."""
    min_nats: float = Field(default=0.1, ge=0)
    """Least change of the teacher's log-probability of a sampled token, in nats, when the failed
    criteria are taken out of the rubric. Ours."""


class Term(Section):
    """One of several objectives that are added."""

    method: Annotated[Distill | Grpo | Criterion | Suppress, Field(discriminator="type")]
    """The objective."""
    weight: float = Field(default=1.0, gt=0)
    """Factor of its loss."""


class Sum(Section):
    """Several objectives on the same completions, such as distillation and reward."""

    type: Literal["sum"] = "sum"
    terms: list[Term] = Field(min_length=2)
    """Objectives that are added."""

    @field_validator("terms")
    @classmethod
    def _are_different(cls, terms: list[Term]) -> list[Term]:
        kinds = [term.method.type for term in terms]
        if len(set(kinds)) < len(kinds):
            raise ValueError("an objective stands there twice; give it a larger weight")
        return terms


PhaseMethod = Distill | Grpo | Srpo | Criterion | Suppress | Sum
"""Methods that learn from the student's own samples."""


class Phase(Section):
    """A part of a schedule."""

    method: Annotated[PhaseMethod, Field(discriminator="type")]
    """Method of the phase."""
    steps: int | None = Field(default=None, ge=1)
    """Optimizer steps; None for the last phase, which ends with the run."""
    examples_per_step: int | None = Field(default=None, ge=1)
    """Examples of each step; None: the run's."""
    completions_per_example: int | None = Field(default=None, ge=1)
    """Completions of each example; None: the run's."""


class Schedule(Section):
    """Methods one after the other in one run, such as distillation and then reward."""

    type: Literal["schedule"] = "schedule"
    phases: list[Phase] = Field(min_length=2)
    """Phases in order. Optimizer, frozen weights and learning rate go on from one to the next."""

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
    view: ViewName = "none"
    """Parts of the example shown beside the question; ``rubric`` teaches to follow rubrics."""
    habit_share: float = Field(default=0.0, ge=0, lt=1)
    """Share of each step's examples whose answer is the frozen weights' own in the student's view,
    so that what the model does without a rubric stays."""


AnyMethod = Annotated[
    Distill | Grpo | Srpo | Criterion | Suppress | Sum | Schedule | Sft, Field(discriminator="type")
]
"""Any method of a run."""


def objectives(method: PhaseMethod | Schedule | Sft) -> Sequence[PhaseMethod | Sft]:
    """Objectives of a method: its phases' methods, its sums' terms, or itself."""
    match method:
        case Schedule():
            return [leaf for phase in method.phases for leaf in objectives(phase.method)]
        case Sum():
            return [term.method for term in method.terms]
        case _:
            return [method]


def reinforcements(method: PhaseMethod | Schedule | Sft) -> Sequence[Grpo]:
    """All sections of reinforcement in a method: objectives, and the parts of srpo."""
    sections = [leaf.reward if isinstance(leaf, Srpo) else leaf for leaf in objectives(method)]
    return [section for section in sections if isinstance(section, Grpo)]


def distillations(method: PhaseMethod | Schedule | Sft) -> Sequence[Distill]:
    """All sections of distillation in a method: objectives, and the parts of srpo and criterion."""
    sections = [
        leaf.distill if isinstance(leaf, Srpo | Criterion) else leaf for leaf in objectives(method)
    ]
    return [section for section in sections if isinstance(section, Distill)]
