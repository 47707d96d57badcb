"""From the configuration's method to the objects that carry it out."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import accumulate

from torch import nn

from rcsd import config
from rcsd.data.prompts import TeacherPrompts, build_decoding
from rcsd.distributed import Ranks
from rcsd.engines.base import PolicyEngine
from rcsd.engines.scoring import scorer_of
from rcsd.errors import ConfigError
from rcsd.graders.code import CodeJudge
from rcsd.graders.rewards import rewards_of
from rcsd.methods.base import Method
from rcsd.methods.criterion import Criterion, refuse_undecidable
from rcsd.methods.distill import Distill, check_support
from rcsd.methods.grpo import Grpo
from rcsd.methods.on_policy import Objective, OnPolicy
from rcsd.methods.rollouts import Student
from rcsd.methods.sft import Sft
from rcsd.methods.srpo import Srpo
from rcsd.methods.staleness import freshness_of
from rcsd.methods.suppress import Suppress
from rcsd.models.memory import Limit
from rcsd.models.policy import Policy
from rcsd.models.teacher import Teacher
from rcsd.types import Example

MethodAt = Callable[[int], Method]
"""The method of a step, counted from 0."""


@dataclass(frozen=True)
class Parts:
    """What methods are made of.

    Args:
        examples: What is trained on; rewards and judges are tried on them.
        policy: The model.
        scorer: Predicts completion tokens.
        teacher: With which weights the teacher's part is played.
        engine: Samples.
        max_tokens_per_microbatch: Budget of one forward pass.
        ranks: Processes that share the work.
    """

    examples: Sequence[Example]
    policy: Policy
    scorer: nn.Module
    teacher: Teacher
    engine: PolicyEngine
    max_tokens_per_microbatch: Limit
    ranks: Ranks = Ranks()  # noqa: RUF009 (one process alone)


def method_at(settings: config.Config, parts: Parts) -> MethodAt:
    """The methods of a run, by step.

    Raises:
        UserError: If the data or the model lacks what a method needs.
    """
    student = _student(settings, parts)
    if isinstance(settings.method, config.Sft):
        sft = Sft(settings.method, settings.views.writes, student, parts.teacher)
        return lambda step: sft
    made: list[Method] = []
    for phase in settings.phases:
        num = phase.completions_per_example or settings.completions_per_example
        made.append(
            _on_policy(phase.method, settings, parts, replace(student, num_completions=num))
        )
    ends = list(accumulate(phase.steps or 0 for phase in settings.phases[:-1]))
    return lambda step: made[sum(step >= end for end in ends)]


def _student(settings: config.Config, parts: Parts) -> Student:
    return Student(
        parts.policy,
        parts.scorer,
        parts.engine,
        build_decoding(settings.sampling),
        settings.completions_per_example,
        parts.max_tokens_per_microbatch,
        settings.seed,
        parts.ranks,
    )


def _on_policy(
    section: config.PhaseMethod, settings: config.Config, parts: Parts, student: Student
) -> OnPolicy:
    terms = [(1.0, section)]
    if isinstance(section, config.Sum):
        terms = [(term.weight, term.method) for term in section.terms]
    return OnPolicy(
        student,
        [(weight, _objective(method, settings, parts, student)) for weight, method in terms],
        freshness_of(settings.engine, settings.overlap),
    )


def _objective(
    section: config.PhaseMethod, settings: config.Config, parts: Parts, student: Student
) -> Objective:
    distill = partial(_distill, settings, parts, student)
    match section:
        case config.Distill():
            return distill(section)
        case config.Grpo():
            rewards = rewards_of(section.rewards, parts.examples)
            return Grpo(section, student, parts.teacher, rewards)
        case config.Srpo():
            rewards = rewards_of(section.reward.rewards, parts.examples)
            reward = Grpo(section.reward, student, parts.teacher, rewards)
            return Srpo(section, reward, distill(section.distill))
        case config.Criterion():
            judge = CodeJudge()
            refuse_undecidable(parts.examples, judge)
            prompts = TeacherPrompts(settings.views, parts.policy.tokenizer)
            return Criterion(section, distill(section.distill), judge, prompts)
        case config.Suppress():
            return Suppress(section, student)
    raise AssertionError(f"no objective: {section}")


def _distill(
    settings: config.Config, parts: Parts, student: Student, section: config.Distill
) -> Distill:
    check_support(section, parts.policy)
    teacher = settings.teacher
    if not isinstance(teacher, config.FrozenTeacher) or teacher.scored_by == "trainer":
        return Distill(section, student, parts.teacher)
    if not parts.policy.has_adapters:
        raise ConfigError(
            "teacher.scored_by: engine scores by the engine's base, which full fine-tuning "
            "replaces; take model.training {type: lora}, or scored_by: trainer"
        )
    return Distill(section, student, parts.teacher, scorer_of(parts.engine))
