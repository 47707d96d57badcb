"""The teacher's and the student's probabilities on what the student sampled.

p is the teacher, q the student. Axes: T completion tokens of all rows, V vocabulary, K support.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from rcsd.batching import parts, scored
from rcsd.engines import Engine
from rcsd.methods.student import Student
from rcsd.models import Policy, evaluating
from rcsd.probe.results import TopKMass
from rcsd.teachers import Teacher
from rcsd.types import Decoding, Rollout


@dataclass(frozen=True)
class Pair:
    """Teacher and student: one model with two prompts, and perhaps two sets of weights.

    Args:
        policy: The model.
        scorer: Logits of completion tokens.
        engine: Samples from it.
        teacher: With which weights the teacher's part is played.
        temperature: Of both distributions: the loss's.
        tokens_per_part: Budget of one forward pass.
    """

    policy: Policy
    scorer: nn.Module
    engine: Engine
    teacher: Teacher
    temperature: float
    tokens_per_part: int

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
        sums: dict[int, list[float]] = {k: [0.0, 0.0] for k in sorted(set(ks))}
        for part in parts(rollouts, self.tokens_per_part):
            with evaluating(self.scorer):
                with self.teacher.weights():
                    p_TV = self._probabilities(part, [r.teacher_ids for r in part])
                q_TV = self._probabilities(part, [r.student_ids for r in part])
                size = p_TV.shape[-1]
                sums = {k: both for k, both in sums.items() if k < size}
                if not sums:
                    return ()
                p_TK, ids_TK = p_TV.topk(max(sums), dim=-1)
                for both, mass_TK in enumerate((p_TK, q_TV.gather(-1, ids_TK))):
                    total_K = mass_TK.double().cumsum(-1).sum(0)
                    for k in sums:
                        sums[k][both] += float(total_K[k - 1])
        return tuple(
            TopKMass(k, of_p / num_tokens, of_q / num_tokens) for k, (of_p, of_q) in sums.items()
        )

    @property
    def _scoring(self) -> Student:
        """Scores at the loss's temperature; it is asked for no samples."""
        decoding, budget = Decoding(1, self.temperature), self.tokens_per_part
        return Student(self.policy, self.scorer, self.engine, decoding, 1, budget, 0)

    def _probabilities(self, part: Sequence[Rollout], prompts: Sequence[tuple[int, ...]]) -> Tensor:
        completions = [rollout.completion.token_ids for rollout in part]
        rows = scored(prompts, completions, self.policy.pad_id, self.policy.device)
        return torch.softmax(self.scorer(rows) / self.temperature, dim=-1)
