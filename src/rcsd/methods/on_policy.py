"""Learning from the student's own samples: one batch, one forward pass, any sum of objectives.

Axes: T completion tokens of all rows, V vocabulary.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol, runtime_checkable

import torch
from jaxtyping import Float, Int
from torch import Tensor

from rcsd.divergences import entropy, token_mean
from rcsd.methods import Batch, completion_metrics
from rcsd.methods.student import Student
from rcsd.prompting import Prompted
from rcsd.types import Rollout, Signal


@dataclass(frozen=True)
class Known:
    """What an objective knows of a step's completions before any loss.

    Args:
        signals: One for each rollout.
        metrics: By name.
        num_updates: How many times the optimizer is to learn from them.
    """

    signals: Sequence[Signal]
    metrics: Mapping[str, float]
    num_updates: int = 1


@runtime_checkable
class Objective(Protocol):
    """What is wanted of completions that the student sampled: a loss for each of their tokens."""

    name: str
    """Its ``type`` in the configuration."""
    has_teacher: bool
    """Whether it scores completions in the teacher's view."""

    def known(self, rollouts: Sequence[Rollout]) -> Known:
        """What must be known of the whole step: rewards, advantages, masks."""
        ...

    def targets(self, part: Sequence[Rollout], signals: Sequence[Signal]) -> Any:
        """What the teacher says of a part; asked before the student's graph exists."""
        ...

    def terms(
        self,
        signals: Sequence[Signal],
        targets: Any,
        logits_TV: Float[Tensor, "T V"],
        target_T: Int[Tensor, " T"],
    ) -> tuple[Float[Tensor, " T"], dict[str, Float[Tensor, " T"]]]:
        """Loss of each position, not reduced, and what is shown of it.

        Args:
            signals: Of the part's rollouts.
            targets: As `targets` gave them.
            logits_TV: The student's, at temperature 1.
            target_T: The sampled tokens.
        """
        ...


class OnPolicy:
    """A sum of objectives on completions that the student samples.

    ``L = E_{y ~ q(.|x)} 1/T sum_t sum_i w_i l_i(t)``: one mean over all T tokens of the step, one
    forward pass of the student for all objectives. Teachers speak first, so that their logits are
    gone before the student's graph is made.

    Args:
        student: Samples and scores.
        objectives: With their weights; of different names.
    """

    def __init__(self, student: Student, objectives: Sequence[tuple[float, Objective]]) -> None:
        self.student, self.objectives = student, objectives
        self._has_teacher = any(objective.has_teacher for _, objective in objectives)

    def collect(self, prompts: Sequence[Prompted], step: int) -> Batch:
        """The student answers every question; each objective says what it knows of the answers."""
        rollouts = self.student.rollouts(prompts, step)
        if not self._has_teacher:
            rollouts = [replace(rollout, teacher_ids=rollout.student_ids) for rollout in rollouts]
        known = [objective.known(rollouts) for _, objective in self.objectives]
        marked = [
            replace(rollout, signals=signals)
            for rollout, signals in zip(
                rollouts, zip(*(k.signals for k in known), strict=True), strict=True
            )
        ]
        metrics = completion_metrics(rollouts)
        for found in known:
            metrics |= found.metrics
        return Batch(marked, metrics, max(found.num_updates for found in known))

    def loss(self, part: Sequence[Rollout], num_tokens: int) -> tuple[Tensor, Mapping[str, Tensor]]:
        """The weighted sum of all objectives' losses.

        Where two objectives show a metric of the same name, the later one's is called
        ``part-OBJECTIVE/name``.
        """
        columns = [[r.signals[n] for r in part] for n in range(len(self.objectives))]
        targets = [
            objective.targets(part, signals)
            for (_, objective), signals in zip(self.objectives, columns, strict=True)
        ]
        logits_TV, target_T = self.student.logits([r.student_ids for r in part], part)
        with torch.no_grad():
            log_q_TV = (logits_TV / self.student.temperature).log_softmax(-1)
            end_T = log_q_TV[:, self.student.policy.turn_end_id].exp()
            shown = {"student/entropy_nats_mean": entropy(log_q_TV)}
            shown["student/end_probability_mean"] = end_T
            del log_q_TV
        losses = []
        for (weight, objective), signals, said in zip(
            self.objectives, columns, targets, strict=True
        ):
            loss_T, found = objective.terms(signals, said, logits_TV, target_T)
            losses.append(weight * token_mean(loss_T, num_tokens))
            # Two objectives may show the same thing of different divergences.
            shown |= {
                name.replace("/", f"-{objective.name}/", 1) if name in shown else name: value_T
                for name, value_T in found.items()
            }
        loss = torch.stack(losses).sum()
        shares = {name: value_T.detach().sum() / num_tokens for name, value_T in shown.items()}
        if len(losses) > 1:
            shares = {"loss/total_mean": loss.detach(), **shares}
        return loss, shares
