"""The student's part of every method that learns from its samples: drawing and scoring them.

Axes: T completion tokens of all rows, V vocabulary.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from rcsd.batching import parts, scored
from rcsd.engines import Engine, sampling_seed
from rcsd.models import Policy, evaluating
from rcsd.prompting import Prompted
from rcsd.types import Decoding, Rollout


@dataclass(frozen=True)
class Student:
    """Samples completions in the student's view, and scores tokens in either view.

    Args:
        policy: Tokens of padding and end.
        scorer: Logits of completion tokens, under the weights that the policy has at the moment.
        engine: Samples.
        decoding: How completions are drawn; its temperature is that of all probabilities here.
        num_completions: Completions of each example.
        tokens_per_part: Budget of one forward pass.
        seed: Of the run.
    """

    policy: Policy
    scorer: nn.Module
    engine: Engine
    decoding: Decoding
    num_completions: int
    tokens_per_part: int
    seed: int

    @property
    def temperature(self) -> float:
        """Of sampling; 1 where it is greedy."""
        return self.decoding.temperature or 1.0

    def rollouts(self, prompts: Sequence[Prompted], step: int) -> list[Rollout]:
        """Completions of all prompts; those of one prompt stand together."""
        asked = [prompt for prompt in prompts for _ in range(self.num_completions)]
        completions = self.engine.sample(
            [prompt.student_ids for prompt in asked], self.decoding, sampling_seed(self.seed, step)
        )
        return [
            Rollout(prompt.example, prompt.student_ids, prompt.teacher_ids, completion)
            for prompt, completion in zip(asked, completions, strict=True)
        ]

    def logits(
        self, prompts: Sequence[Sequence[int]], part: Sequence[Rollout]
    ) -> tuple[Float[Tensor, "T V"], Int[Tensor, " T"]]:
        """Logits at each completion position after these prompts, and the sampled tokens."""
        completions = [rollout.completion.token_ids for rollout in part]
        rows = scored(prompts, completions, self.policy.pad_id, self.policy.device)
        return self.scorer(rows), rows.target_T

    def sampled_log_q(
        self,
        rollouts: Sequence[Rollout],
        prompts: Sequence[Sequence[int]] | None = None,
    ) -> list[tuple[float, ...]]:
        """Log-probabilities of the sampled tokens of each completion, in nats, without gradient.

        Under the policy's present weights, so inside ``teacher.weights()`` under the teacher's.

        Args:
            rollouts: The completions.
            prompts: After which prompt each is scored; None takes the student's.
        """
        shown = {id(r): r.student_ids for r in rollouts}
        if prompts is not None:
            shown = {id(r): tuple(ids) for r, ids in zip(rollouts, prompts, strict=True)}
        found: dict[int, tuple[float, ...]] = {}
        for part in parts(rollouts, self.tokens_per_part):
            with evaluating(self.scorer):
                logits_TV, target_T = self.logits([shown[id(r)] for r in part], part)
                log_q_T = gathered((logits_TV / self.temperature).log_softmax(-1), target_T)
            lengths = [len(rollout.completion.token_ids) for rollout in part]
            for rollout, log_q in zip(part, log_q_T.split(lengths), strict=True):
                found[id(rollout)] = tuple(log_q.tolist())
        return [found[id(rollout)] for rollout in rollouts]

    def per_token(self, values: Sequence[Sequence[float]]) -> Float[Tensor, " T"]:
        """Values of the tokens of each completion, one after the other, as `scored` has them."""
        flat = [value for row in values for value in row]
        return torch.tensor(flat, dtype=torch.float32, device=self.policy.device)


def gathered(log_q_TV: Float[Tensor, "T V"], target_T: Int[Tensor, " T"]) -> Float[Tensor, " T"]:
    """Log-probabilities of the sampled tokens."""
    return log_q_TV.gather(-1, target_T[:, None])[:, 0]
