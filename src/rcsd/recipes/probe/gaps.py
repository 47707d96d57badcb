"""The teacher's and the student's probabilities on what the student sampled.

p is the teacher, q the student. Axes: T completion tokens of all rows, V vocabulary, K support.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial

import torch
from torch import Tensor, nn

from rcsd.engines.base import PolicyEngine
from rcsd.methods.rollouts import Student
from rcsd.models.memory import Limit
from rcsd.models.packing import split_microbatches
from rcsd.models.policy import Policy, evaluating
from rcsd.models.teacher import Teacher
from rcsd.recipes.probe.results import TopKMass
from rcsd.types import Decoding, Rollout


@dataclass(frozen=True)
class Pair:
    """Teacher and student: one model with two prompts, and perhaps two sets of weights.

    Args:
        policy: The model.
        scorer: Predicts completion tokens.
        engine: Samples from it.
        teacher: With which weights the teacher's part is played.
        temperature: Of both distributions: the loss's.
        max_tokens_per_microbatch: Budget of one forward pass.
    """

    policy: Policy
    scorer: nn.Module
    engine: PolicyEngine
    teacher: Teacher
    temperature: float
    max_tokens_per_microbatch: Limit

    def student_log_q(self, rollouts: Sequence[Rollout]) -> list[tuple[float, ...]]:
        """Log-probabilities of each completion's tokens for the student, in nats."""
        return self._scoring.sampled_log_q(rollouts)

    def teacher_log_p(self, rollouts: Sequence[Rollout]) -> list[tuple[float, ...]]:
        """The same for the teacher."""
        with self.teacher.weights():
            shown = [replace(rollout, student_ids=rollout.teacher_ids) for rollout in rollouts]
            return self._scoring.sampled_log_q(shown)

    def top_k_mass(self, rollouts: Sequence[Rollout], ks: Sequence[int]) -> tuple[TopKMass, ...]:
        """Mass on the teacher's top k, for each k that the vocabulary holds more than.

        Args:
            rollouts: Completions of the student.
            ks: In any order.
        """
        num_tokens = sum(len(rollout.completion.token_ids) for rollout in rollouts)
        sums = {k: [0.0, 0.0] for k in sorted(set(ks)) if k < self.policy.vocab_size}
        for microbatch in split_microbatches(
            rollouts, self.max_tokens_per_microbatch.value, self.policy.packs
        ):
            with evaluating(self.scorer):
                with self.teacher.weights():
                    teacher, _ = self._scoring.predictions(
                        [r.teacher_ids for r in microbatch], microbatch
                    )
                student, _ = self._scoring.predictions(
                    [r.student_ids for r in microbatch], microbatch
                )
            if not sums:
                return ()
            masses = student.mapped(partial(self._masses, max(sums)), teacher)
            for both, mass_TK in enumerate(masses):
                total_K = mass_TK.double().cumsum(-1).sum(0)
                for k in sums:
                    sums[k][both] += float(total_K[k - 1])
        return tuple(
            TopKMass(k, of_p / num_tokens, of_q / num_tokens) for k, (of_p, of_q) in sums.items()
        )

    @property
    def _scoring(self) -> Student:
        """Scores at the loss's temperature; it is asked for no samples."""
        decoding, budget = Decoding(1, self.temperature), self.max_tokens_per_microbatch
        return Student(self.policy, self.scorer, self.engine, decoding, 1, budget, 0)

    def _masses(self, k: int, q_TV: Tensor, p_TV: Tensor) -> tuple[Tensor, Tensor]:
        """Probabilities of both, from logits, on the teacher's top k."""
        p_TK, ids_TK = torch.softmax(p_TV / self.temperature, dim=-1).topk(k, dim=-1)
        return p_TK, torch.softmax(q_TV / self.temperature, dim=-1).gather(-1, ids_TK)
