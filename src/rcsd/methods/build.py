"""Training methods from the configuration."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import accumulate
from typing import TYPE_CHECKING

from torch import nn

from rcsd import config
from rcsd.data.prompts import build_decoding
from rcsd.distributed import Ranks
from rcsd.engines.base import PolicyEngine
from rcsd.methods.base import Method
from rcsd.methods.distill import Distill, check_support
from rcsd.methods.on_policy import Objective, OnPolicy
from rcsd.methods.rollouts import RolloutWorker
from rcsd.methods.sft import Sft
from rcsd.methods.staleness import build_freshness
from rcsd.methods.suppress import Suppress
from rcsd.models.memory import AdaptiveLimit
from rcsd.models.policy import Policy
from rcsd.models.teacher import Teacher
from rcsd.types import Example

if TYPE_CHECKING:
    from rcsd.methods.grpo import Grpo

MethodAt = Callable[[int], Method]
"""The method of a step, counted from 0."""


@dataclass(frozen=True)
class MethodParts:
    """The objects that methods share.

    Args:
        examples: Training examples; rewards and judges are tried on them.
        max_tokens_per_microbatch: Budget of one forward pass.
    """

    examples: Sequence[Example]
    policy: Policy
    scorer: nn.Module
    teacher: Teacher
    engine: PolicyEngine
    max_tokens_per_microbatch: AdaptiveLimit
    ranks: Ranks = Ranks()  # noqa: RUF009 (one process alone)


def build_methods(settings: config.Config, parts: MethodParts) -> MethodAt:
    """The methods of a run, by step.

    Raises UserError if the data or the model lacks what a method needs.
    """
    worker = RolloutWorker(
        parts.policy,
        parts.scorer,
        parts.engine,
        build_decoding(settings.sampling),
        settings.completions_per_example,
        parts.max_tokens_per_microbatch,
        settings.seed,
        parts.ranks,
    )
    if isinstance(settings.method, config.Sft):
        sft = Sft(settings.method, settings.views, worker, parts.teacher)
        return lambda step: sft
    freshness = build_freshness(settings.engine, settings.overlap)
    methods: list[Method] = []
    for phase in settings.phases:
        num = phase.completions_per_example or settings.completions_per_example
        builder = _Builder(settings, parts, replace(worker, num_completions=num))
        sections = [(1.0, phase.method)]
        if isinstance(phase.method, config.Sum):
            sections = [(term.weight, term.method) for term in phase.method.terms]
        objectives = [(weight, builder.objective(section)) for weight, section in sections]
        methods.append(OnPolicy(builder.worker, objectives, freshness))
    ends = list(accumulate(phase.steps or 0 for phase in settings.phases[:-1]))
    return lambda step: methods[sum(step >= end for end in ends)]


@dataclass(frozen=True)
class _Builder:
    """Builds the objectives of one phase."""

    settings: config.Config
    parts: MethodParts
    worker: RolloutWorker

    # Objectives with graders are imported where a run has them: other runs do without judges and
    # checks.

    def objective(self, section: config.PhaseMethod) -> Objective:
        match section:
            case config.Distill():
                return self._distill(section)
            case config.Grpo():
                return self._grpo(section)
            case config.Srpo():
                from rcsd.methods.srpo import Srpo  # noqa: PLC0415

                return Srpo(section, self._grpo(section.reward), self._distill(section.distill))
            case config.Criterion():
                from rcsd.graders.code import CodeJudge  # noqa: PLC0415
                from rcsd.methods.criterion import Criterion, refuse_undecidable  # noqa: PLC0415

                judge = CodeJudge()
                refuse_undecidable(self.parts.examples, judge)
                distill = self._distill(section.distill)
                return Criterion(section, distill, judge, self.settings.views)
            case config.Suppress():
                return Suppress(section, self.worker)
        raise AssertionError(f"no objective: {section}")

    def _grpo(self, section: config.Grpo) -> "Grpo":
        from rcsd.graders.rewards import build_rewards  # noqa: PLC0415
        from rcsd.methods.grpo import Grpo  # noqa: PLC0415

        rewards = build_rewards(section.rewards, self.parts.examples)
        return Grpo(section, self.worker, self.parts.teacher, rewards)

    def _distill(self, section: config.Distill) -> Distill:
        check_support(section, self.parts.policy)
        return Distill(section, self.worker, self.parts.teacher)
